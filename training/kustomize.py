"""The one value that says which model serves: MODEL_DIGEST in an overlay's values.env."""

import re
from pathlib import Path

from training.errors import TrainingError
from training.run_folder import written_beside

NAME = "MODEL_DIGEST"
_LINE = re.compile(rf"^{NAME}=(\S*)$", re.MULTILINE)
# What an overlay has before a model was chosen.
PLACEHOLDER = "sha256:" + "0" * 64


def read_digest(file: Path) -> str | None:
    """Return the digest; None for the placeholder. Raises TrainingError where there is no line."""
    found = _LINE.findall(_text(file))
    if len(found) != 1:
        raise TrainingError(
            f"{file} has {len(found)} lines {NAME}=…, not one: name an overlay's values.env"
        )
    digest: str = found[0]
    return None if digest in ("", PLACEHOLDER) else digest


def write_digest(file: Path, digest: str) -> None:
    """Change the line, and nothing else, at once."""
    read_digest(file)
    changed = _LINE.sub(f"{NAME}={digest}", _text(file))
    with written_beside(file) as beside:
        beside.write_text(changed, encoding="utf-8")
        beside.chmod(file.stat().st_mode)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{file} can't be read: {error.strerror}") from error
