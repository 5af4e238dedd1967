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
from tests.fakes.clock import START_S, FakeClock
from tests.fakes.events import event_json, query_of
from tests.fakes.store import FakeStore
from tests.unit.tiny_retrieval import write_counting_model
from worker import build
from worker.admission import FULL
from worker.build import Bundles, Engine, _scored_by, build_engine, build_loop
from worker.settings import BatchSettings, KafkaSettings, PassageSettings, Settings
from worker.store import Store

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
        ("cpu-standard", 0, CORES, CORES),
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


@pytest.mark.parametrize("kernels", [None, Path("kernels.so")])
@pytest.mark.parametrize(
    ("device", "key", "with_kernels"),
    [
        ("cpu", "sha256:1", "sha256:1:kernels-1"),
        ("cpu-standard", "sha256:1", "sha256:1"),
        ("openvino", "sha256:1:openvino", "sha256:1:openvino"),
        ("cuda", "sha256:1:cuda-2", "sha256:1:cuda-2"),
        ("tensorrt", "sha256:1:tensorrt-2", "sha256:1:tensorrt-2"),
    ],
)
def test_scores_have_keys_by_how_they_were_computed(
    monkeypatch: pytest.MonkeyPatch,
    kernels: Path | None,
    device: Device,
    key: str,
    with_kernels: str,
) -> None:
    """GPUs' first ones had TF32 and exact lengths, and the CPU's no kernels: none pass for ours."""
    monkeypatch.setattr(build, "library", lambda: kernels)
    key = key if kernels is None else with_kernels
    settings = Settings(device=device)
    assert _scored_by(settings, "sha256:1") == key
    passages = settings.model_copy(update={"passages": PassageSettings(most=3, overlap=16)})
    assert _scored_by(passages, "sha256:1") == f"{key}:3/16"


def test_a_cascade_s_smaller_model_is_told_to_end_when_the_model_must(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The reranker that the loop gets asks admission, by the loop's clock."""
    engines: list[Engine] = []

    def engine(settings: Settings, bundles: Bundles, _: Store) -> Engine:
        engines.append(build_engine(settings, bundles, FakeStore()))
        return engines[-1]

    model = open_model(write_counting_model(tmp_path, "fox"))
    monkeypatch.setattr(build, "SystemClock", FakeClock)
    monkeypatch.setattr(build, "open_bundles", lambda _: Bundles(model, None))
    monkeypatch.setattr(build, "build_engine", engine)
    monkeypatch.setattr(build, "connect", lambda _: None)
    monkeypatch.setattr(build, "serve", lambda *_: None)
    parts = build_loop(Settings(kafka=KafkaSettings(embedded=True)))._parts
    engines[0].lanes.close()

    value = event_json("q", texts=["fox"], deadline_ms=1000)
    queries = [query_of(value, timestamp_ms=int(START_S * 1000))]
    left_s = parts.reranker.time_left
    assert left_s is not None, "the smaller model would go on for ever"
    expected = parts.admission.stop_after_s(queries, [FULL], parts.clock.now())
    assert expected is not None
    assert left_s(queries, [FULL]) == expected
    assert isinstance(parts.clock, FakeClock)
    parts.clock.advance(0.5)
    assert left_s(queries, [FULL]) == pytest.approx(expected - 0.5)
