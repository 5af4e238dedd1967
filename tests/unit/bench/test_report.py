"""Tables as JSON and Markdown, and plots of them."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.report import Machine, Row, Table, markdown, show, write
from bench.report_plots import plot

MACHINE = Machine("a CPU", 2, 0.5, "3.11", {"onnxruntime": "1"})
ENGINE: list[Row] = [
    {
        "texts": "natural",
        "tokens/pair": 40.5,
        "precision": "int8",
        "lanes": 2,
        "questions": "all waiting",
        "pairs/s": 1234.5,
    }
]
LATENCY: list[Row] = [
    {"load": "25%", "p50 ms": 1.0, "p99 ms": 3.0, "max ms": 4.0},
    {"load": "50%", "p50 ms": 2.0, "p99 ms": 6.0, "max ms": 8.0},
]


def test_markdown() -> None:
    assert markdown(Table("t", "Title", [{"a": 1234, "b": None, "c": 0.12345}], "note")) == [
        "### Title",
        "",
        "| a | b | c |",
        "|---|---|---|",
        "| 1,234 | - | 0.123 |",
        "",
        "note",
        "",
    ]


def test_files(tmp_path: Path) -> None:
    write(tmp_path / "new", "bench", MACHINE, [Table("engine", "Engine", ENGINE)])
    found = json.loads((tmp_path / "new/bench.json").read_text())
    assert found["tables"] == {"engine": ENGINE}
    assert found["machine"]["cpu"] == "a CPU"
    assert "| 1,23" in (tmp_path / "new/bench.md").read_text()


def test_on_the_screen() -> None:
    console = Console(width=120, record=True, file=StringIO())
    show(console, MACHINE, [Table("engine", "Engine", ENGINE), Table("none", "Empty", [])])
    assert "all waiting" in console.export_text()


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra [bench]")
    tables = [Table("engine", "Engine", ENGINE), Table("latency", "Latency", LATENCY)]
    written = plot(tmp_path, tables)
    assert [file.name for file in written] == ["throughput.svg", "latency.svg"]
    assert all("<svg" in file.read_text() for file in written)


def test_no_data_no_plots(tmp_path: Path) -> None:
    assert plot(tmp_path, [Table("engine", "Engine", [])]) == []
