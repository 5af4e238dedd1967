"""The look at the dev split: how well the model ranks queries that it isn't trained on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from sentence_transformers.base.evaluation import BaseEvaluator

from export.bars import progress
from export.measures import measure
from training.console import console
from training.finetune.encoder import EngineCrossEncoder
from training.finetune.labels import LabelledQuery, relevances
from training.run_folder import write_json

MEASURE = "NDCG@10"


class DevLook(BaseEvaluator):
    """NDCG@10 over the dev queries, each with its best documents by the retriever's order."""

    def __init__(self, queries: Sequence[LabelledQuery], documents: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.primary_metric = MEASURE
        self.queries = queries
        self.documents = documents

    def __call__(  # type: ignore[override] # only ever called with our own model
        self,
        model: EngineCrossEncoder,
        output_path: str | None = None,  # noqa: ARG002 - the library's signature
        epoch: int = -1,  # noqa: ARG002
        steps: int = -1,  # noqa: ARG002
    ) -> dict[str, float]:
        """Return the mean, in [0, 1]."""
        shown = [(query, query.documents[: self.documents]) for query in self.queries]
        pairs = [(query.query, each.text) for query, documents in shown for each in documents]
        scores = iter(model.logits(pairs))
        rankings = {}
        for query, documents in shown:
            scored = [(next(scores), place) for place, _ in enumerate(documents)]
            scored.sort(key=lambda item: (-item[0], item[1]))
            rankings[query.query_id] = [documents[place].doc_id for _, place in scored]
        judgements = {query.query_id: relevances(query) for query in self.queries}
        return {MEASURE: measure(judgements, rankings)[MEASURE]}


def look_before(open_model: Callable[[], EngineCrossEncoder], look: DevLook, file: Path) -> float:
    """Look before the first step, and keep what was seen for a run that goes on."""
    if not file.is_file():
        with progress(f"Looking at {len(look.queries):,} dev queries"):
            write_json(file, look(open_model())[MEASURE])
        console.print(
            f"step 0: dev {MEASURE} {json.loads(file.read_bytes()):.4f}",
            highlight=False,
            soft_wrap=True,
        )
    before: float = json.loads(file.read_bytes())
    return before
