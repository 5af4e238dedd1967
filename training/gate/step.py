"""`gate`: the new model against the one that serves.

1. Refuse held-out queries that were trained on.
2. Open the current model, and export the new one, through the export's own gate.
3. Rank the held-out queries with both bundles, by the engine that serves.
4. Judge: the chosen measure rises for sure, no other falls, no slice pays, and the speed holds.

`report.json` says what was found in any case; `candidate.json` is written for a pass only.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.bundles import Bundle, sha256_of
from engine.fusion import fusion_for
from engine.score import Scorer
from export.bars import progress
from export.checkpoint import open_checkpoint
from export.errors import VerificationError
from export.index import processors
from export.reranking import rerank
from schemas.manifests import ModelManifest
from training.finetune.errors import FinetuneError
from training.finetune.labels import LabelledQuery, read_labels
from training.finetune.step import LABELS, MODEL
from training.gate import bundle as bundles
from training.gate.figures import Comparison, Values, compare, per_query
from training.gate.heldout import HeldOut, from_folder, from_labels
from training.gate.leakage import find_leakage
from training.gate.slices import Slice, slices
from training.gate.speed import Speed, compare_speed
from training.plan_model import GatePlan
from training.registry import Registry
from training.run_folder import digest_of, read_done, write_done, write_json

GATE = "gate"
BUNDLE = "bundle"
CANDIDATE = "candidate.json"
REPORT = "report.json"


@dataclass(frozen=True)
class Ground:
    """What the gate stands on: the plan's other parts that it needs."""

    plan: GatePlan
    run: Path
    registry: Path
    max_tokens: int
    name: str | None = None
    labels_index: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the gate writes."""
        return self.run / GATE


@dataclass
class Verdict:
    """Reasons against the new model, and what was found on the way; without reasons it passes."""

    reasons: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    def report(self) -> dict[str, Any]:
        """Return what `report.json` holds."""
        verdict = "pass" if self.passed else "refused"
        return {"verdict": verdict, "reasons": self.reasons, **self.found}


def gate(ground: Ground) -> dict[str, Any]:
    """Return the report; raises TrainingError, ExportError, EngineError where none can be made."""
    trained = read_done_of_model(ground.run)
    labels = ground.run / LABELS
    inputs = _inputs(ground, labels)
    if trained["inputs"]["labels"] != inputs["labels"]:
        raise FinetuneError(
            f"{labels} changed since the model was trained, so nobody could tell what it has "
            "seen: run `python -m training train` again"
        )
    done = read_done(ground.folder, inputs)
    if done is not None:
        return done
    ground.folder.mkdir(parents=True, exist_ok=True)
    bundles.clear(ground.folder)
    verdict = Verdict()
    new = _judge(ground, verdict)
    report = verdict.report()
    write_json(ground.folder / REPORT, report)
    if verdict.passed and new is not None:
        write_json(ground.folder / CANDIDATE, _candidate(ground, new, trained, verdict))
    write_done(ground.folder, inputs, report)
    return report


def read_done_of_model(run: Path) -> dict[str, Any]:
    """Return what `train` noted at its end; raises FinetuneError where it didn't end."""
    try:
        found: dict[str, Any] = json.loads((run / MODEL / "done.json").read_bytes())
    except (OSError, ValueError):
        raise FinetuneError(
            f"{run / MODEL} is not finished: run `python -m training train`"
        ) from None
    return found


def _inputs(ground: Ground, labels: Path) -> dict[str, str]:
    if not labels.is_file():
        raise FinetuneError(f"{labels} is missing: run `python -m training label` first")
    current = ground.plan.current
    serving = Registry(ground.registry).current() if current is None else str(current)
    found = {
        "labels": sha256_of(labels),
        "model": open_checkpoint(str(ground.run / MODEL)).source.digest,
        "plan": digest_of([ground.plan.model_dump(mode="json"), ground.max_tokens, ground.name]),
        "current": serving or "default",
    }
    if ground.plan.held_out:
        found["held_out"] = digest_of(
            {
                file.name: sha256_of(file)
                for file in sorted(ground.plan.held_out.iterdir())
                if file.is_file()
            }
        )
    return found


def _judge(ground: Ground, verdict: Verdict) -> Bundle[ModelManifest] | None:
    """Fill the verdict; returns the new bundle where it came to one."""
    plan = ground.plan
    splits = read_labels(ground.run / LABELS)
    held_out = (
        from_labels(splits["test"], ground.labels_index, plan.top_k)
        if plan.held_out is None
        else from_folder(plan.held_out, plan.index_bundle, plan.top_k)
    )
    verdict.found["held_out"] = {"name": held_out.name, "queries": len(held_out.queries)}
    leakage = find_leakage([*splits["train"], *splits["dev"]], held_out)
    if leakage:
        verdict.reasons.append(str(leakage))
        return None
    # First, as an export takes long: what is wrong with it is said before.
    current = bundles.open_current(
        plan, Registry(ground.registry), ground.max_tokens, ground.folder
    )
    new = _export(ground, splits, verdict)
    if new is None:
        return None
    for role, one in (("current", current), ("new", new)):
        verdict.found[role] = {"name": one.manifest.name, "digest": one.digest}
    _measure(plan, held_out, current, new, verdict)
    return new


