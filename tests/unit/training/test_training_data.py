"""Data building: parsing by hand-made lines, and the same seed gives the same bytes."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from training.batches import endless_batches, pick_candidates
from training.beir import Collection, MissingCollectionError, load_collection
from training.cloze import make_cloze
from training.docstrings import docstring_passages, plain
from training.groups import RIGHT, UNKNOWN, WRONG, Group, read_groups, write_groups
from training.mine import Floats, Miner, draw
from training.passages import Passage
from training.retriever import Bm25, lexical_tokens
from training.sources import PASSAGE_SOURCES, MissingSourceError, SourcePaths
from training.wordnet import read_synset, wordnet_passages

PERSON = (
    "10976869 18 n 02 Ada_Lovelace 0 Lovelace 0 001 @i 09989502 n 0000 | "
    'English writer on computing (1815-1852); "Lovelace wrote notes on the engine"  \n'
)


def bag_of_letters(texts: Sequence[str], label: str) -> Floats:
    """A stand-in for the bi-encoder: letter counts, normalised."""
    rows = np.array([[t.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts])
    out: Floats = (rows / np.maximum(1e-6, np.linalg.norm(rows, axis=1, keepdims=True))).astype(
        np.float32
    )
    return out


MINER = Miner(bag_of_letters, lexical_weight=0.02, n_candidates=8)


def passages(n: int) -> list[Passage]:
    rng = Random(4)
    words = ["river", "engine", "queue", "broker", "violin", "harbour", "glass", "copper"]
    texts = [" ".join(rng.choices(words, k=6)) + f" {i}" for i in range(n)]
    return [Passage("toy", t, (t.split()[0],), ("decoy " + t,)) for t in texts]


def test_a_wordnet_line_is_read() -> None:
    synset = read_synset(PERSON)
    assert synset.lemmas == ("Ada Lovelace", "Lovelace")
    assert synset.is_instance
    assert synset.definition == "English writer on computing (1815-1852)"
    assert synset.examples == ("Lovelace wrote notes on the engine",)


def test_wordnet_people_are_asked_for_by_date(tmp_path: Path) -> None:
    for name in ("data.noun", "data.verb", "data.adj", "data.adv"):
        (tmp_path / name).write_text("  1 licence\n" + (PERSON if name == "data.noun" else ""))
    (found,) = wordnet_passages(tmp_path, Random(1))
    assert any("born" in q for q in found.queries)
    assert any("die" in q for q in found.queries)


def test_a_missing_source_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="wordnet-base"):
        PASSAGE_SOURCES["wordnet"](SourcePaths(wordnet=tmp_path), Random(1))


def test_a_missing_collection_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(MissingCollectionError, match="RERANKER_TEST_DATA"):
        load_collection("none", tmp_path)


def test_docstrings_lose_markup_and_examples() -> None:
    assert plain("Read :class:`Queue` *now*.\n=====\n>>> q()") == "Read Queue *now*."


def test_docstrings_are_the_same_under_a_seed() -> None:
    first = docstring_passages(Random(3), ("click",))
    assert first
    assert first == docstring_passages(Random(3), ("click",))


def test_a_cloze_decoy_lacks_the_answer() -> None:
    text = "the copper bridge over the northern harbour was opened to trams in 1931"
    cloze = make_cloze(text, Random(2))
    assert cloze is not None
    assert cloze.answer == text
    assert "1931" not in cloze.question
    assert "1931" not in cloze.hollow


def test_nothing_to_ask_gives_no_cloze() -> None:
    assert make_cloze("nothing here can be asked for by any of the rules", Random(2)) is None


def test_bm25_by_hand() -> None:
    bm25 = Bm25(["red fox", "blue whale"], k1=1.0, b=0.0)
    # idf = log(1 + 1.5 / 1.5), tf part = 1 * 2 / (1 + 1)
    assert bm25.score("a fox", 0) == pytest.approx(np.log(2.0))
    assert bm25.score("a fox", 1) == 0.0


def test_lexical_tokens_are_cut_and_without_stop_words() -> None:
    assert lexical_tokens("The Retrievers of 1999") == ["retrie", "1999"]


def build(folder: Path) -> bytes:
    rng = Random(7)
    drawn = draw(passages(60), 12, 40, rng)
    write_groups(MINER.mine_passages(drawn, 12, rng), folder / "g.gz")
    return (folder / "g.gz").read_bytes()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert build(tmp_path / "a") == build(tmp_path / "b")


def test_groups_begin_with_the_right_passage_and_its_decoy(tmp_path: Path) -> None:
    build(tmp_path)
    groups = read_groups(tmp_path / "g.gz")
    assert len(groups) == 12
    for group in groups:
        assert group.labels[0] == RIGHT
        assert group.candidates[1] == "decoy " + group.candidates[0]
        assert group.labels[1] == WRONG
        assert set(group.labels[1:]) <= {WRONG, UNKNOWN}
        assert len(group.candidates) == len(group.teacher) == len(group.labels)


def test_copies_of_a_right_sentence_are_right_as_well() -> None:
    texts = ["the river froze", "a broker queue", "the river froze"]
    collection = Collection("toy", ["a", "b", "c"], texts, {"q": "river"}, {"q": {"a": 1}})
    (group,) = MINER.mine_collection(collection)
    right = [t for t, y in zip(group.candidates, group.labels, strict=True) if y == RIGHT]
    assert right == ["the river froze", "the river froze"]
    assert group.judged


def test_a_pick_has_one_right_candidate() -> None:
    group = Group("s", "q", list("abcdef"), [0.0] * 6, [1, 0, 1, 0, -1, 0])
    for seed in range(20):
        rows = pick_candidates(group, 4, Random(seed))
        assert sum(group.labels[i] == RIGHT for i in rows) == 1
        assert len(set(rows)) == 4


def test_the_mix_decides_which_sources_come() -> None:
    groups = [Group(s, "q", ["a", "b"], [1.0, 0.0], [1, 0]) for s in ("x", "y") for _ in range(4)]
    batches = endless_batches(groups, {"x": 1.0, "y": 0.0}, 2, 2, Random(1))
    drawn = [next(batches) for _ in range(8)]
    assert all(len(b.queries) == 2 for b in drawn)
