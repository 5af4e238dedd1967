"""Bundles of all families load and score in a process that has no PyTorch and no transformers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from export.__main__ import main
from tests.unit.export.family_checkpoints import (
    TEXTS,
    write_collection,
    write_family,
    write_pairs,
)

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

BLOCKED = ("torch", "transformers", "optimum", "onnx", "peft", "sentence_transformers", "scipy")
WITHOUT = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocked())
from worker.__main__ import main
code = main(sys.argv[1:])
assert not {set(BLOCKED)!r} & {{name.partition(".")[0] for name in sys.modules}}
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("bert", "int8"),
        ("qwen3", "int4"),
        pytest.param("deberta-v2", "int4", marks=pytest.mark.long),
        pytest.param("modernbert", "int8", marks=pytest.mark.long),
    ],
)
def test_a_worker_ranks_without_them(family: str, precision: str, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    words = ["--model", write_family(tmp_path / family, family), "--precision", precision]
    words += ["--out", out, "--data", write_collection(tmp_path / "data")]
    words += ["--calibration", write_pairs(tmp_path / "pairs.jsonl")]
    assert main(["model", *map(str, words)]) == 0
    event = {
        "query_id": "q-1",
        "query": "what is a broker",
        "candidates": [{"doc_id": str(at), "text": text} for at, text in enumerate(TEXTS)],
    }
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT, "rank", "--model-bundle", str(out)],
        input=json.dumps(event) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    ranked = json.loads(ended.stdout)
    assert ranked["tier"] == "full"
    assert ranked["model"]["precision"] == precision
    assert len({entry["score"] for entry in ranked["ranking"]}) == len(TEXTS)
