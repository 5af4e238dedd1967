"""The fusion that `python -m training fuse` learnt, on its way from an adapter into a bundle."""

from pathlib import Path

from pydantic import ValidationError

from export.errors import CheckpointError
from schemas.manifests import Fusion

FUSION_FILE = "fusion.json"


def read_fusion(folder: Path) -> Fusion | None:
    """Return the fusion that lies beside an adapter or checkpoint; None where there is none.

    Raises CheckpointError.
    """
    file = folder / FUSION_FILE
    if not file.is_file():
        return None
    try:
        return Fusion.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CheckpointError(f"{file}: {where}: {first['msg']}") from None
