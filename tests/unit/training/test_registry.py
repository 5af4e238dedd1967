import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from engine.bundles import open_model
from export.model_steps import Request, export_model
from tests.unit.export.tiny_cross_encoder import write_cross_encoder
from training.errors import TrainingError
from training.kustomize import PLACEHOLDER, read_digest, write_digest
from training.plan_model import PromotePlan
from training.promote import promote, rollback
from training.registry import Registry
from training.registry_table import show

VALUES = f"# a comment\nMODEL_DIGEST={PLACEHOLDER}\nINDEX_DIGEST={PLACEHOLDER}\nPARTITIONS=12\n"
LINEAGE = {"data": "sha256:1", "plan": "sha256:2", "base": "sha256:3", "checkpoint": "sha256:4"}


def later(second: int) -> Callable[[], datetime]:
    return lambda: datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    base = write_cross_encoder(folder / "base")
    export_model(Request("fp32", folder / "bundle", model=str(base)))
    return folder / "bundle"


@pytest.fixture
def plan(tmp_path: Path) -> PromotePlan:
    values = tmp_path / "values.env"
    values.write_text(VALUES)
    return PromotePlan(registry=tmp_path / "models", kustomize=values)


def candidate(run: Path, bundle: Path, name: str) -> str:
    """Write what a passed gate leaves, with a bundle of its own digest."""
    gate = run / "gate"
    shutil.copytree(bundle, gate / "bundle")
    manifest = gate / "bundle" / "manifest.json"
    fields: dict[str, Any] = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps(fields | {"name": name}))
    digest = open_model(gate / "bundle").digest
    measures = {"NDCG@10": {"current": 0.5, "new": 0.6}}
    (gate / "candidate.json").write_text(
        json.dumps(
            {
                "digest": digest,
                "lineage": LINEAGE | {"run": run.name},
                "figures": {"measures": measures},
            }
        )
    )
    return digest


def test_a_promoted_model_serves_and_can_be_traced(
    tmp_path: Path, bundle: Path, plan: PromotePlan, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = candidate(tmp_path / "run", bundle, "one")

    promote(plan, tmp_path / "run", later(1))

    assert plan.kustomize is not None
    assert plan.kustomize.read_text() == VALUES.replace(
        f"MODEL_DIGEST={PLACEHOLDER}", f"MODEL_DIGEST={digest}"
    )
    registry = Registry(plan.registry)
    (change,) = registry.changes()
    assert (change.digest, change.previous, change.at) == (
        digest,
        None,
        "2026-01-01T00:00:01+00:00",
    )
    assert change.lineage is not None
    assert change.lineage.data == "sha256:1"
    assert open_model(registry.bundle(digest)).digest == digest
    show(registry)
    shown = capsys.readouterr().out
    assert digest.removeprefix("sha256:")[:12] in shown
    assert "0.5000 → 0.6000" in shown


def test_promoting_twice_changes_nothing(tmp_path: Path, bundle: Path, plan: PromotePlan) -> None:
    candidate(tmp_path / "run", bundle, "one")

    promote(plan, tmp_path / "run", later(1))
    lines = (plan.registry / "models.jsonl").read_bytes()
    promote(plan, tmp_path / "run", later(2))

    assert (plan.registry / "models.jsonl").read_bytes() == lines


def test_killed_before_the_value_was_written_it_is_written_next_time(
    tmp_path: Path, bundle: Path, plan: PromotePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = candidate(tmp_path / "run", bundle, "one")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    assert plan.kustomize is not None
    with monkeypatch.context() as patch:
        patch.setattr("training.promote.write_digest", killed)
        with pytest.raises(KeyboardInterrupt):
            promote(plan, tmp_path / "run")
    assert read_digest(plan.kustomize) is None
    promote(plan, tmp_path / "run")

    assert read_digest(plan.kustomize) == digest
    assert len(Registry(plan.registry).changes()) == 1


def test_rollback_goes_back_step_by_step(tmp_path: Path, bundle: Path, plan: PromotePlan) -> None:
    assert plan.kustomize is not None
    write_digest(plan.kustomize, "sha256:" + "a" * 64)  # it served before there was a registry
    digests = []
    for number, name in enumerate(("one", "two", "three")):
        digests.append(candidate(tmp_path / name, bundle, name))
        promote(plan, tmp_path / name, later(number))

    rollback(plan)
    assert read_digest(plan.kustomize) == digests[1]
    rollback(plan)
    assert read_digest(plan.kustomize) == digests[0]
    rollback(plan)
    assert read_digest(plan.kustomize) == "sha256:" + "a" * 64
    with pytest.raises(TrainingError, match="no model served before"):
        rollback(plan)

    assert len(Registry(plan.registry).changes()) == 6
    digests.append(candidate(tmp_path / "four", bundle, "four"))
    promote(plan, tmp_path / "four")
    assert Registry(plan.registry).served() == ["sha256:" + "a" * 64, digests[3]]


def test_rollback_to_one_that_is_named(tmp_path: Path, bundle: Path, plan: PromotePlan) -> None:
    digests = []
    for name in ("one", "two", "three"):
        digests.append(candidate(tmp_path / name, bundle, name))
        promote(plan, tmp_path / name)

    with pytest.raises(TrainingError, match="names 0 of the models"):
        rollback(plan, "sha256:ffff")
    rollback(plan, digests[0][:20])

    assert Registry(plan.registry).current() == digests[0]


def test_another_bundle_than_the_measured_one_is_refused(
    tmp_path: Path, bundle: Path, plan: PromotePlan
) -> None:
    candidate(tmp_path / "run", bundle, "one")
    manifest = tmp_path / "run" / "gate" / "bundle" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes()) | {"name": "changed"}))

    with pytest.raises(TrainingError, match="not the bundle that passed"):
        promote(plan, tmp_path / "run")

    assert not (plan.registry / "models.jsonl").exists()


def test_without_a_candidate_nothing_is_promoted(tmp_path: Path, plan: PromotePlan) -> None:
    with pytest.raises(TrainingError, match="only a model that passed"):
        promote(plan, tmp_path / "run")


def test_values_without_the_line_are_refused_before_anything_is_written(
    tmp_path: Path, bundle: Path, plan: PromotePlan
) -> None:
    candidate(tmp_path / "run", bundle, "one")
    assert plan.kustomize is not None
    plan.kustomize.write_text("PARTITIONS=12\n")

    with pytest.raises(TrainingError, match="0 lines MODEL_DIGEST"):
        promote(plan, tmp_path / "run")

    assert not (plan.registry / "models.jsonl").exists()


def test_a_broken_registry_says_so(tmp_path: Path) -> None:
    (tmp_path / "models.jsonl").write_text("{}\n")

    with pytest.raises(TrainingError, match="is broken, restore it"):
        Registry(tmp_path).changes()


def test_the_overlays_have_the_value() -> None:
    for overlay in ("dev", "production"):
        assert read_digest(Path("k8s/overlays") / overlay / "values.env") is None
