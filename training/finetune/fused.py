"""How much the retrieval score counts beside the new logits, learnt on the dev split."""

from collections.abc import Sequence
from statistics import fmean

from engine.pairs import PairEncoder
from schemas.manifests import Fusion, IndexManifest
from training.console import console
from training.errors import TrainingError
from training.finetune.encoder import EngineCrossEncoder, encode
from training.finetune.labels import LabelledQuery, rights
from training.fuse import Pair, Scored, learn


def learn_fusion(
    model: EngineCrossEncoder, dev: Sequence[LabelledQuery], index: IndexManifest
) -> Fusion | None:
    """Return the fusion; None where it can't be learnt, and lists are sorted by the logit alone."""
    known = [
        query
        for query in dev
        if all(document.retrieval_score is not None for document in query.documents)
    ]
    if not known:
        console.print("no fusion: the dev labels have no retrieval scores", soft_wrap=True)
        return None
    try:
        chars = full_chars(model.pairs, known)
        return learn([_scored(model, known)], index.embedder.source.digest, chars, must=False)
    except TrainingError as error:
        console.print(f"no fusion: {error}", soft_wrap=True)
        return None


def full_chars(encoder: PairEncoder, queries: Sequence[LabelledQuery]) -> int | None:
    """Return how many characters of a document fit beside a query; None where nothing was cut.

    Of longer documents the model reads only a part, so the retriever may know more of them.
    """
    pairs = [(query.query, each.text) for query in queries for each in query.documents]
    encoded = encode(encoder, pairs)
    if not any(pair.truncated for pair in encoded):
        return None
    template = encoder.template
    room = fmean(
        template.max_tokens - len(template.suffix) - pair.document_start for pair in encoded
    )
    # So few characters are never more tokens than the tokenizer gives.
    beginnings = [text[: template.max_tokens] for _, text in pairs]
    tokens = sum(
        len(one.ids)
        for one in encoder.tokenizer.encode_batch_fast(beginnings, add_special_tokens=False)
    )
    return max(1, round(room * sum(map(len, beginnings)) / max(1, tokens)))


def _scored(model: EngineCrossEncoder, queries: Sequence[LabelledQuery]) -> Scored:
    candidates = {}
    for query in queries:
        logits = model.logits([(query.query, each.text) for each in query.documents])
        candidates[query.query_id] = [
            Pair(each.doc_id, each.retrieval_score or 0.0, logit, each.text)
            for each, logit in zip(query.documents, logits, strict=True)
        ]
    judgements = {query.query_id: rights(query) for query in queries}
    return Scored("labels, split dev", judgements, candidates)