def _export(
    ground: Ground, splits: Mapping[str, list[LabelledQuery]], verdict: Verdict
) -> Bundle[ModelManifest] | None:
    calibration = ground.folder / bundles.CALIBRATION
    bundles.write_calibration(splits["train"], ground.plan.seed, calibration)
    bundles.write_evaluation(splits["dev"], ground.folder / bundles.EVALUATION)
    try:
        new = bundles.export_new(
            ground.plan, ground.run / MODEL, ground.max_tokens, ground.name, ground.folder
        )
    except VerificationError as error:
        verdict.reasons.append(f"export: {error}")
        return None
    checked = new.manifest.verification
    verdict.found["export"] = checked.model_dump(mode="json") if checked else None
    return new


def _measure(
    plan: GatePlan,
    held_out: HeldOut,
    current: Bundle[ModelManifest],
    new: Bundle[ModelManifest],
    verdict: Verdict,
) -> None:
    scorers = Scorer.open(current, processors()), Scorer.open(new, processors())
    values: list[Mapping[str, Values]] = []
    for scorer, one in zip(scorers, (current, new), strict=True):
        fusion = fusion_for(one.manifest, held_out.index)
        ranked = rerank(scorer, held_out.queries, held_out.candidates, fusion)
        values.append(per_query(held_out, ranked.rankings))
    found = {
        name: compare(values[0][name], values[1][name], plan.resamples, plan.seed)
        for name in values[0]
    }
    verdict.found["measures"] = {name: one.as_json() for name, one in found.items()}
    verdict.reasons += _reasons_of_measures(plan, found)
    parts = slices(held_out, values[0][plan.measure], values[1][plan.measure], plan.slices)
    verdict.found["slices"] = [part.as_json() for part in parts]
    verdict.reasons += _reasons_of_slices(plan, parts)
    pairs = [
        (held_out.queries[query_id], hit.text)
        for query_id, hits in held_out.candidates.items()
        for hit in hits
        if all(scorer.encoder.fits(held_out.queries[query_id]) for scorer in scorers)
    ][: plan.speed_pairs]
    with progress("Timing both models"):
        speed = compare_speed(*scorers, pairs)
    for scorer in scorers:
        scorer.close()
    verdict.found["speed"] = {
        "current_pairs_per_s": round(speed.current, 1),
        "new_pairs_per_s": round(speed.new, 1),
        "ratio": round(speed.ratio, 3),
        "pairs": speed.pairs,
    }
    verdict.reasons += _reasons_of_speed(plan, speed)


def _reasons_of_measures(plan: GatePlan, found: Mapping[str, Comparison]) -> list[str]:
    decides = found[plan.measure]
    reasons = []
    if decides.difference <= plan.min_gain:
        reasons.append(
            f"{plan.measure} went from {decides.current:.4f} to {decides.new:.4f}: it must rise by "
            f"more than {plan.min_gain}"
        )
    elif decides.p > plan.max_p:
        reasons.append(
            f"{plan.measure} rose from {decides.current:.4f} to {decides.new:.4f}, which may be "
            f"chance (p {decides.p:.3f}, at most {plan.max_p} is asked)"
        )
    reasons += [
        f"{name} fell from {one.current:.4f} to {one.new:.4f}, by more than {plan.max_other_drop}"
        for name, one in found.items()
        if name != plan.measure and -one.difference > plan.max_other_drop
    ]
    return reasons


def _reasons_of_slices(plan: GatePlan, parts: list[Slice]) -> list[str]:
    return [
        f"slice {part.name} ({part.queries} queries): {plan.measure} fell from "
        f"{part.current:.4f} to {part.new:.4f}, by more than {plan.slices.max_drop}"
        for part in parts
        if -part.difference > plan.slices.max_drop
    ]


def _reasons_of_speed(plan: GatePlan, speed: Speed) -> list[str]:
    if speed.ratio >= plan.min_speed:
        return []
    return [
        f"{speed.new:.0f} pairs a second are {speed.ratio:.0%} of the current model's "
        f"{speed.current:.0f}; {plan.min_speed:.0%} is asked"
    ]


def _candidate(
    ground: Ground, new: Bundle[ModelManifest], trained: dict[str, Any], verdict: Verdict
) -> dict[str, Any]:
    inputs, summary = trained["inputs"], trained["summary"]
    return {
        "digest": new.digest,
        "lineage": {
            "data": inputs["labels"],
            "plan": inputs["plan"],
            "base": inputs["base"],
            "checkpoint": summary["model"],
            "run": ground.run.resolve().name,
        },
        "figures": {
            "held_out": verdict.found["held_out"],
            "measures": verdict.found["measures"],
            "against": verdict.found["current"]["digest"],
        },
    }
