"""Runs of made-up feedback for tests: lists that were shown, clicks on them, judgements."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from training.collect.events import UNDATED, Row, decode, judgement_id
from training.collect.store import Progress, opened
from training.run_folder import RunFolder

TIME_MS = 1_764_000_000_000


def impression(
    query_id: str,
    query: str,
    docs: Sequence[str],
    *,
    texts: bool = True,
    tenant: str | None = None,
    model: str = "m",
) -> dict[str, Any]:
    shown = [
        {"doc_id": doc, "rank": rank, "score": -float(rank), "retrieval_rank": rank}
        | ({"text": f"text of {doc}"} if texts else {})
        for rank, doc in enumerate(docs, start=1)
    ]
    return {
        "kind": "impression",
        "query_id": query_id,
        "query": query,
        "tenant": tenant,
        "model": {"name": model, "digest": f"sha256:{model}", "precision": "int8"},
        "shown": shown,
    }


def click(query_id: str, doc_id: str, position: int, dwell_ms: int | None = None) -> dict[str, Any]:
    event = {"kind": "click", "query_id": query_id, "doc_id": doc_id, "position": position}
    return event | ({} if dwell_ms is None else {"dwell_ms": dwell_ms})


def judgement(query: str, text: str, label: float, annotator: str = "anna") -> Row:
    columns = {"query": query, "text": text, "label": label, "annotator": annotator}
    columns |= {"query_id": None, "doc_id": None, "tenant": None, "origin": "file:1"}
    return Row("judgement", UNDATED, columns | {"event_id": judgement_id(columns)}, 1)


def write_run(
    path: Path, events: Iterable[dict[str, Any]], judgements: Iterable[Row] = ()
) -> RunFolder:
    """Keep events as collect does."""
    run = RunFolder(path)
    rows = [
        decode(json.dumps(event).encode(), None, f"t/0/{offset}", TIME_MS, keep_user=False)
        for offset, event in enumerate(events)
    ]
    with opened(run) as store:
        store.write([*rows, *judgements], Progress("t", {0: len(rows)}))
    return run
