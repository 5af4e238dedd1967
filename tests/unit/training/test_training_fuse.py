"""Learning how much the retrieval score counts beside the logit."""

import json
from pathlib import Path
from random import Random

import pytest

from export.errors import CheckpointError
from export.fusion import FUSION_FILE, read_fusion
from schemas.manifests import Fusion
from training.errors import TrainingError
from training.fuse import Pair, Scored, learn, report
from worker.rank import sigmoid

EMBEDDER = "sha256:" + "ee" * 32


def scored(name: str, retriever: float, model: float, queries: int = 30) -> Scored:
    """Queries with 3 of 20 relevant; how far each score lifts the relevant, in its own spread."""
    rng = Random(name)
    judgements, candidates = {}, {}
    for number in range(queries):
        query = f"{name}{number}"
        relevant = rng.sample(range(20), 3)
        judgements[query] = {f"d{n}": 1 for n in relevant}
        pairs = [
            Pair(
                f"d{n}",
                0.3 + 0.05 * (retriever * (n in relevant) + rng.gauss(0, 1)),
                -2 + 2.0 * (model * (n in relevant) + rng.gauss(0, 1)),
            )
            for n in range(20)
        ]
        candidates[query] = sorted(pairs, key=lambda pair: -pair.retrieval_score)
    return Scored(name, judgements, candidates)


def test_two_opinions_are_better_than_either() -> None:
    fusion = learn([scored("a", 1.5, 1.5), scored("b", 1.5, 1.5)], EMBEDDER)
    held_out = report(scored("c", 1.5, 1.5, queries=60), fusion)
    for alone in ("retriever", "logit_alone"):
        assert held_out["fused"]["NDCG@10"] > held_out[alone]["NDCG@10"] + 0.03
    # Both say as much in their own spread, 0.05 and 2, so the best weight is about 40.
    assert 15 < fusion.retrieval_weight / fusion.logit_scale < 110
    assert fusion.learnt_on == ("a", "b")


def test_a_model_that_is_worse_than_the_retriever_does_no_harm() -> None:
    dev = [scored("good", 0.7, 2.0), scored("bad", 2.0, 0.0)]
    fusion = learn(dev, EMBEDDER)
    figures = [report(one, fusion) for one in dev]
    assert figures[0]["fused"]["NDCG@10"] > figures[0]["retriever"]["NDCG@10"]
    assert figures[1]["fused"]["NDCG@10"] >= figures[1]["retriever"]["NDCG@10"] - 0.05
    assert figures[1]["logit_alone"]["NDCG@10"] < figures[1]["retriever"]["NDCG@10"]


def test_the_sum_is_the_log_odds_of_being_relevant() -> None:
    dev = [scored("a", 1.5, 1.5, 200)]
    fusion = learn(dev, EMBEDDER)
    chances, relevant = [], 0
    for query, pairs in dev[0].candidates.items():
        relevant += len(dev[0].judgements[query])
        chances += [
            sigmoid(
                fusion.logit_scale * pair.logit
                + fusion.retrieval_weight * pair.retrieval_score
                + fusion.bias
            )
            for pair in pairs
        ]
    assert sum(chances) == pytest.approx(relevant, rel=0.01)


def long_and_short(long_says: float) -> Scored:
    """Queries half of whose documents are long; of those the model knows so much, of short all."""
    rng = Random(f"long {long_says}")
    judgements, candidates = {}, {}
    for number in range(40):
        judgements[f"q{number}"] = {"d0": 1, "d1": 1}
        candidates[f"q{number}"] = [
            Pair(
                f"d{n}",
                0.3 + 0.05 * (1.5 * (n < 2) + rng.gauss(0, 1)),
                2.0 * ((1.5, long_says)[n % 2] * (n < 2) + rng.gauss(0, (1, 3)[n % 2])),
                "x" * (100, 1000)[n % 2],
            )
            for n in range(20)
        ]
    return Scored("long", judgements, candidates)


def test_long_documents_count_for_less_where_the_model_knows_less_of_them() -> None:
    dev = [long_and_short(0.0)]
    fusion = learn(dev, EMBEDDER, 200, must=False)
    alike = learn(dev, EMBEDDER)

    assert (fusion.full_chars, alike.full_chars) == (200, None)
    fused = report(dev[0], fusion)["fused"]["NDCG@10"]
    assert fused > report(dev[0], alike)["fused"]["NDCG@10"]


def test_they_count_alike_where_no_document_is_long() -> None:
    dev = [scored("a", 1.5, 1.5)]

    assert learn(dev, EMBEDDER, 200, must=False).full_chars is None
    assert learn(dev, EMBEDDER, 200).full_chars == 200


def test_a_model_that_says_nothing_right_is_refused() -> None:
    upside_down = Scored("x", {"q": {"a": 1}}, {"q": [Pair("b", 0.5, 4.0), Pair("a", 0.5, 1.0)]})
    with pytest.raises(TrainingError, match="don't get higher scores"):
        learn([upside_down], EMBEDDER)
    nothing = Scored("x", {"q": {}}, {"q": [Pair("b", 0.5, 4.0)]})
    with pytest.raises(TrainingError, match="no candidate is judged relevant"):
        learn([nothing], EMBEDDER)


def test_halves_share_no_query_and_are_the_whole() -> None:
    whole = scored("a", 1.0, 1.0)
    one, other = whole.half(False), whole.half(True)
    assert one.candidates.keys() & other.candidates.keys() == set()
    assert one.candidates.keys() | other.candidates.keys() == whole.candidates.keys()
    assert len(one.candidates) == len(other.candidates) == 15
    assert set(one.judgements) == set(one.candidates)
    assert list(one.candidates)[:3] == ["a20", "a7", "a18"]


def test_what_lies_beside_an_adapter_goes_into_the_bundle(tmp_path: Path) -> None:
    assert read_fusion(tmp_path) is None
    fusion = Fusion(logit_scale=0.5, retrieval_weight=9.0, embedder=EMBEDDER, learnt_on=("a",))
    (tmp_path / FUSION_FILE).write_text(json.dumps(fusion.model_dump(mode="json")))
    assert read_fusion(tmp_path) == fusion
    (tmp_path / FUSION_FILE).write_text('{"logit_scale": 0, "retrieval_weight": 1}')
    with pytest.raises(CheckpointError, match=r"fusion\.json: logit_scale: Input should be"):
        read_fusion(tmp_path)
    (tmp_path / FUSION_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"fusion\.json: the file: Invalid JSON"):
        read_fusion(tmp_path)
