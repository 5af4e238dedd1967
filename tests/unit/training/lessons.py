"""Labels that a tiny cross-encoder can learn in a second: the right document names the topic."""

from pathlib import Path
from random import Random

from tests.unit.export.tiny_cross_encoder import WORDS
from training.label_rows import LabelRow, Split, write_rows

SPLITS: tuple[Split, ...] = ("train",) * 7 + ("dev",) + ("test",) * 2


def lesson_rows(queries: int = 80, *, seed: int = 3, right: float = 1.0) -> list[LabelRow]:
    """Return rows of queries `<word> <word> <number>`, each with two right documents of eight."""
    rng = Random(seed)
    rows = []
    for number in range(queries):
        topic, other = rng.sample(WORDS, 2)
        query = f"{topic} {other} {number}"
        for place in range(8):
            is_right = place in (2, 5)
            words = [word for word in WORDS if word not in (topic, other)]
            text = " ".join(rng.sample(words, 5) + ([topic, other] if is_right else []))
            rows.append(
                LabelRow(
                    query_id=f"q{number}",
                    query=query,
                    tenant=None,
                    doc_id=f"q{number}-d{place}",
                    text=text,
                    label=right if is_right else 0.0,
                    weight=1.0,
                    split=SPLITS[number % len(SPLITS)],
                    source="judgement",
                    retrieval_rank=place + 1,
                    retrieval_score=0.9 - place / 10,
                )
            )
    return rows


def write_lessons(run: Path, rows: list[LabelRow] | None = None) -> Path:
    """Write `labels/groups.parquet` into a run's folder and return the folder."""
    (run / "labels").mkdir(parents=True, exist_ok=True)
    write_rows(lesson_rows() if rows is None else rows, run / "labels" / "groups.parquet")
    return run
