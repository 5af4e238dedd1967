"""Folders for what is not whole yet. What processes left behind that were killed is removed."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# A folder this young may be about to be locked.
_LOCKED_WITHIN_S = 5.0


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make a folder that nobody else may read; it is gone afterwards unless it was moved.

    It is locked meanwhile, so that `remove_left_behind` of another process lets it be. Raises
    OSError.
    """
    with ExitStack() as stack:
        # Before there is a folder: an interruption right after its making must find it too.
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        stack.callback(os.close, _lock(folder))
        yield folder


def remove_left_behind(parent: Path, pattern: str) -> None:
    """Remove staging folders of these names that nobody has locked and that aren't brand-new."""
    for folder in parent.glob(pattern):
        try:
            if time.time() - folder.stat().st_mtime < _LOCKED_WITHIN_S:
                continue
            lock = _lock(folder)
        except OSError:  # locked, or gone, or somebody else's
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_unlocked(parent: Path, pattern: str, still_s: float) -> None:
    """Remove folders of versions that locked none, where nothing was written for so many seconds.

    A lock says nothing of these: one that is at work has none either.
    """
    for folder in parent.glob(pattern):
        try:
            written = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        except OSError:  # gone, or being written
            continue
        if time.time() - written > still_s:
            shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int:
    """Lock a folder until the descriptor is closed, or the process ends in whatever way."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
