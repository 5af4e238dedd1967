"""The runtime takes the kernels where there are some, and they refuse what does not fit."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from engine import kernels as kernels_module
from engine.graph import session_options
from engine.kernels import ADD_NORM_QUANTIZE, ATTENTION, DOMAIN, GELU_QUANTIZE, PRODUCT, library
from tests.unit.engine.kernel_calls import (
    asked,
    call,
    needs_kernels,
    norm_feeds,
    normal,
    opened,
    product_feeds,
)

FEEDS: Mapping[str, dict[str, NDArray[Any]]] = {
    ATTENTION: {name: normal(1, 2, 5, 24) for name in ("query", "key", "value")},
    GELU_QUANTIZE: {
        "input": normal(1, 2, 5, 24),
        "factor": np.full(24, 9, np.float32),
        "zero_point": np.asarray(100, np.uint8),
    },
    ADD_NORM_QUANTIZE: norm_feeds(normal(1, 2, 5, 24), normal(2, 2, 5, 24), 24),
    PRODUCT: product_feeds((2, 5, 24), 24),
}


def kinds_when_optimized(name: str, folder: Path, *, kernels: bool) -> list[tuple[str, str]]:
    """The nodes, with their domains, of the graph that the runtime makes of a call."""
    options = session_options(kernels=kernels)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    model = call(name, FEEDS[name]).SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    return [(node.domain, node.op_type) for node in nodes]


@needs_kernels
@pytest.mark.parametrize("name", FEEDS)
def test_the_runtime_takes_the_kernel(name: str, tmp_path: Path) -> None:
    assert kinds_when_optimized(name, tmp_path, kernels=True) == [(DOMAIN, name)]


@pytest.mark.parametrize("name", FEEDS)
def test_without_the_library_the_runtime_takes_standard_operators(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = kinds_when_optimized(name, tmp_path, kernels=False)
    assert found
    assert DOMAIN not in {domain for domain, _ in found}
    monkeypatch.setattr("engine.graph.library", lambda: None)
    assert kinds_when_optimized(name, tmp_path, kernels=True) == found


@needs_kernels
@pytest.mark.parametrize("name", FEEDS)
def test_the_functions_say_what_the_kernels_compute(name: str) -> None:
    model = call(name, FEEDS[name])
    feeds = asked(name, FEEDS[name])
    standard = opened(model, kernels=False).run(None, feeds)
    for expected, found in zip(standard, opened(model).run(None, feeds), strict=True):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        near = 1 if found.dtype == np.uint8 else 2e-3
        assert np.abs(found.astype(np.float64) - expected).max() <= near
        assert len(np.unique(expected)) > 10


def alike(*shape: int) -> dict[str, tuple[int, ...]]:
    return {"query": shape, "key": shape, "value": shape}


WRONG: list[tuple[str, dict[str, tuple[int, ...]], dict[str, int], str]] = [
    (GELU_QUANTIZE, {"factor": (23,)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (25,)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (1,)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (2, 24)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"factor": (0, 24)}, {}, "a factor a channel"),
    (GELU_QUANTIZE, {"zero_point": (0,)}, {}, "one zero point"),
    (GELU_QUANTIZE, {"zero_point": (24,)}, {}, "one zero point"),
    (GELU_QUANTIZE, {"input": (1, 1, 1, 2, 24)}, {}, "too many dimensions"),
    (ADD_NORM_QUANTIZE, {"factor": (16,)}, {}, "a factor a channel"),
    (ADD_NORM_QUANTIZE, {"left": (2, 4, 24)}, {}, "shapes that can't be added"),
    (ADD_NORM_QUANTIZE, {"left": (3, 5, 24)}, {}, "shapes that can't be added"),
    (ADD_NORM_QUANTIZE, {"right": (2, 5, 16)}, {}, "can't be added"),
    (ADD_NORM_QUANTIZE, {"right": (2, 5, 1)}, {}, "rows that can't be added"),
    (ADD_NORM_QUANTIZE, {"scale": (16,)}, {}, "a scale and a bias a channel"),
    (ADD_NORM_QUANTIZE, {"bias": (32,)}, {}, "a scale and a bias a channel"),
    (ADD_NORM_QUANTIZE, {"scale": (0, 24)}, {}, "a scale and a bias a channel"),
    (ADD_NORM_QUANTIZE, {"bias": (2, 24)}, {}, "a scale and a bias a channel"),
    (ATTENTION, {}, {"heads": 5}, "query, key and value must be"),
    (ATTENTION, {}, {"heads": 0}, "at least one head"),
    (ATTENTION, {}, {"heads": -1}, "at least one head"),
    (ATTENTION, {"query": (2, 5, 16)}, {}, "query, key and value must be"),
    (ATTENTION, {"query": (3, 5, 24)}, {}, "query, key and value must be"),
    (ATTENTION, {"value": (2, 4, 24)}, {}, "query, key and value must be"),
    (ATTENTION, {"value": (2, 5, 16)}, {}, "query, key and value must be"),
    (ATTENTION, {"key": (5, 24)}, {}, "query, key and value must be"),
    (ATTENTION, {"key": (2, 0, 24), "value": (2, 0, 24)}, {}, "query, key and value must be"),
    *(
        (ATTENTION, alike(2, 5, channels), heads, "head")
        for channels in (0, 24)
        for heads in ({"heads": 10**8}, {"heads": 2**62}, {"heads": 0}, {"heads": -(2**62)})
    ),
    (ATTENTION, alike(2, 5, 0), {}, "head"),
    (PRODUCT, {"input": (2, 5, 23)}, {}, "deep"),
    (PRODUCT, {"input": (2, 5, 25)}, {}, "deep"),
    (PRODUCT, {"input": (2, 5, 0)}, {}, "deep"),
    (PRODUCT, {"input": (1, 1, 1, 2, 24)}, {}, "too many dimensions"),
    (PRODUCT, {"input": (2, 65_537), "weights": (65_537, 24)}, {}, "deep"),
    (PRODUCT, {"weights": (1, 24, 24)}, {}, "two axes"),
    (PRODUCT, {"weights": (24,)}, {}, "two axes"),
    (PRODUCT, {"weights": (0, 24)}, {}, "two axes"),
    (PRODUCT, {"weights": (24, 0)}, {}, "two axes"),
    (PRODUCT, {"weights": (24, 16)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"scale": (1,)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"scale": (0, 24)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"bias": (25,)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"bias": (0,)}, {}, "a scale and a bias a column"),
    (PRODUCT, {"input_scale": (24,)}, {}, "one scale and zero point"),
    (PRODUCT, {"zero_point": (24,)}, {}, "one scale and zero point"),
    (PRODUCT, {"zero_point": (0,)}, {}, "one scale and zero point"),
]


@needs_kernels
@pytest.mark.parametrize(("name", "shapes", "attributes", "reason"), WRONG)
def test_shapes_that_do_not_fit_are_an_error_of_one_line(
    name: str, shapes: dict[str, tuple[int, ...]], attributes: dict[str, int], reason: str
) -> None:
    feeds = dict(FEEDS[name])
    for key, shape in shapes.items():
        feeds[key] = np.ones(shape, feeds[key].dtype)
    with pytest.raises(Exception, match=reason) as caught:  # some when the graph is opened
        opened(call(name, feeds, **attributes)).run(None, asked(name, feeds))
    assert "\n" not in str(caught.value).strip()


@needs_kernels
@pytest.mark.parametrize("name", FEEDS)
def test_a_session_goes_on_after_an_error_and_with_no_rows(name: str) -> None:
    session, feeds = opened(call(name, FEEDS[name])), asked(name, FEEDS[name])
    expected = session.run(None, feeds)
    first, *_ = feeds
    with pytest.raises(Exception, match=name):
        session.run(None, {**feeds, first: feeds[first][:, :, :16]})
    empty = {key: value[:0] if value.ndim == 3 else value for key, value in feeds.items()}
    assert session.run(None, empty)[0].shape == (0, 5, 24)
    for again, before in zip(session.run(None, feeds), expected, strict=True):
        assert np.array_equal(again, before)


@needs_kernels
def test_an_attribute_that_is_missing_is_an_error_at_start() -> None:
    for name in (ATTENTION, ADD_NORM_QUANTIZE):
        model = call(name, FEEDS[name])
        del model.graph.node[0].attribute[:]
        with pytest.raises(Exception, match=r"heads|epsilon"):
            opened(model)


# --- the library


def test_what_is_no_library_is_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for content in (None, b"", b"no library"):
        file = tmp_path / "kernels.so"
        if content is not None:
            file.write_bytes(content)
        monkeypatch.setattr(kernels_module, "_LIBRARY", file)
        assert library.__wrapped__() is None


@pytest.mark.parametrize("usable", [True, False])
def test_a_library_that_the_cpu_cannot_run_is_as_none(
    monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    class Loaded:
        def __init__(self, file: str) -> None:
            assert file == str(kernels_module._LIBRARY)

        def kernels_usable(self) -> int:
            return int(usable)

    monkeypatch.setattr(ctypes, "CDLL", Loaded)
    assert library.__wrapped__() == (kernels_module._LIBRARY if usable else None)
