"""A decoder with random weights whose tokenizer knows the chat template's words."""

from pathlib import Path
from typing import Any

from export import decoder
from tests.unit.export.family_checkpoints import write_family
from tests.unit.export.tiny_cross_encoder import WORDS

# Longest pair, and about what the template takes of it.
MAX_TOKENS = 160
INSTRUCTION = "Find the document that names the topic"


def write_decoder(folder: Path, **sizes: Any) -> Path:
    """Write a Qwen3 of two layers that has much to learn; `sizes` are fields of its config."""
    texts = [decoder._BEFORE, decoder._AFTER, decoder.INSTRUCTION, INSTRUCTION]
    texts += ["<Instruct>: \n<Query>: \n<Document>: ", f" {' '.join(WORDS)}"]
    return write_family(
        folder, "qwen3", {"hidden_size": 32, "intermediate_size": 64} | sizes, texts
    )
