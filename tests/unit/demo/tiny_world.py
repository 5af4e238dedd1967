"""A small collection in a made-up language: what a text is about is the word that it repeats.

`fox fox q` asks for documents about `fox`; single letters mean nothing.
"""

import csv
import json
from pathlib import Path
from string import ascii_lowercase

from tests.unit.export.tiny_cross_encoder import WORDS
from training.seeds import seeded

DOCUMENTS = 280
QUESTIONS = 70


def write_tiny_world(folder: Path) -> Path:
    """Write a BEIR folder and return it."""
    folder.mkdir(parents=True)
    rng = seeded(3, "world")
    topics = [WORDS[number % len(WORDS)] for number in range(max(DOCUMENTS, QUESTIONS))]
    documents = [
        rng.sample([topic, topic, topic, *rng.sample(ascii_lowercase, 3)], 6)
        for topic in topics[:DOCUMENTS]
    ]
    endings = rng.sample([f"{one} {two}" for one in ascii_lowercase for two in "qxyz"], QUESTIONS)
    questions = [
        (topic, f"{topic} {topic} {end}")
        for topic, end in zip(topics[:QUESTIONS], endings, strict=True)
    ]
    with (folder / "corpus.jsonl").open("w") as lines:
        for number, words in enumerate(documents):
            lines.write(json.dumps({"_id": f"d{number}", "text": " ".join(words)}) + "\n")
    with (folder / "queries.jsonl").open("w") as lines:
        for number, (_, text) in enumerate(questions):
            lines.write(json.dumps({"_id": f"q{number}", "text": text}) + "\n")
    with (folder / "qrels.tsv").open("w", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t")
        writer.writerow(["query-id", "corpus-id", "score"])
        for number, (topic, _) in enumerate(questions):
            for place, words in enumerate(documents):
                if topic in words:
                    writer.writerow([f"q{number}", f"d{place}", 1])
    return folder
