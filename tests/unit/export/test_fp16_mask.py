"""An fp16 graph that can't do with sequences filled up is exported without its mask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from engine.bundles import open_model
from engine.graph import MASK
from engine.score import Scorer
from export import model_steps
from export.__main__ import main
from export.errors import FillingError
from tests.unit.export.conftest import CrossEncoder
from tests.unit.export.family_checkpoints import write_collection, write_pairs

NOTE = "exporting without a mask"


@pytest.mark.parametrize("failing", ["fp32", "fp16", None])
def test_where_filling_up_changes_logits_there_is_no_mask(
    failing: str | None,
    cross_encoder: CrossEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checked: list[str] = []

    def check(*_: Any) -> None:
        checked.append("fp16" if checked else "fp32")
        if checked[-1] == failing:
            raise FillingError("filling sequences up changes logits by 0.02")

    monkeypatch.setattr(model_steps, "check_filled", check)
    out = tmp_path / "bundle"
    options = {
        "--model": cross_encoder("bert"),
        "--precision": "fp16",
        "--out": out,
        "--data": write_collection(tmp_path / "data"),
        "--calibration": write_pairs(tmp_path / "pairs.jsonl"),
    }

    assert main(["model", *(str(part) for option in options.items() for part in option)]) == 0

    bundle = open_model(out)
    notes = [line for line in capsys.readouterr().err.splitlines() if NOTE in line]
    assert (MASK in bundle.manifest.inputs) == (failing is None)
    assert bundle.manifest.verification is not None
    assert len(notes) == (failing is not None)
    assert all(line.startswith("filling sequences up changes logits by 0.02: ") for line in notes)
    # Without a mask there is nothing more to check of it.
    assert checked == (["fp32"] if failing == "fp32" else ["fp32", "fp16"])
    scorer = Scorer.open(bundle)
    try:
        assert np.isfinite([one.logit for one in scorer.score([("read a file", "a file")])]).all()
    finally:
        scorer.close()
