"""Parquet schemas of dataclasses."""

import pyarrow as pa

from training.annotate.pairs import Annotated
from training.label_rows import GROUPS_SCHEMA
from training.parquet_schema import schema_of


def test_what_may_be_none_may_be_null_and_nothing_else() -> None:
    assert GROUPS_SCHEMA.field("tenant") == pa.field("tenant", pa.string())
    assert GROUPS_SCHEMA.field("split") == pa.field("split", pa.string(), nullable=False)
    assert GROUPS_SCHEMA.field("label") == pa.field("label", pa.float64(), nullable=False)
    assert GROUPS_SCHEMA.field("retrieval_rank") == pa.field("retrieval_rank", pa.int32())
    assert GROUPS_SCHEMA.field("retrieval_score") == pa.field("retrieval_score", pa.float64())


def test_columns_are_in_the_order_of_the_fields() -> None:
    names = ["query", "tenant", "doc_id", "text", "label", "weight", "annotator"]

    assert schema_of(Annotated).names == names
