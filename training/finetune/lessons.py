"""Which of the labels can be learnt from."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from engine.pairs import PairEncoder
from training.console import console
from training.finetune.draws import worth_training
from training.finetune.errors import LabelsError
from training.finetune.labels import LabelledQuery, read_labels


@dataclass(frozen=True)
class Lessons:
    """Queries to learn from, and queries to look at."""

    train: list[LabelledQuery]
    dev: list[LabelledQuery]

    def scored_by(self, teacher: Container[str]) -> "Lessons":
        """Return it with the queries that a teacher has scores for; raises LabelsError if none."""
        train = [query for query in self.train if query.query_id in teacher]
        if not train:
            raise LabelsError("every query is too long for the teacher: raise train.max_tokens")
        if len(train) < len(self.train):
            left_out = len(self.train) - len(train)
            console.print(f"{left_out:,} queries left out that are too long for the teacher")
        return Lessons(train, self.dev)


def find_lessons(labels: Path, encoder: PairEncoder) -> Lessons:
    """Return what can be learnt from; raises LabelsError where that is nothing."""
    splits = read_labels(labels)
    if not any(query.has_right for query in splits["train"]):
        raise LabelsError(
            f"{labels} has no document with a label above 0 in the split train: there is nothing "
            "to learn; collect more clicks or judgements"
        )
    train = [query for query in worth_training(splits["train"]) if encoder.fits(query.query)]
    known = [query.known() for query in splits["dev"]]
    dev = [query for query in known if query.teaches and encoder.fits(query.query)]
    if not train:
        raise LabelsError(
            f"{labels}: in no query of the split train is one document better than another: there "
            "is nothing to learn"
        )
    if not dev:
        raise LabelsError(
            f"{labels}: no query of the split dev has documents of different labels, so nothing "
            "says when to stop: give dev a larger share"
        )
    left_out = len(splits["train"]) - len(train)
    console.print(
        f"{len(train):,} queries to learn from, {left_out:,} left out that teach nothing or are "
        f"too long; {len(dev):,} to look at",
        highlight=False,
        soft_wrap=True,
    )
    return Lessons(train, dev)
