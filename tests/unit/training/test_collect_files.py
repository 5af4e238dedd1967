"""Judgements from files: what is taken, what is counted and quoted, when a file is refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from training.__main__ import main
from training.collect.command import collect
from training.collect.store import event_files
from training.errors import InputError
from training.plan_data import CollectPlan, JudgementFile
from training.run_folder import RunFolder

GOOD: dict[str, Any] = {"query": "red fox", "document": "a fox that is red", "label": 1}


def lines(path: Path, *values: object) -> Path:
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8", newline="")
    return path


def collected(run: RunFolder) -> list[dict[str, Any]]:
    files = event_files(run, "judgement")
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def take(tmp_path: Path, *files: JudgementFile, **options: Any) -> dict[str, Any]:
    return collect(CollectPlan(files=list(files), **options), RunFolder(tmp_path / "run"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "my_rerank_data.jsonl"


def test_json_lines_of_both_forms(tmp_path: Path, data: Path) -> None:
    event = {"kind": "judgement", "query_id": "q", "doc_id": "d", "grade": 2, "annotator": "anna"}
    lines(data, GOOD, event, GOOD | {"user": "u-9", "text": "x", "label": 0.5})
    assert take(tmp_path, JudgementFile(path=data))["kept"]["judgement"] == 3
    first, second, third = collected(RunFolder(tmp_path / "run"))
    assert (first["query"], first["text"], first["label"]) == ("red fox", "a fox that is red", 1.0)
    assert first["annotator"] == "my_rerank_data.jsonl"
    assert first["origin"] == "my_rerank_data.jsonl:1"
    assert (second["query_id"], second["doc_id"], second["annotator"]) == ("q", "d", "anna")
    assert second["label"] == pytest.approx(2 / 3)
    assert (third["text"], third["label"], third["user"]) == ("x", 0.5, None)


def test_csv_with_a_header_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "judged.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "document", "label", "annotator"])
        writer.writerow(["red fox", 'a "fox",\nred', 2, "ben"])
        writer.writerow(["blue fox", "a whale", 0, "ben"])
    take(tmp_path, JudgementFile(path=path, label_max=3))
    first, second = collected(RunFolder(tmp_path / "run"))
    assert first["text"] == 'a "fox",\nred'
    assert (first["label"], second["label"]) == (pytest.approx(2 / 3), 0.0)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"query": "x"', "not JSON: "),
        ("[1]", "not a JSON object"),
        ({"query": "x", "document": "y"}, "no label (or grade)"),
        ({"document": "y", "label": 1}, "no query (or query_id)"),
        ({"query": "x", "label": 1}, "no document (or text, or doc_id)"),
        (GOOD | {"label": 7}, "label 7 is outside 0-1; collect.files sets the best one by"),
        (GOOD | {"label": -0.1}, "label -0.1 is outside 0-1"),
        (GOOD | {"label": "nan"}, "label is not a finite number"),
        (GOOD | {"label": "good"}, "label is not a number"),
        (GOOD | {"label": [1]}, "label is not a number"),
        (GOOD | {"grade": 4}, "grade 4 is outside 0-3"),
        (GOOD | {"grade": 1.5}, "grade 1.5 is not a whole number"),
        (GOOD | {"query": 5}, "query is not a string"),
        (GOOD | {"query": " \t"}, "query is empty"),
        (GOOD | {"kind": "click"}, "kind is 'click', not 'judgement'"),
        ('{"query": "\\ud800", "document": "y", "label": 1}', "query is not valid Unicode"),
    ],
)
def test_a_malformed_line_is_counted_and_quoted_with_its_number(
    tmp_path: Path, data: Path, line: object, why: str
) -> None:
    lines(data, *[GOOD] * 3, line, "", GOOD | {"document": "another"})
    found = take(tmp_path, JudgementFile(path=data), max_bad_share=0.2)
    assert found["kept"]["judgement"] == 2  # three lines say the same
    assert found[str(data)]["malformed"] == 1
    (quoted,) = found[str(data)]["first_malformed"]
    assert quoted.startswith(f"line 4: {why}")


def test_bytes_that_are_no_text(tmp_path: Path, data: Path) -> None:
    data.write_bytes(json.dumps(GOOD).encode() + b'\n{"query": "\xff"}\n')
    found = take(tmp_path, JudgementFile(path=data), max_bad_share=0.5)
    assert "line 2: byte 12 is not UTF-8" in found[str(data)]["first_malformed"][0]
    table = tmp_path / "judged.csv"
    table.write_bytes(b"query,text,label\nx,\xff,1\nx,y\nx,y,1\n")
    found = take(tmp_path, JudgementFile(path=table), max_bad_share=0.7)
    one, two = found[str(table)]["first_malformed"]
    assert one.startswith("line 2: text is not valid Unicode")
    assert two.startswith("line 3: 2 columns, not 3")


def test_too_many_malformed_lines_refuse_the_whole_file(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(data, GOOD, *["{"] * 7)
    plan = tmp_path / "plan.yaml"
    plan.write_text(json.dumps({"collect": {"files": [{"path": str(data)}]}}))
    assert main(["collect", "--plan", str(plan), "--run", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "7 of 8 are malformed (88%), more than collect.max_bad_share (5%) allows" in said
    assert "line 2: not JSON" in said
    assert "and 2 more" in said
    assert collected(RunFolder(tmp_path / "run")) == []


def test_the_same_file_again_adds_nothing(tmp_path: Path, data: Path) -> None:
    lines(data, GOOD, GOOD | {"label": 0})
    take(tmp_path, JudgementFile(path=data))
    assert take(tmp_path, JudgementFile(path=data))[str(data)] == {"read": 0, "unchanged": True}
    lines(data, GOOD, GOOD | {"label": 0}, GOOD | {"query": "new"})
    assert take(tmp_path, JudgementFile(path=data))["kept"] == {
        "impression": 0, "click": 0, "judgement": 3, "duplicates": 2,
    }  # fmt: skip
    assert len(collected(RunFolder(tmp_path / "run"))) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no header"),
        ("query,text\nx,y\n", "the header names neither label nor grade, but query, text"),
    ],
)
def test_a_csv_without_what_it_needs(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "judged.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        take(tmp_path, JudgementFile(path=path))


def test_nothing_to_collect_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"set collect\.kafka, collect\.files or both"):
        take(tmp_path)
    with pytest.raises(InputError, match=r"none\.jsonl does not exist"):
        take(tmp_path, JudgementFile(path=tmp_path / "none.jsonl"))
