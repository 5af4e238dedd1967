"""Rankings and judgements to figures, by ir-measures, which asks trec_eval and MS MARCO's script.

As in trec_eval, every judged query counts; one without a relevant document counts as 0.
"""

from collections.abc import Mapping, Sequence

import ir_measures
from ir_measures import AP, RR, R, nDCG

MEASURES = {"NDCG@10": nDCG @ 10, "MRR@10": RR @ 10, "MAP": AP, "Recall@100": R @ 100}

Judgements = Mapping[str, Mapping[str, int]]
Rankings = Mapping[str, Sequence[str]]


def measure(judgements: Judgements, rankings: Rankings) -> dict[str, float]:
    """Return the mean of each of `MEASURES` over all queries of `judgements`.

    `judgements` maps query id → document id → grade, where 0 or less is wrong; `rankings` maps
    query id → document ids, best first. A query without a ranking counts as 0.
    """
    qrels = [
        ir_measures.Qrel(query_id, doc_id, grade)
        for query_id, grades in judgements.items()
        for doc_id, grade in grades.items()
    ]
    values = ir_measures.calc_aggregate(list(MEASURES.values()), qrels, _run(rankings))
    return {name: float(values[key]) for name, key in MEASURES.items()}


def ndcg_of_many(judgements: Judgements, rankings: Sequence[Rankings]) -> list[float]:
    """Return the mean NDCG@10 of each of many rankings by the same judgements, as `measure`."""
    qrels = [
        ir_measures.Qrel(query_id, doc_id, grade)
        for query_id, grades in judgements.items()
        for doc_id, grade in grades.items()
    ]
    evaluator = ir_measures.evaluator([nDCG @ 10], qrels)
    return [float(evaluator.calc_aggregate(_run(one))[nDCG @ 10]) for one in rankings]


def _run(rankings: Rankings) -> list[ir_measures.ScoredDoc]:
    # The place stands for the score: trec_eval sorts by score itself, as 32-bit numbers and ties
    # by id, which would be another order than the one to be judged.
    return [
        ir_measures.ScoredDoc(query_id, doc_id, float(-place))
        for query_id, ranking in rankings.items()
        for place, doc_id in enumerate(ranking)
    ]
