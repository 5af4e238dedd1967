"""A CrossEncoder of sentence-transformers that reads pairs as the worker does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.util import batch_to_device
from torch import Tensor

from engine.pairs import EncodedPair, PairEncoder

Pair = tuple[str, str]

_SCORED_AT_ONCE = 32


class EngineCrossEncoder(CrossEncoder):
    """Losses and evaluators ask `preprocess` for tensors: here they get the engine's pairs.

    The library opens a decoder with its `LogitScore`: of the last place's vocabulary, the logit of
    "yes" minus that of "no". So its pairs are filled up on the left.
    """

    pairs: PairEncoder
    pad_token_id: int
    reads_last: bool

    @classmethod
    def open(cls, folder: Path, pairs: PairEncoder) -> "EngineCrossEncoder":
        """Load a checkpoint from a folder; `pairs` must be of its tokenizer."""
        model: EngineCrossEncoder = cls(
            str(folder), local_files_only=True, activation_fn=torch.nn.Identity()
        )
        model.pairs = pairs
        model.pad_token_id = int(getattr(model.config, "pad_token_id", 0) or 0)
        model.reads_last = any(isinstance(module, LogitScore) for module in model)
        if model.reads_last:
            assert model.transformers_model is not None, "the decoder was opened"
            head = model.transformers_model.get_output_embeddings()
            assert isinstance(head, torch.nn.Linear), "a causal model's head is one product"
            compute_in_fp32(head)
        return model

    def preprocess(  # type: ignore[override] # the library's takes pictures and sound, too
        self, inputs: Sequence[Pair], prompt: str | None = None, **_: Any
    ) -> dict[str, Any]:
        """Return int64 [pairs, longest]; raises QueryTooLongError, which labels were cleared of."""
        assert prompt is None, "pairs are built without prompts"
        pairs = encode(self.pairs, inputs)
        if self.reads_last:
            return pad_left(pairs, self.pad_token_id) | {"logits_to_keep": 1, "use_cache": False}
        return pad(pairs, self.pad_token_id, self.pairs.template.token_types)

    def logits(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the raw logit of each pair, in order; the model is left in its mode."""
        before = self.training
        self.eval()
        scores = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda place: sum(map(len, pairs[place])))
        with torch.inference_mode():
            for begin in range(0, len(order), _SCORED_AT_ONCE):
                rows = order[begin : begin + _SCORED_AT_ONCE]
                inputs = self.preprocess([pairs[row] for row in rows])
                moved = batch_to_device(inputs, self.device)
                found = self(moved)["scores"].view(-1).float().tolist()
                for row, score in zip(rows, found, strict=True):
                    scores[row] = score
        self.train(before)
        return scores


def encode(encoder: PairEncoder, pairs: Sequence[Pair]) -> list[EncodedPair]:
    """Return the pairs as the engine builds them, in order; a query is tokenised once."""
    queries = {query: encoder.encode_query(query) for query, _ in pairs}
    return [encoder.encode(queries[query], [document])[0] for query, document in pairs]


def pad(pairs: Sequence[EncodedPair], pad_token_id: int, token_types: bool) -> dict[str, Tensor]:
    """Return padded tensors with a mask: training mixes lengths, which serving never does."""
    width = max(len(pair.ids) for pair in pairs)
    ids = torch.full((len(pairs), width), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((len(pairs), width), dtype=torch.int64)
    types = torch.zeros((len(pairs), width), dtype=torch.int64)
    for row, pair in enumerate(pairs):
        length = len(pair.ids)
        ids[row, :length] = torch.from_numpy(pair.ids.astype("int64"))
        mask[row, :length] = 1
        types[row, pair.document_start : length] = 1
    tensors = {"input_ids": ids, "attention_mask": mask}
    return tensors | ({"token_type_ids": types} if token_types else {})


def pad_left(pairs: Sequence[EncodedPair], pad_token_id: int) -> dict[str, Tensor]:
    """Return tensors padded before the pairs: the last place is a token of each.

    Positions are counted from a pair's own first token, as they are without padding.
    """
    width = max(len(pair.ids) for pair in pairs)
    ids = torch.full((len(pairs), width), pad_token_id, dtype=torch.int64)
    mask = torch.zeros((len(pairs), width), dtype=torch.int64)
    for row, pair in enumerate(pairs):
        ids[row, width - len(pair.ids) :] = torch.from_numpy(pair.ids.astype("int64"))
        mask[row, width - len(pair.ids) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def compute_in_fp32(layer: torch.nn.Linear) -> None:
    """Leave a layer out of autocast: the difference of two logits in bfloat16 would be coarse.

    FSDP and DeepSpeed may hold its weights in bfloat16, so these are read anew each time.
    """

    def forward(values: Tensor) -> Tensor:
        bias = None if layer.bias is None else layer.bias.float()
        with torch.autocast(values.device.type, enabled=False):
            return torch.nn.functional.linear(values.float(), layer.weight.float(), bias)

    module: torch.nn.Module = layer  # whose `forward` is an attribute
    module.forward = forward


def trained_weights(model: torch.nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those of `state` that training changes, on the CPU, each with memory of its own."""
    names = {
        name.replace("_fsdp_wrapped_module.", "")
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    return {
        name: weight.detach().cpu().contiguous().clone()
        for name, weight in state.items()
        if name in names
    }
