"""The cheapest cuts that keep enough, in the bundle and in `export evaluate`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.bundles import Bundle, open_model
from engine.index import Hit
from engine.passages import ONE_PASSAGE, Passages
from export.__main__ import main
from export.cascade_bounds import ENOUGH, at_least, folds, unseen_losers
from export.cascade_choice import CascadeError, Judged, _try_all, choose, ideal_gain
from export.cascade_parts import Stages, thin
from schemas.manifests import Cascade, Cut, IndexManifest, Measures
from tests.unit.tiny_retrieval import BuildIndex, write_counting_model

# The model counts "fox"; the smaller one counts "dog", which the same documents have.
GOOD = {f"g{n}": "fox dog " * (n + 1) for n in range(6)}
BAD = {f"b{n}": f"line {'file ' * (n % 5 + 1)}" for n in range(44)}
QUERIES = {"q1": "fox", "q2": "dog"}


def judged(places: list[int], small: list[float], gains: list[int]) -> Judged:
    retrieval = np.linspace(0.9, 0.1, len(places)).tolist()
    return Judged(
        retrieval, small, np.asarray(places), np.asarray(gains, dtype=float), ideal_gain(gains)
    )


def test_a_small_model_that_agrees_saves_most() -> None:
    count = 60
    places = list(range(count))[::-1]  # the last retrieved is the best
    gains = [0] * (count - 3) + [1, 1, 1]
    agreeing = judged(places, [-float(place) for place in places], gains)

    choice = choose([agreeing], small_cost=0.1, keep=0.995)

    assert choice.alone == pytest.approx(1.0)
    assert choice.ndcg == pytest.approx(1.0)
    assert choice.small is not None
    assert choice.model_share == pytest.approx(10 / count)
    # The retriever would cut what is right: it may not.
    assert choice.retriever is None
    assert choice.cost == pytest.approx(0.1 + 10 / count)


def test_a_retriever_whose_margin_decides_saves_the_small_model_too() -> None:
    count = 60
    places = list(range(count))
    gains = [1, 1] + [0] * (count - 2)
    query = judged(places, [0.0] * count, gains)

    choice = choose([query], small_cost=0.5, keep=0.995)

    assert choice.retriever is not None
    assert choice.small_share == 0
    assert choice.cost == pytest.approx(choice.model_share)


def test_where_nothing_may_be_cut_it_says_so() -> None:
    count = 20
    # Every cut would lose the only right one: it is last for retriever and smaller model.
    places = list(range(count))[::-1]
    small = [-float(at) for at in range(count)]
    with pytest.raises(CascadeError, match="smaller model"):
        choose([judged(places, small, [0] * (count - 1) + [1])], small_cost=0.1, keep=0.995)


def test_what_one_query_gains_does_not_make_up_for_what_another_loses() -> None:
    count = 40
    # The first query loses its right one to any cut of the second half; the second query gains
    # by the same cut, which takes the wrong ones that the model likes.
    loses = judged([*range(1, count), 0], [0.0] * count, [0] * (count - 1) + [1])
    places = [*range(20, count), *range(20)]
    gains = judged(places, [0.0] * count, [1] * 10 + [0] * 30)

    with pytest.raises(CascadeError):
        choose([loses, gains], small_cost=1.0, keep=0.995)


def retrieved_at(place: int, count: int = 100) -> Judged:
    """A query whose only right document, the model's best, is the retriever's at this place.

    The model's other places are the retriever's.
    """
    places = [*range(1, place), 0, *range(place, count)]
    gains = [int(at == 0) for at in places]
    query = judged(places, [0.0] * count, gains)
    return Judged(query.retrieval, None, query.place, query.gain, query.ideal)


def test_one_loss_too_few_to_see_in_the_mean_is_enough_to_be_careful() -> None:
    """Of 100 queries one is lost: 99 % is kept, and as far as so few can tell it may be 97 %."""
    queries = [retrieved_at(1) for _ in range(99)] + [retrieved_at(60)]

    choice = choose(queries, small_cost=1.0, keep=0.985)

    assert choice.retriever is not None
    assert choice.retriever.most >= 60
    assert choice.kept == 1
    assert choose(queries, small_cost=1.0, keep=0.95).model_share < 0.6


def test_what_the_model_would_show_is_not_cut_though_nobody_judged_it() -> None:
    """The right documents are all retrieved first; the model's second best is far down."""
    count = 100
    places = [0, *range(2, 50), 1, *range(50, count)]
    query = judged(places, [0.0] * count, [1] + [0] * (count - 1))

    choice = choose([query] * 20, small_cost=1.0, keep=0.995)

    assert choice.retriever is not None
    assert choice.retriever.most >= 50
    assert choice.own == 1


