"""`train`: labels to a checkpoint.

1. Read the labels, and leave out what teaches nothing.
2. Load the base, and put an adapter on it.
3. Train, from the last whole checkpoint where an earlier run was killed.
4. Merge the best look's weights into the base: `model/` appears whole, or not at all.
"""

import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from engine.bundles import open_index, sha256_of
from engine.pairs import PairEncoder
from export.bars import Advance, progress
from export.instruction import instruction_for
from schemas.manifests import IndexManifest, canonical_json
from training.console import console
from training.finetune import start as starts
from training.finetune.collate import DrawCollator, Scores
from training.finetune.draws import Draws
from training.finetune.encoder import EngineCrossEncoder
from training.finetune.errors import DiskFullError, FinetuneError, LabelsError, is_disk_full
from training.finetune.finish import BASE, Finished, finish, lora_config
from training.finetune.fused import learn_fusion
from training.finetune.lessons import Lessons, find_lessons
from training.finetune.look import MEASURE, DevLook, look_before
from training.finetune.objective import LOSSES
from training.finetune.teacher import teach
from training.finetune.trainer import (
    Reporter,
    Trainer,
    arguments,
    last_whole_checkpoint,
    load_trained,
    processes,
)
from training.plan_model import DEFAULT_MODEL, DISTILLATIONS, TrainPlan
from training.run_folder import digest_of, read_done

LABELS = Path("labels") / "groups.parquet"
MODEL = "model"
WORK = "model.work"

_TOOLS = ("torch", "transformers", "sentence-transformers", "peft")


