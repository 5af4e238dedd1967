"""How much the retrieval score counts beside the new logits, learnt on the dev split."""

from collections.abc import Sequence

from schemas.manifests import Fusion, IndexManifest
from training.console import console
from training.errors import TrainingError
from training.finetune.encoder import EngineCrossEncoder
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
        return learn([_scored(model, known)], index.embedder.source.digest)
    except TrainingError as error:
        console.print(f"no fusion: {error}", soft_wrap=True)
        return None


def _scored(model: EngineCrossEncoder, queries: Sequence[LabelledQuery]) -> Scored:
    candidates = {}
    for query in queries:
        logits = model.logits([(query.query, each.text) for each in query.documents])
        candidates[query.query_id] = [
            Pair(each.doc_id, each.retrieval_score or 0.0, logit)
            for each, logit in zip(query.documents, logits, strict=True)
        ]
    judgements = {query.query_id: rights(query) for query in queries}
    return Scored("labels, split dev", judgements, candidates)
