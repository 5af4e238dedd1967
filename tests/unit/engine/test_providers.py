"""What GPUs are asked for; the shapes are those that lanes then send."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from engine.bound import BoundGraph
from engine.bundles import Bundle, open_model
from engine.devices import BucketedGraph, Device, batch_sizes, open_graph, open_lanes
from engine.errors import BundleError
from engine.graph import OnnxGraph
from engine.pairs import EncodedPair
from engine.providers import (
    CPU,
    CUDA,
    GPU_SCORES,
    TENSORRT,
    Gpu,
    cuda_options,
    gpu_providers,
)
from engine.stacks import FILL_MULTIPLE
from schemas.manifests import Batches, BatchStep, ModelManifest
from tests.unit.engine.tiny_encoder import LONGEST, WORDS, write_tiny_encoder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle[ModelManifest]:
    return open_model(write_tiny_encoder(tmp_path_factory.mktemp("models") / "tiny"))


def with_fields(bundle: Bundle[ModelManifest], **fields: Any) -> Bundle[ModelManifest]:
    return Bundle(bundle.path, bundle.digest, bundle.manifest.model_copy(update=fields))


def tensorrt(bundle: Bundle[ModelManifest], cache: Path) -> dict[str, str]:
    (name, options), *others = gpu_providers(bundle, "tensorrt", cache)
    assert name == TENSORRT
    assert [other for other, _ in others] == [CUDA, CPU]
    return dict(options)


def test_cuda_computes_fp32_in_fp32_and_the_same_each_time(bundle: Bundle[ModelManifest]) -> None:
    (name, options), (last, _) = gpu_providers(bundle, "cuda")
    assert (name, last) == (CUDA, CPU)
    assert options["use_tf32"] == "0"
    assert options["cudnn_conv_algo_search"] != "EXHAUSTIVE"


def test_whoever_changes_what_a_gpu_scores_raises_the_version(
    bundle: Bundle[ModelManifest], tmp_path: Path
) -> None:
    """Caches outlive workers, and their keys have `GPU_SCORES` in place of all of this."""
    half = tensorrt(with_fields(bundle, precision="fp16"), tmp_path)
    asked = {name: value for name, value in half.items() if "cache" not in name}
    found = (cuda_options(), {n: v for n, v in asked.items() if "shapes" not in n}, FILL_MULTIPLE)
    assert (GPU_SCORES, *found) == (
        2,
        {
            "device_id": "0",
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "do_copy_in_default_stream": "1",
            "use_tf32": "0",
            "enable_skip_layer_norm_strict_mode": "1",
        },
        {
            "device_id": "0",
            "trt_fp16_enable": "True",
            "trt_int8_enable": "False",
            "trt_layer_norm_fp32_fallback": "True",
        },
        16,
    )


@pytest.mark.parametrize(("precision", "half"), [("fp16", "True"), ("fp32", "False")])
def test_tensorrt_halves_only_what_the_bundle_did(
    bundle: Bundle[ModelManifest], precision: str, half: str, tmp_path: Path
) -> None:
    options = tensorrt(with_fields(bundle, precision=precision), tmp_path)
    assert options["trt_fp16_enable"] == options["trt_layer_norm_fp32_fallback"] == half
    assert options["trt_int8_enable"] == "False"


def test_engines_of_two_models_lie_apart_in_a_folder_of_ones_own(
    bundle: Bundle[ModelManifest], tmp_path: Path
) -> None:
    other = Bundle(bundle.path, "sha256:" + "f" * 64, bundle.manifest)
    cache = tmp_path / "not" / "there"
    one, two = tensorrt(bundle, cache), tensorrt(other, cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert one["trt_engine_cache_path"] != two["trt_engine_cache_path"]
    assert {one["trt_timing_cache_path"], two["trt_timing_cache_path"]} == {str(cache)}
    assert one["trt_engine_cache_enable"] == one["trt_timing_cache_enable"] == "True"


def test_a_cache_that_cannot_be_written_is_one_line(
    bundle: Bundle[ModelManifest], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BundleError, match="RERANKER_ENGINE_CACHE") as caught:
        gpu_providers(bundle, "tensorrt", tmp_path / "file" / "engines")
    assert "\n" not in str(caught.value)


def shapes_of(option: str) -> dict[str, tuple[int, int]]:
    found = {}
    for part in option.split(","):
        name, _, shape = part.partition(":")
        rows, tokens = map(int, shape.split("x"))
        found[name] = (rows, tokens)
    return found


class Watched:
    """A graph on the CPU that notes which shapes reach it."""

    def __init__(self, bundle: Bundle[ModelManifest]) -> None:
        self.graph = BoundGraph(OnnxGraph.open(bundle), "cpu")
        self.shapes: set[tuple[int, int]] = set()

    def __call__(self, ids: Any, document_start: Any) -> Any:
        self.shapes.add(ids.shape)
        return self.graph(ids, document_start)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_batches_for_gpus_are_larger_and_score_the_same_on_the_cpu(
    bundle: Bundle[ModelManifest], device: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(1)
    lengths = [*chance.integers(4, LONGEST + 1, 100), *[20] * 300, *[LONGEST] * 70]
    pairs = [
        EncodedPair(chance.integers(0, WORDS, length).astype(np.int32), 3, False)
        for length in lengths
    ]
    here = open_lanes(bundle, "cpu", 2)
    expected = here.submit(pairs).result(60).tolist()
    here.close()
    watched = Watched(bundle)
    monkeypatch.setattr("engine.devices.open_on_gpu", lambda *_: BucketedGraph(watched))

    lanes = open_lanes(bundle, device, 2)
    found = lanes.submit(pairs).result(60).tolist()
    lanes.close()

    assert found == expected
    assert {rows.bit_count() for rows, _ in watched.shapes} == {1}
    assert max(rows for rows, _ in watched.shapes) == {"cuda": 256, "tensorrt": 64}[device]
    if device == "tensorrt":
        options = tensorrt(bundle, tmp_path)
        least, most = (shapes_of(options[f"trt_profile_{name}_shapes"]) for name in ("min", "max"))
        usual = shapes_of(options["trt_profile_opt_shapes"])
        assert set(least) == set(most) == set(usual) == set(bundle.manifest.inputs)
        for name in bundle.manifest.inputs:
            for rows, tokens in [*watched.shapes, usual[name]]:
                assert least[name][0] <= rows <= most[name][0]
                assert least[name][1] <= tokens <= most[name][1]


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_graph_with_a_mask_gets_few_lengths_on_a_gpu_and_exact_ones_on_the_cpu(
    bundle: Bundle[ModelManifest], device: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: set[tuple[int, int]] = set()

    def graph(ids: Any, document_start: Any, lengths: Any = None) -> Any:
        shapes.add(ids.shape)
        assert lengths is None or (ids[np.arange(ids.shape[1]) >= lengths[:, None]] == 0).all()
        return np.zeros(len(ids), dtype=np.float32)

    masked = with_fields(bundle, inputs=(*bundle.manifest.inputs, "attention_mask"))
    pairs = [EncodedPair(np.ones(n, dtype=np.int32), 1, False) for n in range(4, LONGEST + 1)]
    monkeypatch.setattr("engine.devices.open_on_gpu", lambda *_: BucketedGraph(graph))
    monkeypatch.setattr("engine.devices.open_graph", lambda *_: graph)

    filled, exact = {16, 32, 48, 64, 80, 96}, set(range(4, LONGEST + 1))
    places: list[tuple[Device, set[int]]] = [(device, filled), ("cpu", exact)]
    for where, expected in places:
        shapes.clear()
        lanes = open_lanes(masked, where, 1)
        lanes.submit(pairs).result(60)
        lanes.close()
        assert {tokens for _, tokens in shapes} == expected


def test_tensorrt_keeps_memory_in_bounds_for_models_that_read_much(
    bundle: Bundle[ModelManifest], tmp_path: Path
) -> None:
    pair = bundle.manifest.pair.model_copy(update={"max_tokens": 8192})
    options = tensorrt(with_fields(bundle, pair=pair), tmp_path)
    assert shapes_of(options["trt_profile_max_shapes"])["input_ids"] == (4, 8192)
    assert shapes_of(options["trt_profile_opt_shapes"])["input_ids"] == (4, 128)


def test_what_was_measured_on_cuda_holds_there_and_not_for_tensorrt(
    bundle: Bundle[ModelManifest],
) -> None:
    step = BatchStep(tokens=LONGEST, rows=100, batch_tokens=100_000)
    tables = tuple(Batches(device=name, machine="", steps=(step,)) for name in ("cuda", "tensorrt"))
    manifest = bundle.manifest.model_copy(update={"batches": tables})
    assert batch_sizes(manifest, "cuda").rows_of(10) == 64  # the next power of two below
    assert batch_sizes(manifest, "tensorrt") == batch_sizes(bundle.manifest, "tensorrt")


def test_the_cpu_without_kernels_takes_what_was_measured_on_the_cpu(
    bundle: Bundle[ModelManifest],
) -> None:
    """`tune` measures it as `cpu`, and a table of its own name is none of `tune`."""
    steps = {"cpu": 7, "openvino": 3, "cpu-standard": 5}
    tables = tuple(
        Batches(
            device=name,
            machine="",
            steps=(BatchStep(tokens=LONGEST, rows=rows, batch_tokens=100_000),),
        )
        for name, rows in steps.items()
    )
    measured = bundle.manifest.model_copy(update={"batches": tables})
    assert batch_sizes(measured, "cpu-standard").rows_of(10) == 7
    assert batch_sizes(measured, "cpu-standard") == batch_sizes(measured, "cpu")
    unmeasured = bundle.manifest.model_copy(update={"batches": None})
    assert batch_sizes(unmeasured, "cpu-standard") == batch_sizes(unmeasured, "cpu")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_what_is_made_for_cpus_is_refused_on_a_gpu(
    bundle: Bundle[ModelManifest], precision: str, device: Device
) -> None:
    with pytest.raises(BundleError, match="--precision fp16") as caught:
        open_graph(with_fields(bundle, precision=precision), device, 1)
    assert precision in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_without_a_gpu_the_cpu_does_not_step_in(
    bundle: Bundle[ModelManifest], device: Device
) -> None:
    if CUDA in ort.get_available_providers():
        pytest.skip("this machine has a GPU build of ONNX Runtime")
    with pytest.raises(BundleError, match="finds no GPU"):
        open_graph(with_fields(bundle, precision="fp16"), device, 1)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_where_there_is_one_inputs_are_bound_and_rows_filled_up(
    bundle: Bundle[ModelManifest], device: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[list[str]] = []
    plain = OnnxGraph.open

    class Session:
        def get_providers(self) -> list[str]:
            return opened[-1]

    def fake(of: Bundle[ModelManifest], providers: Any) -> OnnxGraph:
        opened.append([name for name, _ in providers])
        graph = plain(of)
        session: Any = Session()
        return OnnxGraph(session, graph.inputs, graph.output, graph.token_types)

    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(OnnxGraph, "open", fake)

    graph: Any = open_graph(bundle, device, 1, tmp_path)

    assert isinstance(graph, BucketedGraph)
    assert isinstance(graph.graph, BoundGraph)
    assert graph.graph.device == "cuda"
    assert opened == [[CUDA, CPU] if device == "cuda" else [TENSORRT, CUDA, CPU]]
