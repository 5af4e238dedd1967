from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.index import Hit
from export.errors import VerificationError
from export.evaluation_set import load_evaluation_set
from export.model_steps import Request
from tests.unit.training.lessons import lesson_rows
from training.finetune.labels import Document, LabelledQuery, normalised
from training.gate import bundle as bundles
from training.gate.figures import compare, per_query
from training.gate.heldout import HeldOut
from training.gate.leakage import find_leakage
from training.gate.slices import length, script, slices
from training.plan_model import GatePlan, SlicePlan


def held_out(queries: dict[str, str], tenants: dict[str, str] | None = None) -> HeldOut:
    grades = {query_id: {"a": 1, "b": 0} for query_id in queries}
    candidates = {
        query_id: [Hit("b", "text b", 0.9, 1), Hit("a", "text a", 0.8, 2)] for query_id in queries
    }
    return HeldOut("held", queries, tenants or {}, candidates, grades, grades, None)


def trained(query: str, text: str = "another") -> LabelledQuery:
    return LabelledQuery("t", query, None, (Document("d", text, 1.0, 1.0, 1, 0.5),))


def test_values_are_those_of_each_query_in_order() -> None:
    held = held_out({"q2": "two", "q1": "one"})

    found = per_query(held, {"q1": ["a", "b"], "q2": ["b", "a"]})

    assert found["MRR@10"].tolist() == [0.5, 1.0]
    assert found["NDCG@10"].tolist() == pytest.approx([1 / np.log2(3), 1.0])
    assert found["MAP"].tolist() == [0.5, 1.0]


def test_a_rise_everywhere_is_sure_and_one_by_chance_is_not() -> None:
    rng = np.random.default_rng(1)
    before = rng.uniform(0, 0.5, 40)

    sure = compare(before, before + rng.uniform(0.05, 0.2, 40), 999, seed=1)
    chance = compare(before, before + rng.normal(0.0, 0.2, 40), 999, seed=1)

    assert sure.p <= 0.01
    assert sure.low > 0
    assert chance.p > 0.05
    assert chance.low < 0 < chance.high


def test_equal_rankings_are_no_rise() -> None:
    values = np.asarray([0.1, 0.2])

    found = compare(values, values, 99, seed=1)

    assert (found.difference, found.p) == (0.0, 1.0)


def test_one_query_has_an_interval_of_one_point() -> None:
    found = compare(np.asarray([0.1]), np.asarray([0.3]), 99, seed=1)

    assert found.low == found.high == pytest.approx(0.2)


def test_the_same_query_in_other_letters_is_leakage() -> None:
    held = held_out({"q1": "How to  READ a file", "q2": "another one"})

    found = find_leakage([trained("how to read a file", "text a")], held)

    assert found.queries == ("How to  READ a file",)
    assert found.pairs == 1
    assert not find_leakage([trained("how to write a file", "text a")], held)


def test_a_query_is_the_same_in_full_width_letters() -> None:
    assert normalised("\uff32\uff25\uff21\uff24\u3000it ") == normalised("read it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read a file", ("latin", "short")),
        ("how do I read a file", ("latin", "medium")),
        ("how do I read a file line by line in python", ("latin", "long")),
        ("как прочитать файл", ("cyrillic", "short")),
        ("什么是机器学习", ("cjk", "short")),
        ("印歐語系因為哪一門語言而被發現又是誰發現的呢", ("cjk", "long")),
        ("42?", ("none", "short")),
    ],
)
def test_script_and_length(text: str, expected: tuple[str, str]) -> None:
    assert (script(text), length(text)) == expected


def test_the_worst_slice_comes_first_and_small_ones_are_left_out() -> None:
    queries = {f"q{n}": "read it" if n < 4 else "как прочитать файл" for n in range(7)}
    tenants = {f"q{n}": "shop" for n in range(2)}
    current = np.full(7, 0.5)
    new = np.asarray([0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1])

    found = slices(held_out(queries, tenants), current, new, SlicePlan(min_queries=3))

    assert [part.name for part in found] == ["script cyrillic", "length short", "script latin"]
    assert found[0].difference == pytest.approx(-0.4)


def test_lessons_have_no_leakage_themselves() -> None:
    rows = lesson_rows(20)
    by_split = {
        split: {normalised(row.query) for row in rows if row.split == split}
        for split in ("train", "test")
    }
    assert not by_split["train"] & by_split["test"]


def dev_queries(count: int) -> list[LabelledQuery]:
    sure = [Document("a", "right", 1.0, 1.0, 1, 0.5), Document("b", "wrong", 0.0, 1.0, 2, 0.4)]
    guess = Document("c", "nobody looked", 0.0, 0.1, 3, 0.3)
    return [
        LabelledQuery(f"q{number}", f"question {number}", None, (*sure, guess))
        for number in range(count)
    ]


def data_of_export(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """What the gate gives to export to judge by."""
    requests: list[Request] = []

    def refuse(request: Request) -> None:
        requests.append(request)
        raise VerificationError("not today")

    monkeypatch.setattr(bundles, "export_model", refuse)
    with pytest.raises(VerificationError):
        bundles.export_new(GatePlan(), folder / "model", 128, None, folder)
    return requests[0].data


def test_export_judges_by_the_dev_queries_where_there_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.write_evaluation(dev_queries(bundles.LEAST_QUERIES), tmp_path / bundles.EVALUATION)

    data = data_of_export(tmp_path, monkeypatch)
    assert data is not None
    found = load_evaluation_set(data)

    assert (found.name, len(found.queries)) == ("labels-dev", bundles.LEAST_QUERIES)
    # The better one comes last; what nobody looked at doesn't judge.
    assert found.queries[0].documents == ("wrong", "right")
    assert found.queries[0].grades == (0, 100)


@pytest.mark.parametrize("mark", ['"', "\t", "\n", "\r\n", " ", "\ufeff"])
def test_no_mark_in_an_id_loses_a_judgement(tmp_path: Path, mark: str) -> None:
    queries = [
        replace(
            query,
            query_id=mark + query.query_id,
            documents=tuple(
                replace(each, doc_id=f"{mark}{each.doc_id}{mark}") for each in query.documents
            ),
        )
        for query in dev_queries(bundles.LEAST_QUERIES)
    ]
    bundles.write_evaluation(queries, tmp_path / bundles.EVALUATION)

    found = load_evaluation_set(tmp_path / bundles.EVALUATION)

    assert len(found.queries) == bundles.LEAST_QUERIES
    assert {judged.grades for judged in found.queries} == {(0, 100)}
    assert found.queries[-1].query == f"question {bundles.LEAST_QUERIES - 1}"


def test_few_dev_queries_leave_it_to_the_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dev_queries(bundles.LEAST_QUERIES - 1)
    bundles.write_evaluation(few, tmp_path / bundles.EVALUATION)

    assert data_of_export(tmp_path, monkeypatch) is None
