"""A small model for a cascade: the first layers of a cross-encoder, taught by a model bundle.

1. Score pairs of the training data with the bundle, by the engine that serves.
2. Cut the checkpoint behind its first layers.
3. Train what is left to give the bundle's logits, and above all its order within a query.
4. Save a checkpoint that `python -m export model --model DIR` turns into a bundle.
"""

import argparse
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.bundles import open_model
from engine.score import Scorer
from export.bars import progress
from export.checkpoint import default_checkpoint, open_adapter, open_checkpoint
from export.merge import load_merged
from export.pair_template import load_tokenizer
from training.errors import TrainingError
from training.groups import Group, read_groups
from training.pairs import encode_pairs
from training.run_folder import written_beside
from training.seeds import seeded

MAX_CANDIDATES = 16
GROUPS_A_STEP = 4
GROUPS_AT_ONCE = 64
WARM_UP_SHARE = 0.05
# Of the order within a query, against the height of each logit. The order decides who is cut.
ORDER_WEIGHT = 4.0


@dataclass(frozen=True)
class Taught:
    """A query with some of its candidates, and the teacher's logit of each."""

    query: str
    documents: list[str]
    logits: list[float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `small`."""
    parser.add_argument(
        "--model-bundle", type=Path, required=True, help="the large model, which teaches"
    )
    parser.add_argument("--data", type=Path, required=True, help="what build-data wrote")
    parser.add_argument(
        "--base", type=Path, help="checkpoint to cut (default: the default reranker's)"
    )
    parser.add_argument("--adapter", type=Path, help="a LoRA adapter to merge into it first")
    parser.add_argument("--layers", type=int, default=2, help="to keep (default: %(default)s)")
    parser.add_argument(
        "--pairs", type=int, default=24_000, help="to learn from (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--max-length", type=int, default=192, help="tokens a pair in training")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--replace", action="store_true", help="replace the checkpoint at --out")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the command; return what it did. Raises TrainingError, EngineError, ExportError."""
    _check_out(arguments.out, may_replace=arguments.replace)
    groups = _sample(read_groups(arguments.data), arguments.pairs, arguments.seed)
    scorer = Scorer.open(open_model(arguments.model_bundle), arguments.threads)
    try:
        taught = teach(scorer, groups, arguments.max_length // 2)
    finally:
        scorer.close()
    checkpoint, adapter = default_checkpoint()
    if arguments.base is not None:
        checkpoint, adapter = open_checkpoint(str(arguments.base)), None
    if arguments.adapter is not None:
        adapter = open_adapter(arguments.adapter)
    tokenizer = load_tokenizer(checkpoint)
    model = cut(load_merged(checkpoint, adapter), arguments.layers)
    torch.set_num_threads(arguments.threads)
    held_out = max(1, len(taught) // 20)
    rms = Trainer(model, tokenizer, arguments.max_length).train(
        taught[held_out:], arguments.epochs, arguments.learning_rate, arguments.seed
    )
    tested = Trainer(model, tokenizer, arguments.max_length).rms(taught[:held_out])
    with written_beside(arguments.out) as beside:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    return {
        "out": str(arguments.out),
        "layers": arguments.layers,
        "queries": len(taught),
        "pairs": sum(len(each.documents) for each in taught),
        "rms_difference_of_logits": {"last_epoch": round(rms, 3), "held_out": round(tested, 3)},
    }


def _check_out(out: Path, *, may_replace: bool) -> None:
    """Refuse before the work begins; raises TrainingError."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not may_replace:
        raise TrainingError(f"--out {out} exists: choose another folder, or add --replace")
    if not (out / "config.json").is_file():
        raise TrainingError(f"--out {out} is no checkpoint, and only one is ever replaced")


def _sample(groups: Sequence[Group], pairs: int, seed: int) -> list[Group]:
    """Return groups with some of their candidates, until there are so many pairs."""
    chance = seeded(seed)
    chosen: list[Group] = []
    left = pairs
    for group in chance.sample(list(groups), len(groups)):
        if left <= 0:
            break
        count = min(MAX_CANDIDATES, len(group.candidates))
        places = sorted(chance.sample(range(len(group.candidates)), count))
        chosen.append(
            Group(group.source, group.query, [group.candidates[at] for at in places], [], [])
        )
        left -= count
    return chosen


def teach(scorer: Scorer, groups: Sequence[Group], longest_query: int) -> list[Taught]:
    """Return the groups with the teacher's logits.

    Left out are those with a query of `longest_query` tokens or more, which would leave no room in
    training, and those that the teacher can't read.
    """
    limit = min(scorer.encoder.template.max_query_tokens, longest_query)
    taught: list[Taught] = []
    with progress("The large model scores", total=len(groups)) as advance:
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            part = groups[start : start + GROUPS_AT_ONCE]
            fitting = [
                group
                for group in part
                if len(scorer.encoder.tokenizer.encode(group.query).ids) < limit
            ]
            pairs = [(group.query, text) for group in fitting for text in group.candidates]
            found = iter(scorer.score(pairs))
            for group in fitting:
                logits = [next(found).logit for _ in group.candidates]
                if all(map(math.isfinite, logits)):
                    taught.append(Taught(group.query, group.candidates, logits))
            advance(len(part))
    return taught


def cut(model: PreTrainedModel, layers: int) -> PreTrainedModel:
    """Drop all layers behind the first `layers`, in place; raises TrainingError if there are none.

    Works for encoders that keep their layers in one ModuleList, as BERT and its kin do.
    """
    encoder = getattr(model.base_model, "encoder", None)
    blocks = getattr(encoder, "layer", None)
    if not isinstance(blocks, torch.nn.ModuleList) or not 1 <= layers < len(blocks):
        raise TrainingError(
            f"--layers {layers}: the model has no layers behind that could be dropped"
        )
    encoder.layer = blocks[:layers]  # type: ignore[union-attr]
    model.config.num_hidden_layers = layers
    return model


@dataclass(frozen=True)
class Trainer:
    """Trains a model in place. Its table of words stays as it is: it has most of the weights."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def train(self, taught: Sequence[Taught], epochs: int, rate: float, seed: int) -> float:
        """Return the root mean square difference of logits over the last epoch."""
        table = {id(each) for each in self.model.get_input_embeddings().parameters()}
        for parameter in self.model.parameters():  # merging an adapter froze them
            parameter.requires_grad = id(parameter) not in table
        self.model.train()
        optimizer = torch.optim.AdamW(
            [each for each in self.model.parameters() if each.requires_grad], lr=rate
        )
        steps = epochs * math.ceil(len(taught) / GROUPS_A_STEP)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
        squares: list[float] = []
        with progress("Training the small model", total=steps) as advance:
            for batch in _batches(taught, epochs, seed):
                error, loss = self._loss(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                squares.append(error)
                advance(1)
        self.model.train(mode=False)
        last = squares[-max(1, len(squares) // epochs) :]
        return math.sqrt(sum(last) / len(last))

    @torch.inference_mode()
    def rms(self, taught: Sequence[Taught]) -> float:
        """Return the root mean square difference of logits."""
        squares = [self._loss([each])[0] for each in taught]
        return math.sqrt(sum(squares) / len(squares))

    def _loss(self, batch: Sequence[Taught]) -> tuple[float, Tensor]:
        queries = [each.query for each in batch for _ in each.documents]
        documents = [text for each in batch for text in each.documents]
        inputs = encode_pairs(self.tokenizer, queries, documents, self.max_length)
        logits = self.model(**inputs).logits[:, 0]
        wanted = torch.tensor([logit for each in batch for logit in each.logits])
        error = functional.mse_loss(logits, wanted)
        order = torch.zeros(())
        start = 0
        for each in batch:
            end = start + len(each.documents)
            order = order + functional.kl_div(
                functional.log_softmax(logits[start:end], dim=0),
                functional.log_softmax(wanted[start:end], dim=0),
                reduction="sum",
                log_target=True,
            )
            start = end
        return float(error.detach()), error + ORDER_WEIGHT * order / len(batch)


def _rate(step: int, steps: int) -> float:
    """Up in a straight line, then down in one."""
    warm_up = max(1, int(WARM_UP_SHARE * steps))
    return min((step + 1) / warm_up, max(0.0, (steps - step) / max(1, steps - warm_up)))


def _batches(taught: Sequence[Taught], epochs: int, seed: int) -> Iterator[list[Taught]]:
    """Give all groups once an epoch, those of like length together."""
    chance = seeded(seed)
    order = sorted(taught, key=lambda each: sum(map(len, each.documents)))
    batches = [order[at : at + GROUPS_A_STEP] for at in range(0, len(order), GROUPS_A_STEP)]
    for _ in range(epochs):
        yield from chance.sample(batches, len(batches))
