import os
from pathlib import Path
from typing import Any

import pytest

from engine.bundles import open_model
from export.errors import ExportError, TargetExistsError
from export.seal import seal, staging_beside

DIGEST = "sha256:" + "0" * 64


def fields(name: str = "one") -> dict[str, Any]:
    pair = {
        "prefix": [101],
        "infix": [102],
        "suffix": [102],
        "max_tokens": 512,
        "max_query_tokens": 64,
        "token_types": True,
    }
    return {
        "kind": "model",
        "name": name,
        "family": "bert",
        "precision": "fp32",
        "recipe": "trimmed",
        "inputs": ["input_ids"],
        "output": "logit",
        "pair": pair,
        "pad_token_id": 0,
        "base": {"name": "base", "digest": DIGEST},
        "tools": {},
    }


def write(out: Path, text: str, *, force: bool = False) -> None:
    with staging_beside(out, force=force) as staging:
        (staging / "model.onnx").write_text(text)
        (staging / "sub").mkdir()
        (staging / "sub" / "tokenizer.json").write_text("{}")
        seal(staging, fields(text), out, force=force)


def test_sealed_folder_opens_as_a_bundle_with_every_file(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "bundle"
    write(out, "one")
    bundle = open_model(out)
    assert set(bundle.manifest.files) == {"model.onnx", "sub/tokenizer.json"}
    assert bundle.manifest.files["model.onnx"].bytes == 3
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]


def test_same_content_gives_the_same_digest(tmp_path: Path) -> None:
    write(tmp_path / "a", "one")
    write(tmp_path / "b", "one")
    assert open_model(tmp_path / "a").digest == open_model(tmp_path / "b").digest


def test_existing_bundle_stays_without_force_and_is_replaced_with_it(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write(out, "one")
    with pytest.raises(TargetExistsError, match="--force"):
        write(out, "two")
    assert open_model(out).manifest.name == "one"
    write(out, "two", force=True)
    assert open_model(out).manifest.name == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_replacing_works_where_the_system_has_no_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.seal._exchange", lambda one, other: False)
    write(tmp_path / "bundle", "one")
    write(tmp_path / "bundle", "two", force=True)
    assert open_model(tmp_path / "bundle").manifest.name == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_force_never_replaces_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "letters.txt").write_text("dear")
    with pytest.raises(TargetExistsError, match="not a bundle"):
        write(out, "one", force=True)
    assert (out / "letters.txt").read_text() == "dear"


def test_failing_export_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staging_beside(tmp_path / "bundle") as staging:
            (staging / "model.onnx").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_links_are_refused(tmp_path: Path) -> None:
    with staging_beside(tmp_path / "bundle") as staging:
        (staging / "model.onnx").symlink_to("/etc/hostname")
        with pytest.raises(ExportError, match="plain file"):
            seal(staging, fields(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_removed_and_what_one_at_work_has_stays(
    tmp_path: Path,
) -> None:
    with staging_beside(tmp_path / "out") as at_work, staging_beside(tmp_path / "other") as other:
        left = tmp_path / ".out.abc.new"
        (left / "sub").mkdir(parents=True)
        for folder in (left, at_work, other):
            os.utime(folder, (0, 0))

        with staging_beside(tmp_path / "out") as mine:
            there = set(tmp_path.iterdir())

    assert there == {at_work, other, mine}
    assert list(tmp_path.iterdir()) == []
