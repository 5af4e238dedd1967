"""The loop closes: a real worker ranks, simulated users click, and a better model serves.

What `make loop` does: the embedded broker, and a tiny model that begins with random weights. The
long one is `make loop DATA=…/trecqa`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("torch")
pytest.importorskip("confluent_kafka")

from demo.loop.__main__ import main
from demo.loop.round import Outcome, Round
from demo.loop.setting import Bundles, Setting, prepare
from demo.loop.small import HELD_OUT_SHARE, small_setting, small_world
from demo.loop.users import Blind, Knowing, Taste
from demo.loop.world import World, open_world


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Setting, World, Bundles]:
    folder = tmp_path_factory.mktemp("loop")
    setting = small_setting(folder)
    world = open_world(small_world(folder), HELD_OUT_SHARE, None, setting.seed)
    return setting, world, prepare(setting, world)


def play(place: tuple[Setting, World, Bundles], taste: Taste, name: str) -> Outcome:
    setting, world, bundles = place
    return Round(setting, world, bundles, setting.build / name, Console(stderr=True)).play(taste)


def test_clicks_of_users_who_know_make_a_better_model_serve(
    place: tuple[Setting, World, Bundles],
) -> None:
    found = play(place, Knowing(), "knowing")

    assert found.passed, found.report["reasons"]
    ndcg = found.report["measures"]["NDCG@10"]
    assert ndcg["p"] <= 0.05
    assert ndcg["new"] > ndcg["current"]
    assert found.serving == found.report["new"]["digest"]
    # What the worker published is what the gate measured.
    assert found.served is not None
    assert found.served["NDCG@10"] == pytest.approx(ndcg["new"], abs=1e-4)

    setting, world, bundles = place
    weights = setting.build / "knowing" / "run" / "model" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    again = Round(setting, world, bundles, setting.build / "knowing", Console(), go_on=True)

    assert replace(again.play(Knowing()), seconds={}) == replace(found, seconds={})
    assert weights.stat().st_mtime_ns == written


def test_random_clicks_are_refused_and_nothing_changes(
    place: tuple[Setting, World, Bundles],
) -> None:
    found = play(place, Blind(), "blind")

    assert not found.passed
    assert any("NDCG@10" in reason for reason in found.report["reasons"])
    assert found.serving is None
    folder: Path = place[0].build / "blind"
    assert not (folder / "models").exists()
    assert not (folder / "run" / "gate" / "candidate.json").exists()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_users_of_a_real_collection_teach_a_model_of_six_layers(
    data_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    data = data_dir("trecqa/test").parent

    assert main(["--data", str(data), "--build-dir", str(tmp_path)]) == 0

    rounds = json.loads((tmp_path / "loop.json").read_bytes())["rounds"]
    ndcg = rounds["knowing"]["report"]["measures"]["NDCG@10"]
    assert ndcg["p"] <= 0.05
    assert rounds["knowing"]["served"]["NDCG@10"] == pytest.approx(ndcg["new"], abs=1e-4)
    assert rounds["blind"]["report"]["verdict"] == "refused"
