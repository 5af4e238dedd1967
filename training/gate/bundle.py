"""Bundles that the gate compares: the new model's, exported here, and the current one."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

from engine.bundles import Bundle, open_model
from export.errors import VerificationError
from export.model_steps import Request, export_model
from schemas.manifests import ModelManifest
from training.errors import TrainingError
from training.finetune.labels import LabelledQuery
from training.plan_model import GatePlan
from training.registry import Registry
from training.run_folder import written_beside
from training.seeds import seeded

CALIBRATION_PAIRS = 480


def export_new(
    plan: GatePlan, model: Path, max_tokens: int, name: str | None, folder: Path
) -> Bundle[ModelManifest]:
    """Export `model` to `folder/bundle` through the export's own gate.

    Raises VerificationError, of which GateError is one, where that refuses.
    """
    out = folder / "bundle"
    calibration = folder / "calibration.jsonl"
    export_model(
        Request(
            precision=plan.precision,
            out=out,
            model=str(model),
            name=name,
            max_tokens=max_tokens,
            calibration=calibration if calibration.is_file() else None,
            replace=True,
        )
    )
    return open_model(out)


def open_current(
    plan: GatePlan, registry: Registry, max_tokens: int, folder: Path
) -> Bundle[ModelManifest]:
    """Open the model to beat; the default reranker is exported, where nothing serves yet."""
    if plan.current is not None:
        return open_model(plan.current)
    serving = registry.current()
    if serving is not None:
        if not registry.bundle(serving).is_dir():
            raise TrainingError(
                f"{serving} serves, and {registry.bundle(serving)} is missing: put its bundle "
                "there, or name it in gate.current"
            )
        return open_model(registry.bundle(serving))
    out = folder / f"default-{plan.precision}-{max_tokens}"
    if not out.is_dir():
        export_model(Request(precision=plan.precision, out=out, max_tokens=max_tokens))
    return open_model(out)


def write_calibration(queries: Sequence[LabelledQuery], seed: int, file: Path) -> None:
    """Write pairs of the training split: ranges are measured on what the model will meet."""
    rng: Random = seeded(seed, "calibration")
    pairs = [(query.query, document.text) for query in queries for document in query.documents]
    chosen = rng.sample(pairs, min(CALIBRATION_PAIRS, len(pairs)))
    with written_beside(file) as beside, beside.open("w", encoding="utf-8") as lines:
        for query, document in chosen:
            text = json.dumps({"query": query, "document": document}, ensure_ascii=False)
            lines.write(text + "\n")


def clear(folder: Path) -> None:
    """Remove what an earlier gate decided; exported defaults stay."""
    for name in ("candidate.json", "report.json", "done.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "bundle", ignore_errors=True)


__all__ = ["VerificationError", "clear", "export_new", "open_current", "write_calibration"]
