"""What the loop keeps of an earlier call, and what it makes anew since something has changed."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("confluent_kafka")

from rich.console import Console

from demo.loop import setting as settings
from demo.loop.round import Round
from demo.loop.setting import Setting, prepare
from demo.loop.start import DEFAULT
from demo.loop.users import Blind, Knowing
from demo.loop.world import World, open_world
from tests.unit.demo.tiny_world import write_tiny_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(write_tiny_world(tmp_path_factory.mktemp("world") / "w"), 0.4, None, 7)


@pytest.fixture
def indexes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The indexes that were built; nothing is computed."""
    built: list[Path] = []
    monkeypatch.setattr(settings, "build_index", lambda corpus, out, model: built.append(out))
    monkeypatch.setattr(settings, "_export_start", lambda *_: None)
    return built


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    for name in ("base", "embedder/1_Pooling"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    return Setting(tmp_path / "build", str(tmp_path / "base"), embedder=str(tmp_path / "embedder"))


def test_what_was_made_of_the_same_is_kept(
    setting: Setting, world: World, indexes: list[Path]
) -> None:
    prepare(setting, world)
    prepare(setting, world)

    assert len(indexes) == 1


@pytest.mark.parametrize("file", ["base/config.json", "embedder/1_Pooling/config.json", "base/new"])
def test_another_model_in_the_same_folder_is_noticed(
    file: str, setting: Setting, world: World, indexes: list[Path], tmp_path: Path
) -> None:
    prepare(setting, world)
    (tmp_path / file).write_text('{"trained": "again"}')
    prepare(setting, world)

    assert len(indexes) == 2


def test_another_default_reranker_is_noticed(
    setting: Setting,
    world: World,
    indexes: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default = replace(setting, base=DEFAULT)
    prepare(default, world)
    monkeypatch.setattr(settings, "DEFAULT_ADAPTER", tmp_path / "base")
    prepare(default, world)

    assert len(indexes) == 2


def test_clicks_depend_on_what_users_know(
    setting: Setting, world: World, indexes: list[Path]
) -> None:
    bundles = prepare(setting, world)
    assert indexes
    question_id = next(iter(world.asked))
    held_out = next(iter(world.held_out))

    def inputs(changed: dict[str, dict[str, int]], *, blind: bool = False) -> object:
        judgements = {**world.collection.judgements, **changed}
        other = replace(world, collection=replace(world.collection, judgements=judgements))
        one = Round(setting, other, bundles, setting.build / "round", Console(), go_on=True)
        return one.inputs(Blind() if blind else Knowing())

    assert inputs({}) == inputs({held_out: {"d1": 1}})
    assert inputs({}) != inputs({question_id: {"d1": 1}})
    assert inputs({}) != inputs({}, blind=True)
