"""Bundles that the gate compares: the new model's, exported here, and the current one."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

from engine.bundles import Bundle, open_model
from export.checkpoint import default_checkpoint
from export.corpus import write_qrels
from export.errors import VerificationError
from export.model_steps import Request, export_model
from export.pair_template import load_tokenizer, longest_pair
from schemas.manifests import ModelManifest
from training.errors import TrainingError
from training.finetune.labels import LabelledQuery, relevances
from training.plan_model import GatePlan
from training.registry import Registry
from training.run_folder import written_beside
from training.seeds import seeded

CALIBRATION_PAIRS = 480
# Fewer dev queries would let chance decide whether a quantized model is as good as fp32.
LEAST_QUERIES = 50
EVALUATION = "labels-dev"
CALIBRATION = "calibration.jsonl"


def export_new(
    plan: GatePlan, model: Path, max_tokens: int, name: str | None, folder: Path
) -> Bundle[ModelManifest]:
    """Export `model` to `folder/bundle` through the export's own gate.

    Raises VerificationError, of which GateError is one, where that refuses.
    """
    out = folder / "bundle"
    calibration, evaluation = folder / CALIBRATION, folder / EVALUATION
    export_model(
        Request(
            precision=plan.precision,
            out=out,
            model=str(model),
            name=name,
            max_tokens=max_tokens,
            calibration=calibration if calibration.is_file() else None,
            data=evaluation if evaluation.is_dir() else None,
            replace=True,
        )
    )
    return open_model(out)


def open_current(
    plan: GatePlan, registry: Registry, max_tokens: int, folder: Path
) -> Bundle[ModelManifest]:
    """Open the model to beat; the default reranker is exported, where nothing serves yet.

    It reads `max_tokens`, or as many as it can: a decoder's chat template may take more.
    """
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
    default, _ = default_checkpoint()
    tokens = min(max_tokens, longest_pair(load_tokenizer(default), default.config, None))
    out = folder / f"default-{plan.precision}-{tokens}"
    if not out.is_dir():
        export_model(Request(precision=plan.precision, out=out, max_tokens=tokens))
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


def write_evaluation(queries: Sequence[LabelledQuery], folder: Path) -> None:
    """Write the dev split as a BEIR folder, by which the export's own gate judges.

    Not the held-out queries: those must not choose a recipe. Too few queries: none is written, and
    export takes its built-in ones. Numbers stand for ids, which may hold what a table can't.
    """
    known = [query for query in (each.known() for each in queries) if query.teaches]
    if len(known) < LEAST_QUERIES:
        return
    texts = {each.doc_id: each.text for query in known for each in query.documents}
    numbers = {doc_id: str(number) for number, doc_id in enumerate(texts)}
    judgements = {
        str(number): {numbers[doc_id]: grade for doc_id, grade in relevances(query).items()}
        for number, query in enumerate(known)
    }
    with written_beside(folder) as beside:
        beside.mkdir()
        _write_lines(beside / "corpus.jsonl", list(texts.values()))
        _write_lines(beside / "queries.jsonl", [query.query for query in known])
        write_qrels(beside / "qrels.tsv", judgements)


def _write_lines(file: Path, texts: Sequence[str]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for number, text in enumerate(texts):
            lines.write(json.dumps({"_id": number, "text": text}, ensure_ascii=False) + "\n")


def clear(folder: Path) -> None:
    """Remove what an earlier gate decided; exported defaults stay."""
    for name in ("candidate.json", "report.json", "done.json"):
        (folder / name).unlink(missing_ok=True)
    for name in ("bundle", EVALUATION):
        shutil.rmtree(folder / name, ignore_errors=True)


__all__ = [
    "VerificationError",
    "clear",
    "export_new",
    "open_current",
    "write_calibration",
    "write_evaluation",
]
