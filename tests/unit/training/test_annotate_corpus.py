"""Pairs made of a corpus: which are made, and which the retriever lets through."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.index import Hit
from training.annotate.corpus_pairs import (
    CorpusUsage,
    corpus_pairs,
    first_sentence,
    make_pairs,
    sample,
)
from training.errors import InputError
from training.plan_data import CorpusPairsPlan

BODY = "It describes in eight words what it is. And then goes on for quite a while longer."


def corpus(folder: Path, *documents: dict[str, str], packed: bool = False) -> Path:
    text = "".join(json.dumps(document) + "\n" for document in documents)
    path = folder / ("corpus.jsonl.gz" if packed else "corpus.jsonl")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def plan_of(path: Path, **options: object) -> CorpusPairsPlan:
    given = {"path": path, "index_bundle": path.parent, **options}
    return CorpusPairsPlan.model_validate(given)


class Finds:
    """Finds for each query the documents that are named."""

    def __init__(self, found: dict[str, list[str]]) -> None:
        self.found = found

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        return [
            [Hit(doc, "", 1.0, rank) for rank, doc in enumerate(self.found.get(query, []), 1)][
                :top_k
            ]
            for query in queries
        ]

    def similarity(self, query: str, texts: Sequence[str]) -> list[float]:
        raise AssertionError


@pytest.mark.parametrize("packed", [False, True])
def test_both_kinds_of_pairs(tmp_path: Path, packed: bool) -> None:
    path = corpus(tmp_path, {"_id": "d", "title": "A good title", "text": BODY}, packed=packed)
    made = [(one.kind, one.query, one.text) for one in make_pairs(plan_of(path))]
    assert made == [
        ("title", "A good title", BODY),
        ("first_sentence", *first_sentence(BODY)),
    ]


def test_what_says_too_little_makes_no_pair(tmp_path: Path) -> None:
    path = corpus(
        tmp_path,
        {"_id": "1", "title": "Introduction", "text": "One sentence that does not end"},
        {"_id": "2", "title": "A title of words", "text": "Too short."},
        {"_id": "3", "text": ""},
    )
    assert list(make_pairs(plan_of(path))) == []
    with pytest.raises(InputError, match="gives no pairs"):
        corpus_pairs(plan_of(path), Finds({}), 0.7, 1, CorpusUsage())


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Version 1.5 is out. It works.", "Version 1.5 is out."),
        ("Really? Yes.", "Really?"),
        ("機器學習是一個分支。它很有用。", "機器學習是一個分支。"),
        ("no end at all", ""),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text)[0] == first


def test_only_what_the_retriever_finds_is_kept(tmp_path: Path) -> None:
    path = corpus(
        tmp_path,
        {"_id": "found", "title": "The found one", "text": BODY},
        {"_id": "deep", "title": "The deep one", "text": BODY},
        {"_id": "lost", "title": "The lost one", "text": BODY},
    )
    finder = Finds({"The found one": ["x", "found"], "The deep one": ["x", "y", "deep"]})
    usage = CorpusUsage()
    plan = plan_of(path, top_k=2, pairs=["title"])
    (pair,) = corpus_pairs(plan, finder, 0.7, 1, usage)
    assert (pair.doc_id, pair.query, pair.text) == ("found", "The found one", BODY)
    assert (pair.label, pair.weight, pair.annotator) == (1.0, 0.7, "corpus:title")
    assert usage == CorpusUsage(made=3, kept={"title": 1}, not_found=2)


def test_a_heading_of_several_documents_asks_nothing(tmp_path: Path) -> None:
    path = corpus(
        tmp_path,
        *({"_id": str(n), "title": "The same heading", "text": f"{n} {BODY}"} for n in range(3)),
        {"_id": "9", "title": "Another one here", "text": BODY},
    )
    made = sample(list(make_pairs(plan_of(path, pairs=["title"]))), 10, 1)
    assert [one.doc_id for one in made] == ["9"]


def test_a_sample_is_the_same_under_a_seed(tmp_path: Path) -> None:
    documents = [{"_id": str(n), "title": f"Title number {n}", "text": BODY} for n in range(50)]
    made = list(make_pairs(plan_of(corpus(tmp_path, *documents), pairs=["title"])))
    assert len(sample(made, 10, 1)) == 10
    assert sample(made, 10, 1) == sample(made, 10, 1) != sample(made, 10, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: not a document"),
        ('{"text": "x"}', "line 1: not a document"),
        ('{"_id": "1", "title": 5}', "line 1: title is not a string"),
    ],
)
def test_a_corpus_that_is_none(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(line)
    with pytest.raises(InputError, match=said):
        list(make_pairs(plan_of(path)))
