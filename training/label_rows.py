"""`labels/groups.parquet`: one (query, document) a row, the rows of a query side by side."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import InputError
from training.parquet_schema import schema_of
from training.run_folder import written_beside

Split = Literal["train", "dev", "test"]
LabelSource = Literal["click", "judgement", "annotated", "mined"]
_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A labelled pair.

    `query_id` names the question's text and tenant, not one time that it was asked. `label` is
    0 (wrong) to 1 (right), a grade of 0-3 over 3. `weight` is above 0; 1 is a person's sure
    judgement. `retrieval_rank` counts from 1; both it and the score are None where not known.
    """

    query_id: str
    query: str
    tenant: str | None
    doc_id: str
    text: str
    label: float
    weight: float
    split: Split
    source: LabelSource
    retrieval_rank: int | None = None
    retrieval_score: float | None = None


GROUPS_SCHEMA = schema_of(LabelRow)


def write_rows(rows: Iterable[LabelRow], path: Path) -> int:
    """Write rows, whole or not at all; returns how many. Equal rows give equal bytes."""
    count = 0
    with written_beside(path) as beside, pq.ParquetWriter(beside, GROUPS_SCHEMA) as writer:
        batch: list[LabelRow] = []
        for row in rows:
            batch.append(row)
            count += 1
            if len(batch) == _BATCH_ROWS:
                writer.write_table(_table(batch))
                batch = []
        if batch:
            writer.write_table(_table(batch))
    return count


def read_rows(path: Path, split: Split | None = None) -> Iterator[LabelRow]:
    """Give the rows in their order, of one split or of all; raises InputError."""
    names = [field.name for field in fields(LabelRow)]
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run `python -m training label` first") from None
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not Parquet: {error}") from None
    with file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=names):
            for record in batch.to_pylist():
                if split is None or record["split"] == split:
                    yield LabelRow(**record)


def _table(rows: list[LabelRow]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=GROUPS_SCHEMA)
