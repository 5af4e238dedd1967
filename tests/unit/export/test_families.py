"""Each family: the same logits as its own classes in PyTorch, in every precision, in any batch."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from engine.batches import BatchSizes
from engine.bound import BoundGraph
from engine.bundles import open_model
from engine.devices import BucketedGraph
from engine.graph import OnnxGraph
from engine.lanes import Lanes
from engine.pairs import PairEncoder
from engine.providers import CUDA_SIZE
from engine.score import Scorer
from engine.stacks import Filled
from export import graph_writer
from export.__main__ import main
from export.decoder import INSTRUCTION
from export.scoring import encode_pairs
from export.verify import MAX_FILLED_DIFFERENCE
from tests.unit.export.family_checkpoints import (
    FAMILIES,
    MAX_TOKENS,
    varied_pairs,
    write_collection,
    write_family,
    write_pairs,
)

# What DeBERTa and ModernBERT do when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

PAIRS = varied_pairs()
RECIPES = {
    "bert": "trimmed",
    "electra": "trimmed",
    "roberta": "trimmed",
    "xlm-roberta": "trimmed",
    "camembert": "trimmed",
    "deberta-v2": "optimum",
    "modernbert": "optimum",
    "qwen3": "decoder",
}
DECODER_TOKENS = 320
# As the model card of Qwen3-Reranker builds its prompt.
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

Bundle = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Callable[[str], Path]:
    def get(family: str) -> Path:
        path = folder / family
        return path if path.is_dir() else write_family(path, family)

    return get


@pytest.fixture(scope="module")
def bundle(folder: Path, checkpoint: Callable[[str], Path]) -> Bundle:
    """Gives the bundle of a family in a precision, exported once."""
    data, calibration = write_collection(folder / "data"), write_pairs(folder / "pairs.jsonl")

    def get(family: str, precision: str) -> Path:
        out = folder / f"{family}-{precision}"
        if not out.is_dir():
            arguments = ["--model", checkpoint(family), "--precision", precision, "--out", out]
            arguments += ["--data", data, "--calibration", calibration]
            if family == "qwen3":
                arguments += ["--max-tokens", DECODER_TOKENS]
            assert main(["model", *map(str, arguments)]) == 0
        return out

    return get


def score(bundle: Path, pairs: list[tuple[str, str]], *, together: bool = True) -> list[float]:
    scorer = Scorer.open(open_model(bundle))
    try:
        if together:
            return [scored.logit for scored in scorer.score(pairs)]
        return [scorer.score([pair])[0].logit for pair in pairs]
    finally:
        scorer.close()


def reference(folder: Path, pairs: list[tuple[str, str]]) -> list[float]:
    """Score as the checkpoint's own classes do, pair by pair."""
    load: Any = AutoTokenizer.from_pretrained
    tokenizer = load(folder)
    kind: Any = AutoModelForSequenceClassification
    if folder.name == "qwen3":
        kind = AutoModelForCausalLM
    model = kind.from_pretrained(folder).eval()
    logits = []
    for query, document in pairs:
        if folder.name == "qwen3":
            inputs = chat(tokenizer, query, document)
        else:
            inputs = tokenizer(
                [query],
                [document],
                truncation="only_second",
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
        with torch.inference_mode():
            found = model(**inputs).logits[0]
        if folder.name == "qwen3":
            yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
            logits.append(float(found[-1, yes] - found[-1, no]))
        else:
            logits.append(float(found[1] - found[0] if len(found) == 2 else found[0]))
    return logits


def chat(tokenizer: Any, query: str, document: str) -> dict[str, torch.Tensor]:
    before, after = (tokenizer.encode(text, add_special_tokens=False) for text in (BEFORE, AFTER))
    text = f"<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"
    ids = tokenizer(
        text,
        add_special_tokens=False,
        truncation="longest_first",
        max_length=DECODER_TOKENS - len(before) - len(after),
    )["input_ids"]
    return {"input_ids": torch.tensor([before + ids + after])}


# CamemBERT is RoBERTa by another name: in other precisions it can't differ.
@pytest.mark.parametrize("family", [*FAMILIES, "camembert"])
def test_fp32_gives_the_logits_of_the_checkpoint(
    family: str, bundle: Bundle, checkpoint: Callable[[str], Path]
) -> None:
    exported = bundle(family, "fp32")
    manifest = open_model(exported).manifest
    assert (manifest.family, manifest.recipe) == (family, RECIPES[family])
    logits, expected = score(exported, PAIRS), reference(checkpoint(family), PAIRS)
    assert len(logits) == 200
    assert np.std(expected) > 0.05
    assert np.abs(np.asarray(logits) - expected).max() < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_does_not_depend_on_the_batch(family: str, precision: str, bundle: Bundle) -> None:
    exported = bundle(family, precision)
    assert_independent(exported, precision)


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_nor_in_half_precision(family: str, bundle: Bundle) -> None:
    assert_independent(bundle(family, "fp16"), "fp16")


@pytest.mark.long
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in {"bert", "qwen3"}])
def test_nor_in_half_precision_of_the_others(family: str, bundle: Bundle) -> None:
    assert_independent(bundle(family, "fp16"), "fp16")


def assert_independent(exported: Path, precision: str) -> None:
    """Alone, together, in another order: the same bits. Only graphs for GPUs can be padded."""
    manifest = open_model(exported).manifest
    assert manifest.precision == precision
    masked = precision == "fp16" and manifest.family != "qwen3"
    assert ("attention_mask" in manifest.inputs) == masked
    pairs = PAIRS[::3] + PAIRS[:12]  # many of equal length, some twice
    together = score(exported, pairs)
    assert np.isfinite(together).all()
    assert len(set(together)) > len(pairs) // 3
    assert score(exported, pairs[::5], together=False) == together[::5]
    order = list(range(len(pairs)))
    random.Random(3).shuffle(order)
    shuffled = score(exported, [pairs[place] for place in order])
    assert shuffled == [together[place] for place in order]
    assert score(exported, pairs[: len(pairs) // 2]) == together[: len(pairs) // 2]


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in ("roberta", "deberta-v2", "modernbert")
        ),
    ],
)
def test_filled_up_as_on_a_gpu_it_scores_nearly_the_same_and_alone_as_together(
    family: str, bundle: Bundle
) -> None:
    opened = open_model(bundle(family, "fp16"))
    encoder, graph = PairEncoder.open(opened), OnnxGraph.open(opened)
    pairs = encode_pairs(encoder, PAIRS)
    bound = BucketedGraph(BoundGraph(graph, "cpu"))
    filled = Filled(bound, opened.manifest.pad_token_id, opened.manifest.pair.max_tokens)
    lanes = [Lanes(runs, 2, BatchSizes(CUDA_SIZE)) for runs in (graph, filled)]
    exact, padded = (each.submit(pairs).result(60) for each in lanes)
    for each in lanes:
        each.close()
    assert {filled.length_of(len(pair.ids)) for pair in pairs} != {len(pair.ids) for pair in pairs}
    assert np.abs(exact - padded).max() < MAX_FILLED_DIFFERENCE
    assert padded[::7].tolist() == [float(filled.logits([pair])[0]) for pair in pairs[::7]]


@pytest.mark.parametrize(
    ("family", "precision"), [("bert", "int8"), ("qwen3", "fp32"), ("qwen3", "int4")]
)
def test_weights_too_large_for_one_file_lie_beside_it(
    family: str,
    precision: str,
    bundle: Bundle,
    checkpoint: Callable[[str], Path],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_one = bundle(family, precision)  # made before, or it would be in two files as well
    monkeypatch.setattr(graph_writer, "MAX_EMBEDDED_BYTES", 10_000)
    out = folder / f"{family}-{precision}-large"
    arguments = ["--model", checkpoint(family), "--precision", precision, "--out", out]
    arguments += ["--data", folder / "data", "--calibration", folder / "pairs.jsonl"]
    arguments += ["--max-tokens", DECODER_TOKENS if family == "qwen3" else MAX_TOKENS]
    assert main(["model", *map(str, arguments)]) == 0
    assert "model.onnx.data" in open_model(out).manifest.files
    assert score(out, PAIRS[::9]) == pytest.approx(score(in_one, PAIRS[::9]), abs=1e-4)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_smaller_precisions_are_smaller_and_near(
    family: str, precision: str, bundle: Bundle
) -> None:
    files = [bundle(family, name) / "model.onnx" for name in (precision, "fp32")]
    small, large = (file.stat().st_size for file in files)
    assert small < large
    logits = np.asarray(score(bundle(family, precision), PAIRS[::4]))
    expected = np.asarray(score(bundle(family, "fp32"), PAIRS[::4]))
    assert np.corrcoef(logits, expected)[0, 1] > (0.9 if precision == "int4" else 0.99)
