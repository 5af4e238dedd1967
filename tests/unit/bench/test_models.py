"""The table of docs/models.md, on models too small to mean anything."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bench import model_families, model_quality, models
from bench.engine_bundles import BenchError
from bench.models import BEGIN, END, put_into
from bench.report import Table
from export.model_steps import Request, Summary, export_model
from tests.unit.export.family_checkpoints import (
    FAMILIES,
    QUERIES,
    TEXTS,
    write_collection,
    write_family,
    write_pairs,
)


def test_sizes_and_speeds_are_relative_to_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_families, "SIZES", {})
    monkeypatch.setattr(model_families, "WORDS", 301)
    monkeypatch.setattr(model_families, "SHAPES", ((2, 32),))
    monkeypatch.setattr(model_families, "PRECISIONS", ("fp32", "fp16", "int4"))
    table = model_families.family_table(tmp_path, ["bert"], rounds=1)
    fp32, fp16, int4 = table.rows
    assert (fp32["size"], fp32["speed, 32 tokens"]) == ("100.0%", "1.00")
    assert fp16["speed, 32 tokens"] is None
    assert isinstance(int4["MB"], float)
    assert isinstance(fp32["MB"], float)
    assert 0 < int4["MB"] < fp32["MB"]
    assert int(str(int4["alone as in a batch"]).split()[0]) > 30


def test_quality_is_beside_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_family(tmp_path / "bert", "bert")
    data, pairs = write_collection(tmp_path / "any"), write_pairs(tmp_path / "pairs.jsonl")

    def small(request: Request) -> Summary:
        return export_model(replace(request, model=str(model), data=data, calibration=pairs))

    monkeypatch.setattr(model_quality, "export_model", small)
    monkeypatch.setattr(model_quality, "SMALLER", ("int8",))
    judged = write_collection(tmp_path / "own", [(QUERIES[1], [(TEXTS[3], 1), (TEXTS[1], 0)])])
    (table,) = model_quality.quality_table(tmp_path, [judged])
    built_in, own = table.rows
    assert (built_in["queries"], own["queries"]) == (100, 1)
    assert own["collection"] == "own"
    assert float(str(own["ratio"]).rstrip("%")) > 0
    assert isinstance(own["Kendall's tau"], float)


def test_tables_go_between_the_marks_of_a_document(tmp_path: Path) -> None:
    document = tmp_path / "models.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into(document, ["new", "", "lines", ""])
    put_into(document, ["new", "", "lines", ""])
    assert document.read_text() == f"before\n{BEGIN}\nnew\n\nlines\n{END}\nafter\n"
    document.write_text("no marks")
    with pytest.raises(BenchError, match="has no"):
        put_into(document, [])
    assert document.read_text() == "no marks"


def test_the_command_writes_tables_and_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def families(folder: Path, names: Sequence[str], rounds: int) -> Table:
        asked.append((list(names), rounds))
        return Table("families", "Families", [{"family": "bert", "MB": 1.5}])

    def quality(folder: Path, data: Sequence[Path]) -> list[Table]:
        asked.append(data)
        return [Table("quality", "Quality", [{"ratio": "100.00%"}])]

    monkeypatch.setattr(models, "family_table", families)
    monkeypatch.setattr(models, "quality_table", quality)
    document = tmp_path / "models.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    options = ["--out", str(tmp_path / "out"), "--document", str(document)]
    assert models.main([*options, "--data", str(tmp_path)]) == 0
    assert asked == [(list(FAMILIES), 7), [tmp_path]]
    assert "| bert | 1.5 |" in document.read_text()
    assert "| 100.00% |" in document.read_text()
    assert (tmp_path / "out" / "models.json").is_file()
    assert models.main([*options, "--quick"]) == 0
    assert asked[2:] == [(["bert"], 2)]
    assert "100.00%" not in document.read_text()
    document.write_text("no marks")
    assert models.main(options) == 1
