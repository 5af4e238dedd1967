import json
from pathlib import Path

import numpy as np
import pytest

from engine.bundles import open_model
from export import gate, recipes
from export.__main__ import main
from export.evaluation_set import EvaluationSet, JudgedQuery, load_evaluation_set
from export.gate import Attempt, Figures, compare, judge
from tests.unit.export.conftest import CrossEncoder
from tests.unit.export.family_checkpoints import (
    QUERIES,
    TEXTS,
    write_collection,
    write_pairs,
)

DATA = EvaluationSet(
    "two queries",
    (
        JudgedQuery.of("q", [("right", 1), ("wrong", 0), ("worse", 0)]),
        JudgedQuery.of("r", [("no", 0), ("yes", 2), ("perhaps", 1), ("never", 0)]),
    ),
)


def test_the_same_logits_lose_nothing() -> None:
    logits = np.asarray([0, 1, 3, -1, 0.5, 2, 4], dtype=np.float32)
    found = compare(DATA, logits, logits)
    assert found.fp32["NDCG@10"] == pytest.approx(1)
    assert (found.ratio, found.kendall_tau, found.p99_difference) == (1, 1, 0)
    shifted = compare(DATA, logits, logits + np.float32(0.25))
    assert (shifted.ratio, shifted.kendall_tau) == (1, 1)
    assert shifted.p99_difference == pytest.approx(0.25)


def test_a_right_document_in_second_place_costs() -> None:
    fp32 = np.asarray([0, 1, 3, -1, 0.5, 2, 4], dtype=np.float32)
    swapped = fp32.copy()
    swapped[1] = 5
    found = compare(DATA, fp32, swapped)
    # 1 / log2(3) instead of 1 in one of two queries.
    assert found.quantized["NDCG@10"] == pytest.approx((1 / np.log2(3) + 1) / 2, abs=1e-4)
    assert found.quantized["MRR@10"] == pytest.approx(0.75)
    assert found.kendall_tau == pytest.approx((1 / 3 + 1) / 2)
    assert not judge("recipe", "int4", found).passed


def test_equal_scores_count_as_the_worst_order() -> None:
    same = np.zeros(7, dtype=np.float32)
    assert compare(DATA, same, same).fp32["NDCG@10"] < 0.6


@pytest.mark.parametrize(
    ("precision", "ratio", "passed"),
    [
        ("int8", 0.9951, True),
        ("int8", 0.9949, False),
        ("int4", 0.9901, True),
        ("int4", 0.9899, False),
        ("fp16", 0.9949, False),
    ],
)
def test_what_each_precision_must_keep(precision: str, ratio: float, passed: bool) -> None:
    found = Figures({"NDCG@10": 0.8}, {"NDCG@10": 0.8 * ratio}, 1, 0, 0, 1)
    assert judge("recipe", precision, found).passed is passed  # type: ignore[arg-type]


def test_the_built_in_set_is_hard_fixed_and_apart_from_calibration() -> None:
    data = load_evaluation_set(None)
    assert data == load_evaluation_set(None)
    assert len(data.queries) == 100
    assert all(judged.grades[-1] == 1 and sum(judged.grades) == 1 for judged in data.queries)
    assert sum(len(judged.documents) for judged in data.queries) > 700


def test_a_collection_is_filled_up_with_texts_that_share_words(tmp_path: Path) -> None:
    judged = [("the fox", [(TEXTS[2], 1)]), ("a broker", [(TEXTS[1], 2), (TEXTS[3], 0)])]
    folder = write_collection(tmp_path / "data", judged)
    first, second = load_evaluation_set(folder).queries
    assert first.documents[-1] == TEXTS[2]
    assert first.grades == (0,) * (len(first.documents) - 1) + (1,)
    assert second.grades == (0, 2)
    assert [judged.query for judged in load_evaluation_set(folder, half=1).queries] == ["a broker"]


@pytest.fixture
def options(cross_encoder: CrossEncoder, tmp_path: Path) -> list[str]:
    given = ["--model", cross_encoder("bert"), "--data", write_collection(tmp_path / "data")]
    given += ["--calibration", write_pairs(tmp_path / "pairs.jsonl"), "--out", tmp_path / "out"]
    return ["model", *map(str, given)]


def test_what_falls_short_is_not_written(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(gate.LEAST_RATIO, "int8", 1.01)
    before = set(tmp_path.iterdir())
    assert main([*options, "--precision", "int8"]) == 3
    shown = capsys.readouterr()
    assert shown.out.count("fell short") == 4
    assert "NDCG@10 1.0000, 100.00% of fp32" in shown.out
    assert "Kendall's tau" in shown.out
    assert shown.err.splitlines()[-1].startswith("error: no int8 recipe keeps 101.0% of fp32's")
    assert set(tmp_path.iterdir()) == before

    assert main([*options, "--precision", "int8", "--json"]) == 3
    refused = json.loads(capsys.readouterr().out)
    assert refused["out"] is None
    assert [tried["passed"] for tried in refused["gate"]] == [False] * 4
    assert {"ratio", "figures"} <= set(refused["gate"][0])

    assert main([*options, "--precision", "int8", "--force"]) == 0
    assert "written against the gate" in capsys.readouterr().out
    written = open_model(tmp_path / "out").manifest.verification
    assert written is not None
    assert written.forced
    assert written.least_ratio == 1.01
    assert len(written.tried) == 4
    assert main(["inspect", str(tmp_path / "out")]) == 0
    shown_again = capsys.readouterr().out
    assert "FORCED" in shown_again
    assert shown_again.count("fell short") == 4


def test_the_next_better_recipe_is_tried_and_said(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only a graph with some products in fp32 is let through."""
    own = gate.judge

    def strict(recipe: str, precision: str, figures: Figures) -> Attempt:
        attempt = own(recipe, precision, figures)  # type: ignore[arg-type]
        return Attempt(recipe, attempt.figures, attempt.passed and "3 of 13" in recipe)

    monkeypatch.setattr(gate, "judge", strict)
    for precision in ("int8", "int4"):
        assert main([*options, "--precision", precision, "--replace"]) == 0
        assert capsys.readouterr().out.count("tried ") == 3
        manifest = open_model(tmp_path / "out").manifest
        assert manifest.recipe.endswith("3 of 13 products in fp32")
        assert manifest.verification is not None
        assert not manifest.verification.forced
        assert [line.split("; ")[-1] for line in manifest.verification.tried] == [
            "fell short",
            "fell short",
            "passed",
        ]
        assert manifest.verification.quantized.values["NDCG@10"] == 1


def test_replace_does_not_open_the_gate(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*options, "--precision", "fp32"]) == 0
    monkeypatch.setitem(gate.LEAST_RATIO, "int4", 1.01)
    monkeypatch.setattr(recipes, "SHARES_IN_FP32", ())
    before = open_model(tmp_path / "out").digest
    assert main([*options, "--precision", "int4"]) == 1  # there is a bundle
    assert main([*options, "--precision", "int4", "--replace"]) == 3
    assert open_model(tmp_path / "out").digest == before


def test_queries_in_common_do_not_judge_what_they_calibrated(
    options: list[str], tmp_path: Path
) -> None:
    both = write_collection(
        tmp_path / "both", [(query, [(text, 1) for text in TEXTS]) for query in QUERIES]
    )
    options[options.index("--data") + 1] = options[options.index("--calibration") + 1] = str(both)
    assert main([*options, "--precision", "int8"]) == 0
    verification = open_model(tmp_path / "out").manifest.verification
    assert verification is not None
    assert verification.fp32.queries == 3
