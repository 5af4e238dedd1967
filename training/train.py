"""Fine-tune the adapter."""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from training import losses
from training.batches import Batch, endless_batches, split_batch
from training.config import LossRecipe, Recipe, TrainRecipe
from training.console import console
from training.evaluate import DevSet, measure, rerank
from training.groups import Group
from training.model import save_adapter
from training.pairs import encode_pairs
from training.seeds import seeded

_PAD_LABEL = -1


@dataclass(frozen=True, slots=True)
class Targets:
    """A batch's targets as tensors [queries, candidates]."""

    teacher: Tensor
    labels: Tensor
    valid: Tensor
    judged: Tensor


def make_targets(batch: Batch) -> Targets:
    """Pad the lists to the longest of the batch."""
    width = max(map(len, batch.candidates))

    def padded(rows: Sequence[Sequence[float]], fill: float) -> Tensor:
        return torch.tensor([[*r, *[fill] * (width - len(r))] for r in rows])

    valid = padded([[1.0] * len(r) for r in batch.candidates], 0.0).bool()
    return Targets(
        padded(batch.teacher, 0.0),
        padded(batch.labels, _PAD_LABEL).long(),
        valid,
        torch.tensor(batch.judged),
    )


def score_batch(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    batch: Batch,
    valid: Tensor,
    max_length: int,
) -> Tensor:
    """Logits [queries, candidates]; 0 at padding."""
    queries = [q for q, c in zip(batch.queries, batch.candidates, strict=True) for _ in c]
    documents = [d for c in batch.candidates for d in c]
    logits = model(**encode_pairs(tokenizer, queries, documents, max_length)).logits[:, 0]
    return torch.zeros(valid.shape).masked_scatter(valid, logits.float())


def total_loss(scores: Tensor, targets: Targets, recipe: LossRecipe) -> Tensor:
    """The weighted sum of all losses, mean over queries."""
    share = torch.where(targets.judged, recipe.distill_labelled, recipe.distill)
    distilled = losses.distillation(scores, targets.teacher, targets.valid, recipe.teacher_scale)
    listed = losses.listwise(scores, targets.labels, targets.valid)
    level = losses.calibration(scores, targets.labels, targets.valid)
    return (share * distilled + recipe.listwise * listed + recipe.calibration * level).mean()


def learning_rate_factor(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _part_loss(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, part: Batch, recipe: TrainRecipe
) -> float:
    """Add a part's gradients to the model's; the summed loss over its queries."""
    targets = make_targets(part)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bf16):
        scores = score_batch(model, tokenizer, part, targets.valid, recipe.max_length)
    loss = total_loss(scores.float(), targets, recipe.losses) * len(part.queries)
    (loss / recipe.queries_per_batch).backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def train_steps(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    groups: list[Group],
    recipe: TrainRecipe,
) -> Iterator[float]:
    """Train `model` in place; yields the loss after each step.

    Each thread takes a part of the batch from text to gradients with one-thread operators: on a
    busy machine that wastes far less than operators that wait for each other. Autograd adds the
    parts up under a lock, and with two threads the sum doesn't depend on who comes first.
    """
    torch.set_num_threads(1)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: learning_rate_factor(s, recipe.warmup_steps, recipe.steps)
    )
    batches = endless_batches(
        groups,
        recipe.mix,
        recipe.queries_per_batch,
        recipe.candidates_per_query,
        seeded(recipe.seed),
    )
    workers = ThreadPoolExecutor(recipe.threads)
    for _ in range(recipe.steps):
        model.train()
        parts = split_batch(next(batches), recipe.threads)
        optimizer.zero_grad()
        loss = sum(workers.map(lambda part: _part_loss(model, tokenizer, part, recipe), parts))
        loss /= sum(len(p.queries) for p in parts)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        yield loss


class Chooser:
    """Keeps the best step by the mean NDCG@10 over the dev sets, and says when to stop."""

    def __init__(self, recipe: Recipe, devs: list[DevSet], base_name: str, out: Path) -> None:
        self._recipe, self._devs, self._base_name, self._out = recipe, devs, base_name, out
        self._best, self._since_best = -1.0, 0

    def look(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, step: int) -> bool:
        """Measure; save if best. False when patience is spent."""
        model.eval()
        found = {
            d.name: measure(
                d,
                rerank(
                    model, tokenizer, d, self._recipe.evaluate.max_length, self._recipe.train.bf16
                ),
            )
            for d in self._devs
        }
        mean = sum((m["map"] + m["ndcg@10"]) / 2 for m in found.values()) / max(1, len(found))
        with (self._out / "history.jsonl").open("a") as log:
            log.write(json.dumps({"step": step, "mean": round(mean, 4), **found}) + "\n")
        shown = "  ".join(f"{n} {m['map']:.3f}/{m['mrr@10']:.3f}" for n, m in found.items())
        console.print(f"step {step}: mean {mean:.4f}  {shown}  (MAP/MRR@10)")
        if mean > self._best:
            self._best, self._since_best = mean, 0
            save_adapter(model, self._base_name, self._out)
        else:
            self._since_best += 1
        return self._since_best < self._recipe.evaluate.patience


def train(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: list[Group],
    recipe: Recipe,
    chooser: Chooser,
) -> None:
    """Train to the last step or until no gain; the best adapter lies in the chooser's folder."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    every, steps = recipe.evaluate.every_steps, recipe.train.steps
    smooth = None
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=steps, loss=0.0)
        for step, loss in enumerate(train_steps(model, tokenizer, groups, recipe.train), 1):
            smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
            bar.update(task, advance=1, loss=smooth)
            if not console.is_terminal and step % 25 == 0:
                console.print(f"step {step}/{steps}: loss {smooth:.3f}")
            if (step % every == 0 or step == steps) and not chooser.look(model, tokenizer, step):
                console.print(f"no gain in {recipe.evaluate.patience} evaluations, stopping")
                return
