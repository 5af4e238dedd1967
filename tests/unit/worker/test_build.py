"""What the parts are put together with: threads by where they run, keys by what scores."""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.bundles import Bundle, open_model
from engine.devices import Device, open_lanes
from engine.index import Retriever
from engine.lanes import Lanes
from schemas.manifests import ModelManifest
from tests.fakes.store import FakeStore
from tests.unit.tiny_retrieval import write_counting_model
from worker import build
from worker.build import Bundles, _scored_by, build_engine
from worker.settings import BatchSettings, PassageSettings, Settings

CORES = 8


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many threads models and index are opened with; every device is played by the CPU."""
    threads: dict[str, int] = {}

    def lanes(bundle: Bundle[ModelManifest], device: Device, count: int, _: Path | None) -> Lanes:
        threads["model"] = count
        return open_lanes(bundle, "cpu", count)

    def index(_: object, count: int) -> object:
        threads["index"] = count
        return object()

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)))
    monkeypatch.setattr(build, "open_lanes", lanes)
    monkeypatch.setattr(Retriever, "open", index)
    return threads


@pytest.mark.parametrize(
    ("device", "wanted", "scoring", "retrieving"),
    [
        ("cpu", 0, CORES, CORES),
        ("openvino", 0, CORES, CORES),
        ("cuda", 0, 2, CORES),
        ("tensorrt", 0, 2, CORES),
        ("cuda", 3, 3, 3),
        ("cpu", 3, 3, 3),
    ],
)
def test_a_gpu_takes_no_threads_from_what_runs_on_the_cpu(
    opened: dict[str, int],
    tmp_path: Path,
    device: Device,
    wanted: int,
    scoring: int,
    retrieving: int,
) -> None:
    """Queries are embedded and searched for on the CPU, whatever scores."""
    model = open_model(write_counting_model(tmp_path, "fox"))
    like_index: Any = Bundle(tmp_path, "sha256:" + "1" * 64, model.manifest)
    settings = Settings(device=device, batch=BatchSettings(lanes=wanted))
    build_engine(settings, Bundles(model, like_index), FakeStore()).lanes.close()
    assert opened == {"model": scoring, "index": retrieving}


@pytest.mark.parametrize(
    ("device", "key"),
    [
        ("cpu", "sha256:1"),
        ("openvino", "sha256:1:openvino"),
        ("cuda", "sha256:1:cuda-2"),
        ("tensorrt", "sha256:1:tensorrt-2"),
    ],
)
def test_scores_of_gpus_have_keys_by_how_gpus_are_asked(device: Device, key: str) -> None:
    """The first ones were computed with TF32 and at exact lengths: they are not taken for ours."""
    settings = Settings(device=device)
    assert _scored_by(settings, "sha256:1") == key
    passages = settings.model_copy(update={"passages": PassageSettings(most=3, overlap=16)})
    assert _scored_by(passages, "sha256:1") == f"{key}:3/16"