@dataclass(frozen=True)
class _Setup:
    """All that a training is made of."""

    plan: TrainPlan
    start: starts.Start
    encoder: PairEncoder
    lessons: Lessons
    work: Path
    teacher: Scores | None

    @property
    def draws(self) -> Draws:
        plan = self.plan
        return Draws(self.lessons.train, plan.documents_per_query, plan.epochs, plan.seed)

    @property
    def steps(self) -> int:
        needed = -(-len(self.draws) // (self.plan.queries_per_batch * processes().num_processes))
        return min(int(needed), self.plan.max_steps or int(needed))

    @property
    def look(self) -> DevLook:
        return DevLook(self.lessons.dev, self.plan.dev_documents)

    @property
    def before(self) -> float:
        return self.look_before()

    @property
    def checkpoint(self) -> str | None:
        found = last_whole_checkpoint(self.work)
        return str(found) if found else None

    def look_before(self) -> float:
        return look_before(self.open_model, self.look, self.work / "before.json")

    def open_model(self) -> EngineCrossEncoder:
        """Open the base with a new adapter, the same one each time."""
        set_seed(self.plan.seed)
        model: EngineCrossEncoder = EngineCrossEncoder.open(self.work / BASE, self.encoder)
        if self.plan.method == "lora":
            try:
                model.add_adapter(lora_config(self.plan, self.start))
            except ValueError as error:
                reason = str(error).splitlines()[0]
                raise FinetuneError(f"train.lora.target_modules: {reason}") from None
        return model

    def trainer(self, advance: Advance) -> Trainer:
        shape, make_loss = LOSSES[self.plan.loss]
        model = self.open_model()
        trainer: Trainer = Trainer(
            model=model,
            args=arguments(self.plan, self.work, self.steps),
            train_dataset=Dataset.from_dict({"draw": self.draws.order()}),
            evaluator=self.look,
            loss=make_loss(model),
            data_collator=DrawCollator(
                preprocess_fn=model.preprocess,
                draws=self.draws,
                shape=shape,
                teacher=self.teacher,
            ),
            callbacks=[EarlyStoppingCallback(self.plan.patience), Reporter(advance)],
        )
        trainer.remove_callback(PrinterCallback)  # type: ignore[no-untyped-call]
        return trainer


def train(plan: TrainPlan, run: Path, index_bundle: Path | None = None) -> dict[str, Any]:
    """Write `run/model`; returns its summary. `index_bundle` is where the labels' scores are from.

    A finished step with the same inputs does nothing.

    Raises FinetuneError, ExportError.
    """
    transformers_logging.set_verbosity_error()
    index = open_index(index_bundle) if index_bundle and plan.fuse else None
    inputs = _inputs(plan, run / LABELS) | ({"index": index.digest} if index else {})
    done = read_done(run / MODEL, inputs)
    if done is not None:
        console.print(f"{run / MODEL} is up to date", highlight=False, soft_wrap=True)
        return done
    work = run / WORK
    with _disk_full_said(work):
        return _train(plan, run, work, inputs, index.manifest if index else None)


def _inputs(plan: TrainPlan, labels: Path) -> dict[str, str]:
    """Return what the result depends on, by digest; raises LabelsError, CheckpointError."""
    if not labels.is_file():
        raise LabelsError(f"{labels} is missing: run `python -m training label` first")
    checkpoint, adapter = starts.find_trainable(plan.base, plan.adapter)
    teacher = starts.find(plan.teacher, None)[0] if plan.teacher else None
    decoders = [each.is_decoder for each in (checkpoint, teacher) if each]
    if plan.instruction and not any(decoders):
        raise FinetuneError(
            f"train.instruction: {plan.base} is no decoder and reads no instruction: leave it out"
        )
    found = {
        "labels": sha256_of(labels),
        "plan": digest_of(plan),
        "base": checkpoint.source.digest,
    }
    if adapter:
        found["adapter"] = adapter.source.digest
    if teacher and plan.teacher != DEFAULT_MODEL:
        found["teacher"] = teacher.source.digest
    for name, one in (("base", checkpoint), ("teacher", teacher)):
        if one and one.is_decoder:
            kept = instruction_for(plan.instruction, one, adapter if name == "base" else None)
            found[f"instruction of {name}"] = str(kept)
    return found


def _prepare(work: Path, inputs: dict[str, str]) -> None:
    """Keep an earlier run's checkpoints where its inputs were the same, else begin anew."""
    earlier = work / "inputs.json"
    wanted = canonical_json(inputs)
    if work.is_dir() and not (earlier.is_file() and earlier.read_bytes() == wanted):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    earlier.write_bytes(wanted)


def _train(
    plan: TrainPlan, run: Path, work: Path, inputs: dict[str, str], index: IndexManifest | None
) -> dict[str, Any]:
    began = time.monotonic()
    set_seed(plan.seed)
    # Of several processes the first writes the files that all of them read.
    with processes().main_process_first():
        _prepare(work, inputs)
        setup = _set_up(plan, run / LABELS, work)
    before = setup.before
    with progress("Training", setup.steps) as advance:
        trainer = setup.trainer(advance)
        with warnings.catch_warnings():
            # Checkpoints are told apart by their number, where files' times are too coarse.
            warnings.filterwarnings("ignore", message="mtime may not be reliable")
            trainer.train(resume_from_checkpoint=setup.checkpoint)
    state = trainer.state
    assert state.best_model_checkpoint is not None, "there was a look, and each has a checkpoint"
    best = Path(state.best_model_checkpoint)
    lessons = setup.lessons
    summary = {
        "base": setup.start.base.model_dump(),
        "queries": {"train": len(lessons.train), "dev": len(lessons.dev)},
        "dev": {"measure": MEASURE, "before": before, "after": state.best_metric},
        "steps": {"trained": state.global_step, "best": int(best.name.split("-")[1])},
        "seconds": round(time.monotonic() - began, 1),
        "tools": {name: version(name) for name in _TOOLS},
    }
    if trainer.is_world_process_zero():
        model = setup.open_model()  # a whole one: the trained one may be spread over processes
        load_trained(model, best)
        fusion = learn_fusion(model, lessons.dev, index) if index else None
        summary["fusion"] = fusion.model_dump(mode="json") if fusion else None
        made = Finished(plan, setup.start, model, summary, state.log_history, fusion)
        finish(made, work, run / MODEL, inputs)
    return summary


def _set_up(plan: TrainPlan, labels: Path, work: Path) -> _Setup:
    with progress("Loading the base"):
        start = starts.load(plan.base, plan.adapter, plan.keep_layers, plan.instruction)
        encoder = starts.pair_encoder(start, plan.max_tokens, work / "tokenizer.json")
        starts.write(start, work / BASE)
    lessons = find_lessons(labels, encoder)
    teacher = None
    if plan.loss in DISTILLATIONS:
        teacher = teach(plan, lessons.train, work, start)
        lessons = lessons.scored_by(teacher)
    setup = _Setup(plan, start, encoder, lessons, work, teacher)
    setup.look_before()
    checkpoint = last_whole_checkpoint(work)
    if checkpoint:
        console.print(f"going on from {checkpoint.name}", highlight=False, soft_wrap=True)
    return setup


@contextmanager
def _disk_full_said(work: Path) -> Iterator[None]:
    """Say in one line that the disk is full; the last whole checkpoint stays."""
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        kept = last_whole_checkpoint(work)
        after = f"goes on from {kept.name}" if kept else "begins anew"
        raise DiskFullError(
            f"the disk of {work} is full: free some space and run the same command, which {after}"
        ) from error
