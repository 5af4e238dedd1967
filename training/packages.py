"""Passages from the descriptions of Debian's packages: short ones ask for the long ones.

What is installed is in dpkg's status file, all that could be in apt's lists (some 60,000, where
`apt-get -o Acquire::Languages=en update` was run).
"""

import errno
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

from training.manuals import MAX_WORDS, MIN_WORDS, as_typed, split_off
from training.passages import Passage

# Apt's own tool knows how its lists are compressed.
_APT_HELPER = "/usr/lib/apt/apt-helper"
_DESCRIPTION = re.compile(r"^Description(?:-en)?: (.*)\n((?: .*\n?)+)", re.MULTILINE)
# Packages of one work repeat its first words: one is enough.
_SAME = 100
_SPLIT_OFF_SHARE = 0.4


def read_lists(folder: Path) -> str:
    """Return the English descriptions in apt's `folder`; empty where it has none.

    Raises OSError where they are damaged, or apt is not there.
    """
    files = sorted(folder.glob("*_i18n_Translation-en*"))
    if not files:
        return ""
    command = [_APT_HELPER, "cat-file", *map(str, files)]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - apt's own
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        raise OSError(errno.EIO, f"apt's lists can't be read: {said[0]}", str(folder))
    return done.stdout.decode(errors="replace")


def package_passages(text: str, rng: Random) -> list[Passage]:
    """Return one passage a work; `text` is a status file or what `read_lists` gives."""
    return list(_passages(text, rng))


def _passages(text: str, rng: Random) -> Iterator[Passage]:
    seen: set[str] = set()
    for entry in text.split("\n\n"):
        said = _DESCRIPTION.search(entry)
        if said is None:
            continue
        words = said[2].replace("\n .\n", "\n").split()[:MAX_WORDS]
        long = " ".join(words)
        if len(words) < MIN_WORDS or long[:_SAME] in seen:
            continue
        seen.add(long[:_SAME])
        parts = split_off(long, rng) if rng.random() < _SPLIT_OFF_SHARE else None
        if parts:
            yield Passage("packages", parts[1], (as_typed(parts[0], rng),))
        else:
            yield Passage("packages", long, (said[1],))
