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


# Libraries that write tensors give no errno: safetensors quotes the system, and what torch's writer
# says is that it is not where it ought to be.
_SIGNS = ("No space left on device", "PytorchStreamWriter", "inline_container", "iostream error")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the disk is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if any(sign in str(seen) for sign in _SIGNS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
