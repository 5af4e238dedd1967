"""How many threads the settings mean, for what scores and for what the CPU does beside it."""

import os

from worker.settings import Settings

GPU_LANES = 2


def cores_of(settings: Settings) -> int:
    """Return the threads for what the CPU does with any device: as set, or one for each core."""
    return settings.batch.lanes or len(os.sched_getaffinity(0))


def lanes_of(settings: Settings) -> int:
    """Return the number of scoring threads: as set, or the cores that this process may use.

    For a GPU two, so that one batch is copied there while another is computed.
    """
    fed = not settings.batch.lanes and settings.device in {"cuda", "tensorrt"}
    return min(cores_of(settings), GPU_LANES) if fed else cores_of(settings)
