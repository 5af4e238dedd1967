"""`disagreements.csv`: pairs for adjudication, the widest disputes first.

What is decided comes back as a judgement of an adjudicator, whose word ends the dispute.
"""

import csv
from pathlib import Path

from training.label.build import Dispute, Labelled
from training.run_folder import written_beside


def write_disputes(path: Path, labelled: Labelled) -> None:
    """Write query, document, what each annotator says, and what was made of it."""
    names = sorted({name for one in labelled.disputes for name in one.labels})

    def spread(one: Dispute) -> tuple[float, str, str]:
        values = list(one.labels.values())
        return (min(values) - max(values), one.query, one.doc_id)

    with written_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "doc_id", "text", *names, "label", "weight"])
        for one in sorted(labelled.disputes, key=spread):
            said = [_shown(one.labels.get(name)) for name in names]
            cells = [one.query, one.doc_id, one.text, *said, _shown(one.label), one.weight]
            writer.writerow([_harmless(cell) for cell in cells])


def _harmless(cell: object) -> object:
    """Keep a spreadsheet from taking text for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in "=+-@\t\r" and cell else cell


def _shown(label: float | None) -> float | None:
    return None if label is None else round(label, 4)