@pytest.mark.parametrize(("missing", "share"), [((), 1.0), ((0,), 0.78), ((9,), 0.936)])
def test_the_model_s_first_places_count_most(missing: tuple[int, ...], share: float) -> None:
    query = retrieved_at(1, count=30)
    scored = [at for at in range(20) if at not in missing]
    assert query.own(scored) == pytest.approx(share, abs=0.001)


def test_what_is_kept_at_least_follows_from_the_spread_over_queries() -> None:
    alone = np.ones(100)
    spread = np.zeros((3, 100))
    spread[1] = 0.05
    spread[2, :5] = 1.0

    low = at_least(spread, alone)

    assert low[0] == 1
    assert low[1] == pytest.approx(0.95)
    # The normal approximation: 0.95 - 1.645 * sqrt(0.05 * 0.95 / 100).
    assert low[2] == pytest.approx(0.914, abs=0.012)
    assert at_least(spread, np.zeros(100)).tolist() == [1, 1, 1]


def test_each_query_is_checked_once_by_a_choice_that_did_not_see_it() -> None:
    shared = list(folds(13))
    assert sorted(np.concatenate([unseen for _, unseen in shared]).tolist()) == list(range(13))
    assert all(not set(seen) & set(unseen) for seen, unseen in shared)
    assert all(len(seen) + len(unseen) == 13 for seen, unseen in shared)
    assert not list(folds(1))


def test_cross_validation_sees_what_the_choice_can_not() -> None:
    """One query needs all, the others little: no choice without it can know."""
    queries = [retrieved_at(1) for _ in range(30)] + [retrieved_at(45)]

    choice = choose(queries, small_cost=1.0, keep=0.995)

    assert choice.kept == 1
    assert choice.held_out.kept == pytest.approx(30 / 31)
    assert (choice.held_out.cut, choice.held_out.folds) == (5, 5)


def test_a_fold_that_cuts_nothing_does_not_tell_what_cuts_keep() -> None:
    """The last query's only right document is the last one retrieved: with it nothing is cut."""
    queries = [retrieved_at(1) for _ in range(7)] + [retrieved_at(100)]
    with pytest.raises(CascadeError, match="bootstrap over the queries"):
        choose(queries, small_cost=1.0, keep=0.9)

    held_out = _try_all(queries, small_cost=1.0).held_out(0.9)

    # All choices but the one that is checked on it see it.
    assert (held_out.cut, held_out.folds) == (1, 5)
    assert held_out.kept is not None
    assert held_out.kept < 1


def test_where_no_fold_cuts_anything_nothing_is_said_of_what_is_kept() -> None:
    held_out = _try_all([retrieved_at(100)] * 4, small_cost=1.0).held_out(0.995)
    assert (held_out.kept, held_out.cut, held_out.folds) == (None, 0, 4)


def test_what_no_query_lost_others_may_lose() -> None:
    assert unseen_losers(81) == pytest.approx(0.036, abs=0.001)
    assert unseen_losers(ENOUGH) < 0.05 < unseen_losers(ENOUGH - 1)
    assert ENOUGH == 59


