"""Retrieve by cosine, rerank by the logit alone, and measure both."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ir_measures
import numpy as np
import torch
from ir_measures import AP, RR, nDCG
from rich.progress import track
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.beir import Collection
from training.console import console
from training.mine import Encode
from training.pairs import encode_pairs
from training.seeds import half_of, seeded

MEASURES = {"map": AP, "mrr@10": RR @ 10, "ndcg@10": nDCG @ 10}
Run = dict[str, dict[str, float]]

_BATCH, _THREADS = 32, 2


@dataclass(frozen=True, slots=True)
class DevSet:
    """A collection's queries and the texts that the retriever found for each."""

    name: str
    queries: dict[str, str]
    texts: dict[str, str]
    retrieved: Run
    qrels: dict[str, dict[str, int]]


def retrieve(collection: Collection, encode: Encode, top_k: int) -> DevSet:
    """The `top_k` documents by cosine for each query of `collection`."""
    docs = encode(collection.texts, f"{collection.name}: passages")
    names = list(collection.queries)
    vectors = encode([collection.queries[n] for n in names], f"{collection.name}: queries")
    run: Run = {}
    for name, vector in zip(names, vectors, strict=True):
        similarity = docs @ vector
        best = np.argsort(-similarity, kind="stable")[:top_k]
        run[name] = {collection.doc_ids[i]: float(similarity[i]) for i in best}
    used = {d for ranked in run.values() for d in ranked}
    texts = {d: t for d, t in zip(collection.doc_ids, collection.texts, strict=True) if d in used}
    qrels = {n: collection.qrels[n] for n in names}
    return DevSet(collection.name, collection.queries, texts, run, qrels)


def _best(ranked: dict[str, float], depth: int) -> dict[str, float]:
    return dict(sorted(ranked.items(), key=lambda item: -item[1])[:depth])


def sample(dev: DevSet, n: int, depth: int, seed: int, *, half: bool = False) -> DevSet:
    """At most `n` queries of `dev`, or of one `half`, each with its best `depth` documents."""
    names = sorted(half_of(dev.queries, second=False) if half else dev.queries)
    kept = seeded(seed).sample(names, min(n, len(names)))
    return DevSet(
        dev.name,
        {k: dev.queries[k] for k in kept},
        dev.texts,
        {k: _best(dev.retrieved[k], depth) for k in kept},
        {k: dev.qrels[k] for k in kept},
    )


def score_pairs(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    max_length: int,
    bf16: bool = False,
) -> list[float]:
    """The raw logit of each (query, document), in the order given.

    Batches run side by side, with one-thread operators, see `training.train.train_steps`.
    """
    torch.set_num_threads(1)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    cuts = [order[i : i + _BATCH] for i in range(0, len(order), _BATCH)]

    def logits(rows: list[int]) -> list[float]:
        batch = encode_pairs(
            tokenizer, [pairs[i][0] for i in rows], [pairs[i][1] for i in rows], max_length
        )
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found: list[float] = model(**batch).logits[:, 0].float().tolist()
        return found

    scores = [0.0] * len(pairs)
    with ThreadPoolExecutor(_THREADS) as workers:
        results = track(
            workers.map(logits, cuts),
            description="scoring",
            total=len(cuts),
            console=console,
            transient=True,
        )
        for rows, found in zip(cuts, results, strict=True):
            for i, score in zip(rows, found, strict=True):
                scores[i] = score
    return scores


def rerank(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    dev: DevSet,
    max_length: int,
    bf16: bool = False,
) -> Run:
    """The retrieved documents with the model's logit as their score."""
    keys = [(q, d) for q, ranked in dev.retrieved.items() for d in ranked]
    pairs = [(dev.queries[q], dev.texts[d]) for q, d in keys]
    run: Run = {}
    scores = score_pairs(model, tokenizer, pairs, max_length, bf16)
    for (q, d), score in zip(keys, scores, strict=True):
        run.setdefault(q, {})[d] = score
    return run


def measure(dev: DevSet, run: Run) -> dict[str, float]:
    """MAP, MRR@10 and NDCG@10, means over queries."""
    found = ir_measures.calc_aggregate(list(MEASURES.values()), dev.qrels, run)
    return {name: round(float(found[m]), 4) for name, m in MEASURES.items()}


def compare(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dev: DevSet, max_length: int
) -> dict[str, dict[str, float]]:
    """The retriever alone and after reranking, in full precision."""
    return {
        "retriever": measure(dev, dev.retrieved),
        "reranked": measure(dev, rerank(model, tokenizer, dev, max_length)),
    }
