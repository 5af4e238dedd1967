"""The init containers of the manifests, run as they stand there, on bundles of this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main as export
from export.inspect import open_any
from export.seal import seal, staging_beside
from k8s.checks.render import K8S, Manifests, build, parse
from tests.unit.export.test_seal import fields as model_fields
from tests.unit.k8s.rendering import need

INDEX = {
    "kind": "index",
    "name": "documents",
    "documents": 1,
    "index_type": "flat",
    "embedder": {
        "name": "tiny",
        "inputs": ["input_ids"],
        "output": "tokens",
        "pooling": "mean",
        "normalize": True,
        "dimension": 4,
        "max_tokens": 16,
        "prefix": [],
        "suffix": [],
        "pad_token_id": 0,
        "source": {"name": "tiny", "digest": "sha256:" + "0" * 64},
    },
    "tools": {},
}


def sealed(out: Path, fields: dict[str, Any]) -> Path:
    with staging_beside(out) as staging:
        (staging / "content").write_text(f"what the {out.name} is")
        return seal(staging, fields, out)


@pytest.fixture
def pod(tmp_path: Path) -> Manifests:
    """The variant `store`, with bundles that exist and volumes of this test."""
    need("kustomize")
    text = build(K8S / "checks/variants/store")
    for name, fields, digit in (("model", model_fields("tiny"), "1"), ("index", INDEX, "2")):
        folder = sealed(tmp_path / "made" / name, fields)
        digits = open_any(folder).digest.removeprefix("sha256:")
        assert export(["push", str(folder), f"file://{tmp_path}/store/{digits}"]) == 0
        text = text.replace(digit * 64, digits)
    (tmp_path / "bundles").mkdir()
    text = text.replace("s3://bundles", f"file://{tmp_path}/store")
    return parse("pod", text.replace("=/bundles/", f"={tmp_path}/bundles/"))


def run(manifests: Manifests, name: str) -> subprocess.CompletedProcess[str]:
    """Run an init container as the kubelet would: variables first, then command and arguments."""
    container = next(
        each for each in manifests.worker_pod["initContainers"] if each["name"] == name
    )
    variables = {"PATH": os.environ["PATH"]}
    for variable in container["env"]:
        key = variable.get("valueFrom", {}).get("configMapKeyRef", {}).get("key")
        variables[variable["name"]] = manifests.values[key] if key else variable["value"]
    words = [*container.get("command", ["python", "-m", "worker"]), *container["args"]]
    command = [re.sub(r"\$\((\w+)\)", lambda m: variables[m.group(1)], word) for word in words]
    return subprocess.run(
        [sys.executable, *command[1:]],
        env=variables,
        cwd=K8S.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def test_they_fetch_what_the_digests_name_and_the_last_one_checks_it(
    pod: Manifests, tmp_path: Path
) -> None:
    for name in ("index", "model", "verify", "model"):
        done = run(pod, name)
        assert done.returncode == 0, done.stderr
    both = {path.name for path in (tmp_path / "bundles").iterdir()}
    assert both == {"index", "model"}
    assert (tmp_path / "bundles/model/content").read_text() == "what the model is"


def test_the_last_one_refuses_what_was_altered(pod: Manifests, tmp_path: Path) -> None:
    for name in ("index", "model"):
        assert run(pod, name).returncode == 0
    (tmp_path / "bundles/index/content").write_text("something else")
    assert run(pod, "verify").returncode == 78


def test_a_store_that_holds_another_bundle_is_refused(pod: Manifests, tmp_path: Path) -> None:
    digits = pod.values["MODEL_DIGEST"].removeprefix("sha256:")
    other = sealed(tmp_path / "other", model_fields("other"))
    assert export(["push", str(other), f"file://{tmp_path}/store/{digits}", "--force"]) == 0
    done = run(pod, "model")
    assert done.returncode == 1
    assert "was asked for" in done.stderr
    assert not list((tmp_path / "bundles").iterdir())
