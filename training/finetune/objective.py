"""The losses: those of sentence-transformers, and the margin that it lacks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from sentence_transformers.cross_encoder.losses import (
    BinaryCrossEntropyLoss,
    LambdaLoss,
    MarginMSELoss,
    MSELoss,
    RankNetLoss,
)
from sentence_transformers.util import batch_to_device
from torch import Tensor
from torch.nn.functional import margin_ranking_loss

from training.finetune.collate import Shape
from training.finetune.encoder import EngineCrossEncoder
from training.plan_model import Loss

MARGIN = 1.0
# Pairs in one pass of a list loss. The library's own choice, as many as there are queries, leaves
# a processor idle between passes.
PAIRS_AT_ONCE = 32


class MarginLoss(torch.nn.Module):
    """Hinge: a better document's logit is to be one more than a worse one's."""

    def __init__(self, model: EngineCrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Sequence[Sequence[str]], labels: Tensor, **_: Any) -> Tensor:
        """`inputs` are queries, better and worse documents; pairs of equal label weigh nothing."""
        queries, better, worse = inputs
        high, low = self._logits(queries, better), self._logits(queries, worse)
        each = margin_ranking_loss(high, low, torch.ones_like(high), MARGIN, reduction="none")
        differs = (labels.to(each.device) > 0).float()
        return (each * differs).sum() / differs.sum().clamp(min=1.0)

    def _logits(self, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
        tokens = self.model.preprocess(list(zip(queries, documents, strict=True)))
        found: Tensor = self.model(batch_to_device(tokens, self.model.device))["scores"]
        return found.view(-1)


LOSSES: dict[Loss, tuple[Shape, Callable[[EngineCrossEncoder], torch.nn.Module]]] = {
    "pointwise": ("flat", BinaryCrossEntropyLoss),
    "pairwise": ("list", partial(RankNetLoss, mini_batch_size=PAIRS_AT_ONCE)),
    "margin": ("margin", MarginLoss),
    "listwise": ("list", partial(LambdaLoss, mini_batch_size=PAIRS_AT_ONCE)),
    "distill-mse": ("flat", MSELoss),
    "distill-margin": ("margin", MarginMSELoss),
}
