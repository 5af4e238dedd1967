"""Judgements from files: JSON lines, or CSV with a header.

A line names the question by `query` (or `query_id`) and the document by `document`, `text` or
`doc_id`, and judges by `grade` (0-3) or `label` (0 to `label_max`). `annotator`, `tenant` and
`kind: judgement` are optional; other fields are ignored.
"""

import codecs
import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.collect.events import MAX_GRADE, UNDATED, BadEventError, Row, judgement_id
from training.collect.tally import Tally
from training.errors import InputError
from training.plan_data import JudgementFile

MAX_LINE_BYTES = 16 * 1024 * 1024
_TEXTS = ("query_id", "query", "doc_id", "text", "document", "annotator", "tenant")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    content: bytes | str
    fields: Mapping[str, Any] | str  # or why there are none


def read_judgements(plan: JudgementFile, tally: Tally) -> Iterator[Row]:
    """Give the judgements of a file; what can't be used is told to `tally`. Raises InputError."""
    is_csv = plan.format == "csv" or (plan.format == "auto" and plan.path.suffix == ".csv")
    try:
        for line in _csv_lines(plan.path) if is_csv else _json_lines(plan.path):
            tally.read += 1
            where = f"line {line.number}"
            try:
                yield _row(line, plan, f"{plan.path.name}:{line.number}")
            except BadEventError as error:
                tally.add_bad(where, str(error), line.content)
    except OSError as error:
        raise InputError(f"{plan.path} can't be read: {error.strerror or error}") from None


def _row(line: _Line, plan: JudgementFile, origin: str) -> Row:
    if isinstance(line.fields, str):
        raise BadEventError(line.fields)
    if line.fields.get("kind", "judgement") != "judgement":
        raise BadEventError(f"kind is {line.fields['kind']!r}, not 'judgement'")
    texts = {name: _text(line.fields, name) for name in _TEXTS}
    document = texts.pop("document")
    texts["text"] = document if texts["text"] is None else texts["text"]
    if texts["query"] is None and texts["query_id"] is None:
        raise BadEventError("no query (or query_id)")
    if texts["text"] is None and texts["doc_id"] is None:
        raise BadEventError("no document (or text, or doc_id)")
    annotator = texts.pop("annotator") or plan.annotator or plan.path.name
    columns = {**texts, "label": _label(line.fields, plan.label_max), "annotator": annotator}
    columns |= {"event_id": judgement_id(columns), "origin": origin}
    return Row("judgement", UNDATED, columns, len(line.content))


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if name in ("query_id", "doc_id") and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadEventError(f"{name} is not a string")
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        raise BadEventError(f"{name} is not valid Unicode")
    if name in ("query", "text", "document") and not value.strip():
        raise BadEventError(f"{name} is empty")
    return value


def _label(fields: Mapping[str, Any], label_max: float) -> float:
    """Return 0-1; raises BadEventError for what is outside its range."""
    graded = fields.get("grade") not in (None, "")
    name, best = ("grade", float(MAX_GRADE)) if graded else ("label", label_max)
    value = _number(name, fields.get(name))
    if not 0 <= value <= best:
        hint = "" if graded else "; collect.files sets the best one by label_max"
        raise BadEventError(f"{name} {value:g} is outside 0-{best:g}{hint}")
    if graded and value != int(value):
        raise BadEventError(f"grade {value:g} is not a whole number")
    return value / best


def _number(name: str, value: object) -> float:
    if value is None or value == "":
        raise BadEventError("no label (or grade)")
    if not isinstance(value, int | float | str):
        raise BadEventError(f"{name} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise BadEventError(f"{name} is not a number") from None
    if not math.isfinite(number):
        raise BadEventError(f"{name} is not a finite number")
    return number


def _json_lines(path: Path) -> Iterator[_Line]:
    with path.open("rb") as file:
        number = 0
        while content := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            whole = content
            while len(content) > MAX_LINE_BYTES and not content.endswith(b"\n"):
                content = file.readline(MAX_LINE_BYTES)  # read on, and forget
                if not content:
                    break
            line = whole.removeprefix(codecs.BOM_UTF8) if number == 1 else whole
            if line.strip():
                yield _Line(number, line, _parse(line))


def _parse(line: bytes) -> Mapping[str, Any] | str:
    if len(line) > MAX_LINE_BYTES:
        return f"longer than {MAX_LINE_BYTES} bytes"
    try:
        value = json.loads(line)
    except UnicodeDecodeError as error:
        return f"byte {error.start + 1} is not UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError):
        return "not JSON that can be used"
    return value if isinstance(value, dict) else "not a JSON object"


def _csv_lines(path: Path) -> Iterator[_Line]:
    """Give the rows; `number` is the line on which a row ends. Bad UTF-8 shows as surrogates."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(_rows(reader), None)
        if header is None or isinstance(header, str):
            raise InputError(f"{path} has no header: name the columns in its first line")
        if not {"label", "grade"} & set(header):
            raise InputError(
                f"{path}: the header names neither label nor grade, but {', '.join(header)}"
            )
        for row in _rows(reader):
            content = row if isinstance(row, str) else ",".join(row)
            yield _Line(reader.line_num, content, _named(header, row))


def _rows(reader: Any) -> Iterator[list[str] | str]:
    """Give rows, or why there is none; blank lines are left out."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"not CSV: {error}"
            continue
        if row:
            yield row


def _named(header: list[str], row: list[str] | str) -> Mapping[str, Any] | str:
    if isinstance(row, str):
        return row
    if len(row) != len(header):
        return f"{len(row)} columns, not {len(header)}"
    return dict(zip(header, row, strict=True))
