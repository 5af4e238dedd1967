from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from export.checkpoint import open_adapter, open_checkpoint
from export.errors import CheckpointError
from export.merge import load_merged
from tests.unit.export.tiny_cross_encoder import write_adapter


def test_merged_model_scores_as_base_and_adapter_do(bare_encoder: Path, adapter: Path) -> None:
    merged = load_merged(open_checkpoint(str(bare_encoder)), open_adapter(adapter))
    base = AutoModelForSequenceClassification.from_pretrained(bare_encoder, num_labels=1)
    together = PeftModel.from_pretrained(base, str(adapter)).eval()
    ids = torch.randint(5, 60, (4, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        scores, expected = merged(input_ids=ids).logits, together(input_ids=ids).logits
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    assert not any("lora" in name for name in merged.state_dict())
    assert {weights.dtype for weights in merged.state_dict().values()} <= {
        torch.float32,
        torch.int64,
    }


def test_a_head_that_nobody_saved_is_refused(bare_encoder: Path, tmp_path: Path) -> None:
    headless = write_adapter(tmp_path / "headless", bare_encoder, head=False)
    with pytest.raises(CheckpointError, match="no weights for classifier"):
        load_merged(open_checkpoint(str(bare_encoder)), open_adapter(headless))


def test_an_adapter_of_another_model_is_refused(cross_encoder: object, adapter: Path) -> None:
    roberta: Path = cross_encoder("roberta")  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="doesn't fit"):
        load_merged(open_checkpoint(str(roberta)), open_adapter(adapter))
