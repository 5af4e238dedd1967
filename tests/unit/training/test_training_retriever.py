"""What label and annotate do with the retriever of a real index bundle."""

import json
from collections.abc import Callable
from pathlib import Path

from engine.bundles import Bundle
from schemas.manifests import IndexManifest
from tests.unit.tiny_retrieval import DOCUMENTS
from tests.unit.training.feedback_run import click, impression, write_run
from training.annotate.command import annotate
from training.annotate.pairs import read_pairs
from training.label.command import label
from training.label_rows import read_rows
from training.plan import Plan
from training.plan_data import ClickPlan, LabelPlan, MinePlan
from training.run_folder import RunFolder


def test_an_index_gives_texts_scores_and_negatives(
    tmp_path: Path, tiny_index: Bundle[IndexManifest]
) -> None:
    known = {str(document["_id"]): str(document["text"]) for document in DOCUMENTS}
    events = [
        impression("1", "fox dog", ["d1", "d2"], texts=False),
        impression("2", "broker topic", ["d3"], texts=False),
        click("1", "d2", 2),
    ]
    run = write_run(tmp_path / "run", events)
    plan = LabelPlan(
        clicks=ClickPlan(propensity="assume"),
        index_bundle=tiny_index.path,
        mine=MinePlan(per_query=3, from_rank=1, to_rank=60, max_share_of_positive=10.0),
    )
    summary = label(plan, run)
    rows = {(row.query, row.doc_id): row for row in read_rows(run.groups)}
    assert rows["fox dog", "d2"].text == known["d2"]
    assert rows["fox dog", "d2"].retrieval_score is not None
    mined = [one for one in rows.values() if one.source == "mined"]
    assert summary["rows_by_source"] == {"click": 3, "mined": 3}
    assert {one.query for one in mined} == {"fox dog"}
    assert all(one.text == known[one.doc_id] and one.text != known["d2"] for one in mined)


def test_a_real_retriever_decides(
    tmp_path: Path, build_tiny_index: Callable[..., Bundle[IndexManifest]]
) -> None:
    documents = [
        {"_id": "fox", "title": "the quick fox", "text": "over the lazy dog the brown fox jumps"},
        {"_id": "file", "title": "read a file", "text": "open the file and iterate over its lines"},
    ]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    section = {"path": str(path), "index_bundle": str(build_tiny_index(documents).path)}
    run = RunFolder(tmp_path / "run")
    plan = Plan.model_validate({"annotate": {"corpus": {**section, "top_k": 2}}})
    summary = annotate(plan, run)
    assert summary["corpus"] == {"made": 2, "kept": {"title": 2}, "not_found": 0}
    assert [pair.doc_id for pair in read_pairs(run)] == ["fox", "file"]
