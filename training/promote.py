"""`promote`, `rollback` and `registry`: the bundle that passed becomes the one that serves.

1. Check that the candidate's bundle is the one that was measured.
2. Keep it in the registry's folder.
3. Append the line with its lineage.
4. Write its digest into the kustomize value. Killed before that, the same command does it.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.bundles import open_model
from training.errors import TrainingError
from training.gate.step import BUNDLE, CANDIDATE, GATE
from training.kustomize import read_digest, write_digest
from training.plan_model import PromotePlan
from training.registry import Change, Lineage, Registry

Now = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


def promote(plan: PromotePlan, run: Path, now: Now = _now) -> dict[str, Any]:
    """Let the candidate serve; a second time changes nothing. Raises TrainingError, BundleError."""
    candidate = _candidate(run / GATE / CANDIDATE)
    bundle = open_model(run / GATE / BUNDLE)
    if bundle.digest != candidate["digest"]:
        raise TrainingError(
            f"{bundle.path} is not the bundle that passed the gate: run the gate again"
        )
    registry = Registry(plan.registry)
    replaced = read_digest(plan.kustomize) if plan.kustomize else None
    with registry.locked():
        serving = registry.current()
        against = candidate["figures"].get("against")
        if serving not in {None, bundle.digest} and against not in {None, serving}:
            raise TrainingError(
                f"{run} passed against {against}, and {serving} serves now: run the gate again"
            )
        previous = serving or replaced
        registry.keep(bundle.path, bundle.digest)
        if registry.current() != bundle.digest:
            registry.append(
                Change(
                    event="promote",
                    at=now().isoformat(timespec="seconds"),
                    digest=bundle.digest,
                    previous=previous,
                    name=bundle.manifest.name,
                    lineage=Lineage.model_validate(candidate["lineage"]),
                    figures=candidate["figures"],
                )
            )
        if plan.kustomize:
            write_digest(plan.kustomize, bundle.digest)
    return _outcome("promoted", bundle.digest, previous, plan)


def rollback(plan: PromotePlan, to: str | None = None, now: Now = _now) -> dict[str, Any]:
    """Let the model before serve again, or `to`, of those that served; raises TrainingError."""
    registry = Registry(plan.registry)
    with registry.locked():
        served = registry.served()
        if len(served) < 2:
            raise TrainingError(f"{plan.registry}: no model served before this one")
        target = _target(served, to)
        registry.append(
            Change(
                event="rollback",
                at=now().isoformat(timespec="seconds"),
                digest=target,
                previous=served[-1],
            )
        )
        if plan.kustomize:
            write_digest(plan.kustomize, target)
    return _outcome("rolled back", target, served[-1], plan)


def _target(served: list[str], to: str | None) -> str:
    if to is None:
        return served[-2]
    found = [digest for digest in served[:-1] if digest.removeprefix("sha256:").startswith(
        to.removeprefix("sha256:"))]  # fmt: skip
    if len(set(found)) != 1:
        raise TrainingError(
            f"--to {to} names {len(set(found))} of the models that served before: "
            "`python -m training registry` lists them"
        )
    return found[0]


def _candidate(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except OSError:
        raise TrainingError(
            f"{file} is missing: only a model that passed `python -m training gate` is promoted"
        ) from None
    return found


def _outcome(done: str, digest: str, previous: str | None, plan: PromotePlan) -> dict[str, Any]:
    return {
        done: digest,
        "instead of": previous,
        "registry": str(plan.registry),
        "kustomize": str(plan.kustomize) if plan.kustomize else None,
    }
