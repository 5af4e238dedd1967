"""Errors of train, gate and promote; each message is one line that says what to do."""

import errno

from training.errors import TrainingError


class FinetuneError(TrainingError):
    """The step can't go on."""


class LabelsError(FinetuneError):
    """The labels are missing, broken, or teach nothing."""


class LeakageError(FinetuneError):
    """Held-out queries or pairs were trained on: what they measure means nothing."""


class DiskFullError(FinetuneError):
    """The disk is full; what was written before is whole."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk is full.

    Libraries that write tensors give no errno: safetensors quotes it, torch drops it.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        text = str(seen)
        if "No space left on device" in text or "PytorchStreamWriter failed" in text:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
