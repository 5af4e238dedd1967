"""`annotated/pairs.parquet`: what a machine says of a pair."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.parquet_schema import schema_of
from training.run_folder import RunFolder, written_beside

PAIRS = "pairs.parquet"


@dataclass(frozen=True, slots=True)
class Annotated:
    """A label (0-1) that a machine made; `annotator` names it."""

    query: str
    tenant: str | None
    doc_id: str
    text: str
    label: float
    weight: float
    annotator: str


def write_pairs(pairs: Sequence[Annotated], path: Path) -> None:
    """Write pairs, whole or not at all."""
    table = pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=schema_of(Annotated))
    with written_beside(path) as beside:
        pq.write_table(table, beside)


def read_pairs(run: RunFolder) -> list[Annotated]:
    """Return the pairs of a run; none where nothing was annotated."""
    path = run.annotated / PAIRS
    if not path.exists():
        return []
    return [Annotated(**record) for record in pq.read_table(path).to_pylist()]
