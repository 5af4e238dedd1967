"""Training losses over lists of candidates.

Shapes: scores, teacher, labels are [queries, candidates]. A label is 1 (right), 0 (wrong) or
-1 (unknown); `valid` is False for padding.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

_NEG = -1e4  # finite, so that a masked softmax has finite gradients


def distillation(scores: Tensor, teacher: Tensor, valid: Tensor, scale: float) -> Tensor:
    """KL divergence from softmax(scale * teacher) to softmax(scores), per query [queries]."""
    target = (scale * teacher).masked_fill(~valid, _NEG).log_softmax(-1)
    log_p = scores.masked_fill(~valid, _NEG).log_softmax(-1)
    return (target.exp() * (target - log_p)).sum(-1)


def listwise(scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """-log of the share of softmax(scores) that right candidates hold, per query [queries].

    Unknown candidates take no part. A query without a right candidate, or with nothing but
    right ones, gives 0.
    """
    known = valid & (labels >= 0)
    right = known & (labels == 1)
    everything = scores.masked_fill(~known, _NEG).logsumexp(-1)
    loss = everything - scores.masked_fill(~right, _NEG).logsumexp(-1)
    return torch.where(right.any(-1), loss, torch.zeros_like(loss))


def calibration(scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy, mean over known candidates, per query [queries].

    Gives the raw logit an absolute meaning, so that its sigmoid may be read across queries.
    """
    known = (valid & (labels >= 0)).float()
    each = binary_cross_entropy_with_logits(scores, labels.clamp(min=0).float(), reduction="none")
    return (each * known).sum(-1) / known.sum(-1).clamp(min=1.0)
