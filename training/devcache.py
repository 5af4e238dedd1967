"""The retriever's lists for a collection, kept on disk: the embeddings cost minutes."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from training.evaluate import DevSet


def cached_devset(name: str, folder: Path, make: Callable[[], DevSet]) -> DevSet:
    """What `make` returns, read from `folder` if it was made before."""
    path = folder / f"{name.replace('/', '-')}.json"
    if path.is_file():
        return DevSet(**json.loads(path.read_text(encoding="utf-8")))
    dev = make()
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(dev), ensure_ascii=False), encoding="utf-8")
    return dev
