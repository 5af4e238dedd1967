"""The instruction that a decoder was trained with, on its way from a checkpoint into a bundle."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.checkpoint import Adapter, Checkpoint
from export.decoder import INSTRUCTION
from export.errors import CheckpointError

INSTRUCTION_FILE = "instruction.json"


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instruction: str = Field(min_length=1)


def instruction_for(
    wished: str | None, checkpoint: Checkpoint, adapter: Adapter | None
) -> str | None:
    """Return what a decoder judges by: `wished`, else what it was trained with, else the card's.

    None for other models, unless one was wished. Raises CheckpointError.
    """
    if wished is not None or not checkpoint.is_decoder:
        return wished
    folders = [adapter.path, checkpoint.path] if adapter else [checkpoint.path]
    kept = (_read(folder / INSTRUCTION_FILE) for folder in folders)
    return next((text for text in kept if text is not None), INSTRUCTION)


def write_instruction(folder: Path, instruction: str) -> None:
    """Keep it beside a checkpoint or an adapter, where `export model` looks for it."""
    text = json.dumps({"instruction": instruction}, ensure_ascii=False, indent=2)
    (folder / INSTRUCTION_FILE).write_text(text + "\n", encoding="utf-8")


def _read(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        return _Kept.model_validate_json(file.read_bytes()).instruction
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CheckpointError(f"{file}: {where}: {first['msg']}") from None
