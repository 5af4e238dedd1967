"""The training loop of sentence-transformers, with checkpoints that are whole or not there."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers.cross_encoder import (
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from export.bars import Advance
from training.console import console
from training.finetune.encoder import trained_weights
from training.finetune.look import MEASURE
from training.plan_model import TrainPlan

WEIGHTS = "trained.safetensors"
STATE = "trainer_state.json"
_PARTS = (WEIGHTS, "optimizer.pt", "scheduler.pt", "rng_state.pth", STATE)
# Full training moves every weight, and forgets at a LoRA's rate.
FULL_SHARE = 0.1


def arguments(plan: TrainPlan, folder: Path, steps: int) -> CrossEncoderTrainingArguments:
    """Return the library's arguments for a plan."""
    every = min(plan.evaluate_every, steps)  # at least one look, or there is nothing to keep
    rate = plan.learning_rate * (FULL_SHARE if plan.method == "full" else 1.0)
    return CrossEncoderTrainingArguments(
        output_dir=str(folder),
        seed=plan.seed,
        data_seed=plan.seed,
        max_steps=steps,
        per_device_train_batch_size=plan.queries_per_batch,
        learning_rate=rate,
        warmup_steps=round(plan.warmup_share * steps),
        weight_decay=plan.weight_decay,
        lr_scheduler_type="linear",
        bf16=plan.bf16,
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{MEASURE}",
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=every,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to=[],
    )


class Trainer(CrossEncoderTrainer):
    """Checkpoints hold what is trained, not the base, which lies beside them."""

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """Return the draws in the order that they were made for."""
        loader = torch.utils.data.DataLoader(
            cast("torch.utils.data.Dataset[Any]", self.train_dataset),
            batch_size=self._train_batch_size,
            collate_fn=self.data_collator,
            shuffle=False,
            drop_last=False,
        )
        found: torch.utils.data.DataLoader[Any] = self.accelerator.prepare(loader)
        return found

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Leave it out: the run's report says what was trained on."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        state = self.model.state_dict() if state_dict is None else state_dict
        save_file(trained_weights(self.model, state), folder / WEIGHTS)

    def _load_best_model(self) -> None:
        """Leave it on disk: the end of the training reads it, also where this one is sharded."""

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:  # noqa: ARG002
        load_trained(self.model, Path(checkpoint_path))


def processes() -> PartialState:
    """Return what accelerate knows of the other processes; without a GPU they talk by gloo."""
    return PartialState(cpu=not torch.cuda.is_available())


def load_trained(model: torch.nn.Module, checkpoint: Path) -> None:
    """Put a checkpoint's weights into the model; what isn't trained stays."""
    _, unexpected = model.load_state_dict(load_file(checkpoint / WEIGHTS), strict=False)
    assert not unexpected, "the checkpoint is of another model"


class Reporter(TrainerCallback):
    """Moves the bar, and says at each look how the model ranks."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._loss = float("nan")
        self._seen: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Catch up with what an earlier run did."""
        del args, control
        self._advance(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move on."""
        del args, state, control
        self._advance(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keep the loss for the next look."""
        del args, state, control
        self._loss = (logs or {}).get("loss", self._loss)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Print a line."""
        del args, control
        if self._seen != state.global_step:
            self._seen = state.global_step
            found = (metrics or {}).get(f"eval_{MEASURE}", float("nan"))
            console.print(
                f"step {state.global_step}/{state.max_steps}: loss {self._loss:.4f}, "
                f"dev {MEASURE} {found:.4f}",
                highlight=False,
                soft_wrap=True,
            )


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Return the latest checkpoint that was written to its end; removes those that weren't.

    The best one that it names must be there too, or it could not be gone back to.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(found):
        if _is_whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def _is_whole(checkpoint: Path) -> bool:
    if not all((checkpoint / part).is_file() for part in _PARTS):
        return False
    try:
        with safe_open(checkpoint / WEIGHTS, framework="pt") as file:
            file.keys()
        for part in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / part, weights_only=True, map_location="cpu")
        state = json.loads((checkpoint / STATE).read_bytes())
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError):
        return False
    best = state.get("best_model_checkpoint")
    return best is None or (Path(best) / WEIGHTS).is_file()
