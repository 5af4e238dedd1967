"""What a decoder judges by: wished, kept beside adapter or checkpoint, or the model card's."""

from pathlib import Path

import pytest

from export.checkpoint import Adapter, Checkpoint
from export.decoder import INSTRUCTION
from export.errors import CheckpointError
from export.instruction import INSTRUCTION_FILE, instruction_for, write_instruction
from schemas.manifests import Source

SOURCE = Source(name="tiny", digest="sha256:" + "0" * 64)


def decoder_at(folder: Path) -> Checkpoint:
    config = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
    return Checkpoint(folder, SOURCE, config)


def test_the_nearest_one_counts(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", Adapter(tmp_path / "adapter", SOURCE)
    for folder in (base, adapter.path):
        folder.mkdir()
    checkpoint = decoder_at(base)
    assert instruction_for(None, checkpoint, adapter) == INSTRUCTION
    write_instruction(base, "of the base, „so“")
    assert instruction_for(None, checkpoint, adapter) == "of the base, „so“"
    write_instruction(adapter.path, "of the adapter")
    assert instruction_for(None, checkpoint, adapter) == "of the adapter"
    assert instruction_for(None, checkpoint, None) == "of the base, „so“"
    assert instruction_for("wished", checkpoint, adapter) == "wished"


def test_other_models_read_none(tmp_path: Path) -> None:
    write_instruction(tmp_path, "of something else")
    bert = Checkpoint(tmp_path, SOURCE, {"model_type": "bert"})
    assert instruction_for(None, bert, None) is None


@pytest.mark.parametrize("content", ["{}", "not JSON", '{"instruction": ""}', '["x"]'])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / INSTRUCTION_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=INSTRUCTION_FILE) as error:
        instruction_for(None, decoder_at(tmp_path), None)
    assert "\n" not in str(error.value)
