"""Parquet schemas made from dataclasses, so that the two can't drift."""

from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa

_TYPES: dict[type, pa.DataType] = {str: pa.string(), float: pa.float64(), int: pa.int32()}


def schema_of(record: type) -> pa.Schema:
    """Return a column for each field of a dataclass, which may be null where it may be None.

    Fields are strings, literals of strings, floats (64 bit) and integers (32 bit).
    """
    return pa.schema([_column(name, hint) for name, hint in get_type_hints(record).items()])


def _column(name: str, hint: Any) -> pa.Field:
    parts = [part for part in get_args(hint) if part is not NoneType]
    nullable = NoneType in get_args(hint)
    plain = parts[0] if nullable else hint
    if get_origin(plain) is Literal:
        plain = type(get_args(plain)[0])
    return pa.field(name, _TYPES[plain], nullable=nullable)