def test_gains_are_those_of_the_best_order() -> None:
    assert ideal_gain([0, 2, -1, 1]) == pytest.approx(2 + 1 / np.log2(3))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dev") / "toy"
    folder.mkdir()
    for name, texts in (("corpus", GOOD | BAD), ("queries", QUERIES)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    rows = ["query-id\tcorpus-id\tscore"]
    rows += [f"{query}\t{doc}\t1" for query in QUERIES for doc in ("g5", "g4", "g3")]
    (folder / "qrels.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def index(build_tiny_index: BuildIndex) -> Bundle[IndexManifest]:
    return build_tiny_index([{"_id": key, "text": text} for key, text in (GOOD | BAD).items()])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("models")
    return (
        write_counting_model(folder / "large", "fox"),
        write_counting_model(folder / "small", "dog"),
    )


@pytest.fixture(scope="module")
def cascaded(
    models: tuple[Path, Path],
    collection: Path,
    index: Bundle[IndexManifest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("out") / "cascaded"
    words = ["cascade", "--data", str(collection), "--index-bundle", str(index.path)]
    words += ["--model-bundle", str(models[0]), "--small-bundle", str(models[1])]
    assert main([*words, "--out", str(out)]) == 0
    return out


def test_the_choice_is_in_the_manifest_of_a_new_bundle(
    cascaded: Path, models: tuple[Path, Path]
) -> None:
    before, after, small = open_model(models[0]), open_model(cascaded), open_model(models[1])
    cascade = after.manifest.cascade
    assert cascade is not None
    assert before.manifest.cascade is None
    assert before.digest != after.digest
    assert before.manifest.files == after.manifest.files
    assert cascade.cascaded.values["NDCG@10"] >= 0.995 * cascade.alone.values["NDCG@10"]
    assert cascade.model_share < 1
    assert cascade.kept is not None
    assert min(cascade.kept.judged, cascade.kept.own) >= 0.995
    assert cascade.kept.folds == len(QUERIES)
    assert cascade.kept.folds_cut is not None
    assert (cascade.kept.held_out is None) == (cascade.kept.folds_cut == 0)
    assert cascade.small_bundle in (None, small.digest)


def test_few_queries_are_warned_of(
    models: tuple[Path, Path],
    collection: Path,
    index: Bundle[IndexManifest],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["cascade", "--data", str(collection), "--index-bundle", str(index.path)]
    words += ["--model-bundle", str(models[0]), "--small-bundle", str(models[1])]
    assert main([*words, "--out", str(tmp_path / "cascaded")]) == 0
    said = capsys.readouterr()
    assert "warning: 2 judged queries are too few" in said.err
    assert "at least (95 %)" not in said.out
    assert "where none of 2 queries lost anything, up to 77.6% of other queries may" in said.out
    assert "of 2 folds cut anything" in said.out


def test_evaluate_scores_less_with_it_and_ranks_as_well(
    cascaded: Path,
    models: tuple[Path, Path],
    collection: Path,
    index: Bundle[IndexManifest],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["evaluate", "--data", str(collection), "--index-bundle", str(index.path)]
    words += ["--model-bundle", str(cascaded), "--json", "-"]

    def report(*more: str) -> dict[str, Any]:
        assert main([*words, *more]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    alone = report()
    small = ("--small-bundle", str(models[1]))
    needs_small = open_model(cascaded).manifest.cascade
    assert needs_small is not None
    with_it = report("--cascade", *(small if needs_small.small_bundle else ()))

    assert alone["cascade"] is None
    cut = with_it["cascade"]["cut"]
    assert with_it["pairs"]["scored"] == alone["pairs"]["scored"] - cut
    assert cut > 0
    assert with_it["reranked"]["NDCG@10"] >= 0.995 * alone["reranked"]["NDCG@10"]
    assert with_it["reranked"]["Recall@100"] == alone["reranked"]["Recall@100"]


def test_evaluate_refuses_a_cascade_that_is_not_there(
    models: tuple[Path, Path], collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--data", str(collection), "--model-bundle", str(models[0]), "--cascade"]
    assert main(words) == 1
    assert "has no cascade" in capsys.readouterr().err


def test_the_smaller_model_reads_as_many_passages_as_the_model(
    models: tuple[Path, Path], index: Bundle[IndexManifest]
) -> None:
    alone = Measures(collection="dev", queries=1, values={"NDCG@10": 1.0})
    small = open_model(models[1])
    cascade = Cascade(
        small=Cut(least=1, most=1, margin=0.0),
        small_bundle=small.digest,
        alone=alone,
        cascaded=alone,
        small_share=1,
        model_share=0.5,
        cost=0.6,
    )
    # The dogs are behind the 64 tokens that the smaller model reads at once.
    hits = [Hit("short", "dog", 0.9, 1), Hit("long", "line " * 70 + "dog dog", 0.8, 2)]

    def left(passages: Passages) -> list[str]:
        stages = Stages(cascade, index.manifest, small, passages)
        thinned = thin(stages, {"q": "file"}, {"q": hits}, 1)
        return [hit.doc_id for hit in thinned.candidates["q"]]

    assert left(ONE_PASSAGE) == ["short"]
    assert left(Passages(2, 0)) == ["long"]
