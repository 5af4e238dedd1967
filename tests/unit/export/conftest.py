from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.export.tiny_cross_encoder import (
    write_adapter,
    write_cross_encoder,
    write_encoder_without_head,
)

CrossEncoder = Callable[[str], Path]


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoder:
    """Gives the folder of a tiny cross-encoder of a family, made once."""
    pytest.importorskip("torch")
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = write_cross_encoder(tmp_path_factory.mktemp("ce") / family, family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def bare_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT without a head."""
    pytest.importorskip("torch")
    return write_encoder_without_head(tmp_path_factory.mktemp("bare") / "bare")


@pytest.fixture(scope="session")
def adapter(bare_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LoRA adapter that makes a cross-encoder of `bare_encoder`."""
    return write_adapter(tmp_path_factory.mktemp("adapter") / "tiny-lora", bare_encoder)


@pytest.fixture
def altered(cross_encoder: CrossEncoder, tmp_path: Path) -> Path:
    """A copy of the tiny BERT's folder, to be damaged."""
    copy = tmp_path / "altered"
    copy.mkdir()
    for file in cross_encoder("bert").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy
