"""What a teacher scores: learnt by a distill-* loss in place of labels."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from export.adapters import family_of
from export.bars import progress
from training.finetune import start as starts
from training.finetune.collate import Scores
from training.finetune.encoder import EngineCrossEncoder
from training.finetune.labels import LabelledQuery
from training.plan_model import TrainPlan
from training.run_folder import write_json


def teach(
    plan: TrainPlan, queries: Sequence[LabelledQuery], work: Path, student: starts.Start
) -> Scores:
    """Return the teacher's logits of all training pairs; kept in `work` for a run that goes on.

    Queries that are too long for the teacher are left out.
    """
    file = work / "teacher.json"
    if not file.is_file():
        assert plan.teacher is not None, "the plan was checked"
        teacher = starts.load(plan.teacher, None, instruction=plan.instruction)
        folder = work / "teacher"
        starts.write(teacher, folder)
        tokens = plan.max_tokens + _chat_tokens(teacher) - _chat_tokens(student, plan.max_tokens)
        setting = f"train.max_tokens {plan.max_tokens} gives the teacher pairs of"
        encoder = starts.pair_encoder(teacher, tokens, folder / "engine.json", setting)
        readable = [query for query in queries if encoder.fits(query.query)]
        scores = _score(EngineCrossEncoder.open(folder, encoder), readable)
        shutil.rmtree(folder)
        write_json(file, scores)
    found: Scores = json.loads(file.read_text(encoding="utf-8"))
    return found


def _chat_tokens(start: starts.Start, max_tokens: int | None = None) -> int:
    """Return what a chat template takes of a pair: without it both read as much of texts."""
    if not start.checkpoint.is_decoder:
        return 0
    family = family_of(start.checkpoint, start.instruction)
    template = family.template(start.tokenizer, start.checkpoint, max_tokens)
    return len(template.prefix) + len(template.infix) + len(template.suffix)


def _score(model: EngineCrossEncoder, queries: Sequence[LabelledQuery]) -> Scores:
    found = {}
    with progress("Asking the teacher", len(queries)) as advance:
        for query in queries:
            logits = model.logits([(query.query, each.text) for each in query.documents])
            names = [each.doc_id for each in query.documents]
            found[query.query_id] = dict(zip(names, logits, strict=True))
            advance(1)
    return found
