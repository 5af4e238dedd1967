import json
from pathlib import Path
from typing import Any

import pytest

from export.checkpoint import open_adapter, open_checkpoint, require_cross_encoder
from export.errors import CheckpointError


def change_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_a_good_folder_opens_with_the_digest_of_its_weights(altered: Path) -> None:
    checkpoint = open_checkpoint(str(altered))
    require_cross_encoder(checkpoint)
    assert checkpoint.family == "bert"
    assert checkpoint.source.name == "altered"
    weights = altered / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert open_checkpoint(str(altered)).source.digest != checkpoint.source.digest


def test_pickled_weights_are_refused(altered: Path) -> None:
    (altered / "model.safetensors").rename(altered / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights, which are never loaded"):
        open_checkpoint(str(altered))


def test_code_of_its_own_is_refused(altered: Path) -> None:
    change_config(altered, auto_map={"AutoModel": "modeling_x.X"})
    with pytest.raises(CheckpointError, match="--trust-remote-code"):
        open_checkpoint(str(altered))
    assert open_checkpoint(str(altered), trust_remote_code=True).trusted


def test_missing_tokenizer_is_said(altered: Path) -> None:
    (altered / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        open_checkpoint(str(altered))


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_broken_config_is_said(altered: Path, content: str) -> None:
    (altered / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(str(altered))


def test_other_than_one_or_two_labels_are_refused(altered: Path) -> None:
    change_config(altered, id2label={"0": "no", "1": "yes"})
    require_cross_encoder(open_checkpoint(str(altered)))
    change_config(altered, id2label={"0": "bad", "1": "so", "2": "good"})
    with pytest.raises(CheckpointError, match="has 3 labels"):
        require_cross_encoder(open_checkpoint(str(altered)))


def test_a_decoder_scores_by_its_next_word(altered: Path) -> None:
    change_config(altered, model_type="qwen3", architectures=["Qwen3ForCausalLM"])
    checkpoint = open_checkpoint(str(altered))
    assert checkpoint.is_decoder
    require_cross_encoder(checkpoint)


def test_weights_in_several_files_have_one_digest(altered: Path) -> None:
    weights = altered / "model.safetensors"
    weights.rename(altered / "model-1.safetensors")
    index = altered / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    with pytest.raises(CheckpointError, match=r"lacks model-2\.safetensors"):
        open_checkpoint(str(altered))
    (altered / "model-2.safetensors").write_bytes(b"two")
    first = open_checkpoint(str(altered)).source.digest
    (altered / "model-2.safetensors").write_bytes(b"other")
    assert open_checkpoint(str(altered)).source.digest != first


def test_a_bi_encoder_is_no_cross_encoder(bare_encoder: Path) -> None:
    with pytest.raises(CheckpointError, match="not a cross-encoder"):
        require_cross_encoder(open_checkpoint(str(bare_encoder)))


def test_adapters_other_than_lora_are_refused(adapter: Path, tmp_path: Path) -> None:
    assert open_adapter(adapter).source.name == "tiny-lora"
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(CheckpointError, match="not a LoRA adapter"):
        open_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        open_adapter(tmp_path)


def test_an_id_is_downloaded_without_code_or_pickles(
    altered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[str]] = {}

    def snapshot(model_id: str, allow_patterns: list[str]) -> str:
        asked[model_id] = allow_patterns
        return str(altered)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    checkpoint = open_checkpoint("someone/reranker")
    assert checkpoint.source.name == "someone/reranker"
    (patterns,) = asked.values()
    assert not [pattern for pattern in patterns if pattern.endswith((".py", ".bin", ".pt"))]
    open_checkpoint("someone/reranker", trust_remote_code=True)
    assert "*.py" in asked["someone/reranker"]


def test_a_name_that_is_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(model_id: str, allow_patterns: list[str]) -> str:
        raise OSError("no network\nand more lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(CheckpointError, match="neither a folder nor") as caught:
        open_checkpoint("someone/nothing")
    assert "\n" not in str(caught.value)
