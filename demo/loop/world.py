"""The world of the simulated users: what there is to find, what is right, and who asks what.

Some of the judged questions are asked by users; others are held out, and only the gate and the
final measurement ever see them. Both come of one collection, or the held-out ones of another.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from demo.errors import DemoError
from export.corpus import Collection, CorpusError, open_collection, read_corpus, write_qrels
from training.seeds import seeded

MIN_QUESTIONS = 10
# Parts of a collection whose questions users ask, and the one that is held out.
ASKED = ("train", "dev")
HELD_OUT = "test"


@dataclass(frozen=True)
class World:
    """Questions by id; what users search, and what the held-out questions are searched in."""

    collection: Collection
    held_out_of: Collection
    asked: dict[str, str]
    held_out: dict[str, str]

    @property
    def name(self) -> str:
        """What the output calls it."""
        if self.held_out_of is self.collection:
            return self.collection.name
        return f"{self.collection.name}, held out: {self.held_out_of.name}"

    def grade(self, question_id: str, doc_id: str) -> int:
        """Return how good an answer to a question of users is; 0 is wrong."""
        return self.collection.judgements[question_id].get(doc_id, 0)


def open_world(
    folder: Path,
    held_out_share: float,
    questions: int | None,
    seed: int,
    work: Path | None = None,
) -> World:
    """Read a BEIR folder and part its questions by share; raises DemoError.

    Of a folder with parts `train`, `dev` and `test`, users ask at most `questions` of the first
    two, which are put together in `work`, and those of `test` are held out.
    """
    parts = [folder / name for name in ASKED if (folder / name).is_dir()]
    if work is not None and parts and (folder / HELD_OUT).is_dir():
        return _parted(parts, folder / HELD_OUT, work, questions, seed)
    collection = _open(folder)
    answered = _answered(collection, questions, seed)
    held = round(len(answered) * held_out_share)
    asked, kept = answered[held:], answered[:held]
    return World(collection, collection, _texts(collection, asked), _texts(collection, kept))


def _parted(
    parts: Sequence[Path], held_out: Path, work: Path, questions: int | None, seed: int
) -> World:
    collection = _open(parts[0]) if len(parts) == 1 else _together(parts, work)
    other = _open(held_out)
    asked, kept = _answered(collection, questions, seed), _answered(other, None, seed)
    return World(collection, other, _texts(collection, asked), _texts(other, kept))


def _texts(collection: Collection, ids: Sequence[str]) -> dict[str, str]:
    return {question_id: collection.queries[question_id] for question_id in ids}


def write_held_out(world: World, folder: Path) -> Path:
    """Write the held-out questions as a BEIR folder for the gate."""
    folder.mkdir(parents=True, exist_ok=True)
    source = world.held_out_of
    shutil.copyfile(source.corpus, folder / source.corpus.name)
    kept = {one: (text, source.judgements[one]) for one, text in world.held_out.items()}
    _write_questions(folder, kept)
    return folder


def _open(folder: Path) -> Collection:
    try:
        return open_collection(folder)
    except CorpusError as error:
        raise DemoError(
            f"{error}: set RERANKER_TEST_DATA to the folder of the test collections"
        ) from None


def _answered(collection: Collection, questions: int | None, seed: int) -> list[str]:
    """Return the ids of those questions that something answers, shuffled, at most so many."""
    found = [
        question_id
        for question_id, grades in collection.judgements.items()
        if any(grade > 0 for grade in grades.values())
    ]
    seeded(seed, "questions").shuffle(found)
    found = found[:questions]
    if len(found) < MIN_QUESTIONS:
        raise DemoError(f"{collection.name} has {len(found)} answered questions: too few")
    return found


def _together(folders: Sequence[Path], work: Path) -> Collection:
    """Write one BEIR folder of several, with the folder's number before each id, and open it."""
    collections = [_open(folder) for folder in folders]
    work.mkdir(parents=True, exist_ok=True)
    questions: dict[str, tuple[str, dict[str, int]]] = {}
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as lines:
        for number, one in enumerate(collections, start=1):
            for document in read_corpus(one.corpus):
                _write_line(lines, {"_id": f"{number}/{document.doc_id}", "text": document.text})
            for question_id, grades in one.judgements.items():
                named = {f"{number}/{doc_id}": grade for doc_id, grade in grades.items()}
                questions[f"{number}/{question_id}"] = (one.queries[question_id], named)
    _write_questions(work, questions)
    return replace(open_collection(work), name=" + ".join(one.name for one in collections))


def _write_questions(folder: Path, questions: dict[str, tuple[str, dict[str, int]]]) -> None:
    """Write `queries.jsonl` and `qrels.tsv` of questions by id, each with text and judgements."""
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as lines:
        for question_id, (text, _) in questions.items():
            _write_line(lines, {"_id": question_id, "text": text})
    judgements = {question_id: grades for question_id, (_, grades) in questions.items()}
    write_qrels(folder / "qrels.tsv", judgements)


def _write_line(lines: IO[str], fields: dict[str, str]) -> None:
    lines.write(json.dumps(fields, ensure_ascii=False) + "\n")
