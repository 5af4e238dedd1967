import json
from math import log2
from pathlib import Path
from typing import Any

import pytest

from engine.bundles import Bundle
from export.__main__ import main
from export.evaluate import PASSAGE_OVERLAP
from export.measures import measure
from schemas.manifests import IndexManifest
from tests.unit.tiny_retrieval import BuildIndex, write_counting_model
from worker.settings import PassageSettings

# The model counts "fox", so it ranks c, b, a, d, e; what is equal stays as retrieved.
TEXTS = {"a": "fox", "b": "fox fox", "c": "fox fox fox", "d": "dog", "e": "line"}
QUERIES = {"q1": "dog", "q2": "line", "q3": "file", "q4": "nobody judged this"}
QRELS = [("q1", "b", 1), ("q1", "c", 0), ("q1", "a", 0), ("q2", "a", 2), ("q2", "c", 1)]
QRELS += [("q3", "d", 0), ("q3", "b", 0)]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collections") / "toy"
    folder.mkdir()
    for name, texts in (("corpus", TEXTS), ("queries", QUERIES)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in QRELS)]
    (folder / "qrels.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def index(build_tiny_index: BuildIndex) -> Bundle[IndexManifest]:
    return build_tiny_index([{"_id": key, "text": text} for key, text in TEXTS.items()])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    return write_counting_model(tmp_path_factory.mktemp("models"), "fox")


@pytest.fixture
def words(collection: Path, index: Bundle[IndexManifest], model: Path) -> list[str]:
    return [
        "evaluate",
        "--data",
        str(collection),
        "--index-bundle",
        str(index.path),
        "--model-bundle",
        str(model),
    ]


def report_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([*words, "--json", "-"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_measures_are_those_computed_by_hand() -> None:
    judgements = {"q1": {"a": 1, "b": 0, "c": 2}, "q2": {"a": 1}, "q3": {"a": 0}, "q4": {"b": 1}}
    rankings = {"q1": ["b", "c", "x", "a"], "q2": ["a"], "q3": ["a"]}

    values = measure(judgements, rankings)

    # q1: grades 0 2 - 1; q2: right at once; q3: nothing is right; q4: no ranking.
    q1_ndcg = (2 / log2(3) + 1 / log2(5)) / (2 / log2(2) + 1 / log2(3))
    assert values["NDCG@10"] == pytest.approx((q1_ndcg + 1) / 4)
    assert values["MRR@10"] == pytest.approx((1 / 2 + 1) / 4)
    assert values["MAP"] == pytest.approx(((1 / 2 + 2 / 4) / 2 + 1) / 4)
    assert values["Recall@100"] == pytest.approx((1 + 1) / 4)


def test_the_order_of_a_long_ranking_is_kept() -> None:
    # Scores would tie as 32-bit numbers, and then be ordered by id.
    ranking = [f"d{n}" for n in range(1000)]

    assert measure({"q": {"d1": 1}}, {"q": ranking})["MRR@10"] == 0.5
    assert measure({"q": {"d9": 1}}, {"q": ranking})["MRR@10"] == pytest.approx(0.1)
    assert measure({"q": {"d10": 1}}, {"q": ranking})["MRR@10"] == 0
    assert measure({"q": {"d99": 1}}, {"q": ranking})["Recall@100"] == 1
    assert measure({"q": {"d100": 1}}, {"q": ranking})["Recall@100"] == 0


def test_no_ranking_at_all_counts_as_nothing_found() -> None:
    assert set(measure({"q": {"a": 1}}, {}).values()) == {0.0}


def test_reranked_figures_are_those_computed_by_hand(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(words, capsys)

    # c, b, a for each query: q1 finds b at 2; q2 finds c (1) at 1 and a (2) at 3; q3 has none.
    q1, q2 = 1 / log2(3), (1 + 2 / log2(4)) / (2 + 1 / log2(3))
    assert report["reranked"] == {
        "NDCG@10": pytest.approx((q1 + q2) / 3),
        "MRR@10": pytest.approx((1 / 2 + 1) / 3),
        "MAP": pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 3),
        "Recall@100": pytest.approx(2 / 3),
    }
    assert report["queries"] == {"total": 4, "evaluated": 3, "without_relevant": 1, "too_long": 0}
    assert report["pairs"] == {"scored": 15, "truncated": 0, "failed": 0}
    assert report["retriever"]["Recall@100"] == pytest.approx(2 / 3)


def test_judged_candidates_are_only_those(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of([*words, "--candidates", "judged"], capsys)

    assert report["pairs"]["scored"] == len(QRELS)
    assert report["reranked"]["MRR@10"] == pytest.approx((1 / 2 + 1) / 3)


def test_judged_and_retrieved_agree_where_everything_is_judged(
    collection: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete = tmp_path / "complete"
    complete.mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        (complete / name).write_bytes((collection / name).read_bytes())
    rows = [f"{query}\t{doc}\t{int(doc in 'bd')}" for query in QUERIES for doc in TEXTS]
    (complete / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    words[words.index("--data") + 1] = str(complete)

    judged = report_of([*words, "--candidates", "judged"], capsys)
    retrieved = report_of(words, capsys)

    assert judged["retriever"] == retrieved["retriever"]
    assert judged["reranked"] == retrieved["reranked"]


def test_top_k_bounds_what_is_reranked(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of([*words, "--top-k", "2"], capsys)

    assert report["pairs"]["scored"] == 6
    assert report["reranked"]["Recall@100"] == report["retriever"]["Recall@100"]


def test_an_index_is_built_where_none_is_given(
    words: list[str],
    tiny_embedder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter = pytest.importorskip("export.embedder")
    original = exporter.export_embedder
    monkeypatch.setattr(
        exporter, "export_embedder", lambda _, staging: original(str(tiny_embedder), staging)
    )
    given = report_of(words, capsys)
    position = words.index("--index-bundle")

    built = report_of(words[:position] + words[position + 2 :], capsys)

    assert built["retriever"] == given["retriever"]
    assert built["reranked"] == given["reranked"]
    assert "index" in built["timings_s"]


def test_an_index_of_another_corpus_is_refused(
    words: list[str], build_tiny_index: BuildIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build_tiny_index([{"_id": "elsewhere", "text": "fox"}])
    words[words.index("--index-bundle") + 1] = str(other.path)

    assert main(words) != 0
    assert "holds no document that toy judges" in capsys.readouterr().err


def test_a_query_that_is_too_long_keeps_its_order_and_is_counted(
    collection: Path, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long"
    long.mkdir()
    (long / "corpus.jsonl").write_bytes((collection / "corpus.jsonl").read_bytes())
    (long / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "dog " * 40}))
    (long / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tb\t1\n")
    words[words.index("--data") + 1] = str(long)

    report = report_of(words, capsys)

    assert report["queries"]["too_long"] == 1
    assert report["reranked"] == report["retriever"]


def test_the_table_says_the_same_as_the_json(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json", str(tmp_path / "report.json")]) == 0
    assert capsys.readouterr().out == ""
    report = json.loads((tmp_path / "report.json").read_text())

    assert main(words) == 0

    shown = capsys.readouterr().out
    for side in ("retriever", "reranked"):
        for name, value in report[side].items():
            assert name in shown
            assert f"{value:.4f}" in shown
    assert report["model"]["digest"] in shown
    assert "3 of 4 queries" in shown
    assert "1 of them have no relevant document" in shown


@pytest.mark.parametrize(
    "extra", [["--top-k", "0"], ["--top-k", "x"], ["--candidates", "all"], ["--json"]]
)
def test_wrong_usage(words: list[str], extra: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main([*words, *extra])

    assert error.value.code == 2


def test_a_missing_folder_for_the_report_is_told_before_the_work(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--json", str(tmp_path / "nowhere" / "report.json")]) != 0
    assert "its folder does not exist" in capsys.readouterr().err


# A pair of the counting model has 64 tokens: of this, the first passage reads no fox.
LONG = {"a": "line " * 90 + "fox fox fox", "b": "line fox"}


@pytest.fixture
def long_words(build_tiny_index: BuildIndex, model: Path, tmp_path: Path) -> list[str]:
    """The options for a collection with a document that is longer than the model reads."""
    folder = tmp_path / "long"
    folder.mkdir()
    rows = [{"_id": key, "text": text} for key, text in LONG.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "file"}))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n")
    index = build_tiny_index(rows)
    words = ["evaluate", "--data", str(folder), "--index-bundle", str(index.path)]
    return [*words, "--model-bundle", str(model)]


def test_in_passages_a_long_document_is_found_by_its_end(
    long_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    beginning = report_of(long_words, capsys)
    whole = report_of([*long_words, "--passages", "2"], capsys)

    assert beginning["reranked"]["MRR@10"] == pytest.approx(1 / 2)
    assert beginning["passages"] is None
    assert beginning["pairs"] == {"scored": 2, "truncated": 1, "failed": 0}
    assert whole["reranked"]["MRR@10"] == 1
    assert whole["passages"] == {"most": 2, "overlap": PASSAGE_OVERLAP, "scored": 3}
    assert whole["pairs"] == {"scored": 2, "truncated": 1, "failed": 0}


def test_passages_that_share_less_reach_further(
    long_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of([*long_words, "--passages", "2", "--passage-overlap", "0"], capsys)

    assert report["pairs"]["truncated"] == 0
    assert report["passages"]["overlap"] == 0


def test_the_table_says_the_most_that_passages_share(
    long_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The model reads 64 tokens of a pair: passages that share 60 would hardly go on."""
    assert main([*long_words, "--passages", "2", "--passage-overlap", "60"]) == 0
    assert "share at most 60 tokens" in capsys.readouterr().out


def test_the_default_overlap_is_that_of_the_worker() -> None:
    assert PassageSettings().overlap == PASSAGE_OVERLAP


def test_an_overlap_without_passages_is_refused(
    long_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*long_words, "--passage-overlap", "8"]) != 0
    assert "--passages" in capsys.readouterr().err
