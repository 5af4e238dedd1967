"""The world of the simulated users: what there is to find, what is right, and who asks what.

A part of a test collection's questions is asked by users; the rest is held out, and only the gate
and the final measurement ever see it.
"""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from demo.errors import DemoError
from export.corpus import Collection, CorpusError, open_collection
from export.measures import Judgements
from training.seeds import seeded

MIN_QUESTIONS = 10


@dataclass(frozen=True)
class World:
    """Questions by id, and grades by question and document."""

    collection: Collection
    asked: dict[str, str]
    held_out: dict[str, str]
    judgements: Judgements

    def grade(self, question_id: str, doc_id: str) -> int:
        """Return how good an answer is; 0 is wrong."""
        return self.judgements[question_id].get(doc_id, 0)


def open_world(folder: Path, held_out_share: float, questions: int | None, seed: int) -> World:
    """Read a BEIR folder and part its questions; raises DemoError."""
    try:
        collection = open_collection(folder)
    except CorpusError as error:
        raise DemoError(
            f"{error}: set RERANKER_TEST_DATA to the folder of the test collections"
        ) from None
    answered = [
        question_id
        for question_id, grades in collection.judgements.items()
        if any(grade > 0 for grade in grades.values())
    ]
    seeded(seed, "questions").shuffle(answered)
    answered = answered[:questions]
    if len(answered) < MIN_QUESTIONS:
        raise DemoError(f"{folder} has {len(answered)} answered questions: too few")
    held = round(len(answered) * held_out_share)
    texts = collection.queries
    return World(
        collection,
        {question_id: texts[question_id] for question_id in answered[held:]},
        {question_id: texts[question_id] for question_id in answered[:held]},
        collection.judgements,
    )


def write_held_out(world: World, folder: Path) -> Path:
    """Write the held-out questions as a BEIR folder for the gate."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(world.collection.corpus, folder / world.collection.corpus.name)
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as lines:
        for question_id, text in world.held_out.items():
            lines.write(json.dumps({"_id": question_id, "text": text}, ensure_ascii=False) + "\n")
    with (folder / "qrels.tsv").open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t")
        writer.writerow(["query-id", "corpus-id", "score"])
        for question_id in world.held_out:
            for doc_id, grade in world.judgements[question_id].items():
                writer.writerow([question_id, doc_id, grade])
    return folder
