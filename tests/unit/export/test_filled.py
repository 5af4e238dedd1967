"""Graphs with a mask: what is computed of it, and what is noticed when one does not heed it."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engine.pairs import EncodedPair
from export.errors import FillingError
from export.fp32 import simplified
from export.verify import check_filled
from tests.fakes.graph import logit_of

LONGEST = 64
PAIRS = [
    EncodedPair(np.arange(5, 5 + length, dtype=np.int32), 2, False)
    for length in (4, 9, 16, 17, 40, 61, 64)
]


def heeds(ids: NDArray[np.int64], _: object, lengths: Any = None) -> NDArray[np.float32]:
    ends = [ids.shape[1]] * len(ids) if lengths is None else lengths
    rows = [logit_of(row[:end]) for row, end in zip(ids, ends, strict=True)]
    return np.asarray(rows, dtype=np.float32)


def reads_padding(ids: NDArray[np.int64], starts: object, lengths: Any = None) -> Any:
    return heeds(ids, starts) + (0 if lengths is None else 1)


def looks_at_neighbours(ids: NDArray[np.int64], starts: object, lengths: Any = None) -> Any:
    return heeds(ids, starts, lengths) + (len(ids) - 1) / 1000


def check(graph: Any) -> float:
    return check_filled(graph, PAIRS, token=0, longest=LONGEST)


def test_a_graph_that_heeds_its_mask_passes() -> None:
    assert check(heeds) == 0


def test_one_that_reads_what_is_behind_is_noticed() -> None:
    with pytest.raises(FillingError, match="changes logits by 1"):
        check(reads_padding)


def test_one_whose_rows_look_at_one_another_is_noticed() -> None:
    with pytest.raises(FillingError, match="otherwise in a batch"):
        check(looks_at_neighbours)


def test_one_that_gives_no_numbers_is_noticed() -> None:
    with pytest.raises(FillingError):
        check(lambda ids, *_: np.full(len(ids), np.nan, dtype=np.float32))


@pytest.mark.parametrize(
    ("mask", "inputs"), [(False, ["input_ids"]), (True, ["input_ids", "attention_mask"])]
)
def test_positions_are_computed_and_the_mask_stays_where_it_is_wanted(
    mask: bool, inputs: list[str]
) -> None:
    names = ("input_ids", "attention_mask", "position_ids")
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        [helper.make_node("Sum", ["a", "b", "c"], ["logit"])],
        "sums",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, shape)],
    )
    for short, name in zip("abc", names, strict=True):
        graph.node.insert(0, helper.make_node("Cast", [name], [short], to=TensorProto.FLOAT))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    made = simplified(model, mask=mask)

    onnx.checker.check_model(made)
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == inputs
    ids = np.full((2, 3), 10, dtype=np.int64)
    every = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    (found,) = session.run(None, {name: every[name] for name in inputs})
    assert found.tolist() == [[11, 12, 13]] * 2
