"""The loop in a minute: a made-up language, and models of two layers with random weights at first.

Needs no test collection and no download. What is real: worker, topics, steps, gate, registry.
"""

from pathlib import Path

from demo.loop.setting import Setting
from tests.unit.demo.tiny_world import write_tiny_world
from tests.unit.export.tiny_cross_encoder import make_tokenizer, write_cross_encoder
from tests.unit.tiny_retrieval import write_tiny_embedder

HELD_OUT_SHARE = 0.4


def small_world(folder: Path) -> Path:
    """Write the collection, unless it is there, and return its folder."""
    world = folder / "world"
    return world if world.is_dir() else write_tiny_world(world)


def small_setting(folder: Path) -> Setting:
    """Write the models, unless they are there, and return the setting for them."""
    base, embedder = folder / "reranker", folder / "embedder"
    if not base.is_dir():
        write_cross_encoder(base)
    if not embedder.is_dir():
        write_tiny_embedder(embedder, make_tokenizer("bert"))
    return Setting(
        build=folder,
        base=str(base),
        embedder=str(embedder),
        fuse=False,
        precision="fp32",
        max_tokens=32,
        top_k=40,
        sessions=6,
        train={
            "method": "full",
            "learning_rate": 0.02,
            "epochs": 24,
            "documents_per_query": 12,
            "evaluate_every": 25,
            "patience": 10,
        },
        # 28 questions say little about the first right answer alone, and a busy machine nothing
        # about speed.
        gate={"resamples": 999, "max_other_drop": 0.15, "min_speed": 0.1, "speed_pairs": 32},
        label={"mine": {"per_query": 0}},
    )
