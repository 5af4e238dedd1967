"""Adding and deleting: the new bundle finds what a fresh one of the same documents finds."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.bundles import Bundle, open_index
from engine.embed import Embedder, Vectors
from engine.index import Retriever
from export import index_update
from export.__main__ import main
from export.corpus import CorpusError
from export.index_merge import MergePolicy
from export.index_update import Changes, update_index
from schemas.manifests import IndexManifest
from tests.unit.tiny_retrieval import DOCUMENTS, TOPICS, BuildIndex

Documents = Sequence[Mapping[str, object]]
NEVER = MergePolicy(ratio=0, floor=0, most_deleted=1)
QUERIES = ["fox dog", "read a file", "", "topic partition record", "line"]
MORE = [{"_id": f"e{n}", "text": f"{TOPICS[n % 8]} {TOPICS[n % 5]}"} for n in range(25)]


def write_corpus(path: Path, documents: Documents) -> Path:
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def write_ids(path: Path, ids: Sequence[str]) -> Path:
    path.write_text("".join(f"{each}\n" for each in ids))
    return path


def found(bundle: Bundle[IndexManifest]) -> list[object]:
    """Return ids, texts, scores and ranks of all documents for some queries."""
    retriever = Retriever.open(bundle)
    hits: list[object] = [
        hit for top_k in (3, 500) for row in retriever.retrieve(QUERIES, top_k) for hit in row
    ]
    retriever.close()
    return hits


def update(base: Bundle[IndexManifest], out: Path, changes: Changes) -> Bundle[IndexManifest]:
    return open_index(update_index(base.path, out, changes, lanes=2))


@pytest.mark.parametrize("policy", [NEVER, MergePolicy()], ids=["segments", "merged"])
def test_after_adding_and_deleting_results_are_those_of_a_fresh_build(
    tmp_path: Path,
    tiny_index: Bundle[IndexManifest],
    build_tiny_index: BuildIndex,
    policy: MergePolicy,
) -> None:
    living = [dict(document) for document in DOCUMENTS]
    bundle, random = tiny_index, np.random.default_rng(5)
    for step in range(3):
        gone = random.choice(len(living), 12, replace=False)
        deleted = [str(living[place]["_id"]) for place in gone]
        added = [document | {"_id": f"{step}-{document['_id']}"} for document in MORE]
        living = [each for each in living if each["_id"] not in deleted] + added
        changes = Changes(
            add=write_corpus(tmp_path / f"add{step}.jsonl", added),
            delete=write_ids(tmp_path / f"delete{step}.txt", deleted),
            policy=policy,
        )
        bundle = update(bundle, tmp_path / f"bundle{step}", changes)

    fresh = build_tiny_index(living)
    assert bundle.manifest.documents == len(living)
    assert len(bundle.manifest.segments) == (4 if policy is NEVER else 0)
    assert found(bundle) == found(fresh)

    whole = update(bundle, tmp_path / "whole", Changes(merge=True))
    assert whole.digest == fresh.digest


@pytest.mark.parametrize("index_type", ["flat", "hnsw"])
def test_unchanged_files_are_shared_with_the_old_bundle(
    tmp_path: Path, build_tiny_index: BuildIndex, index_type: str
) -> None:
    base = build_tiny_index(DOCUMENTS, index_type=index_type)
    changes = Changes(
        add=write_corpus(tmp_path / "add.jsonl", MORE),
        delete=write_ids(tmp_path / "delete.txt", ["d3", "d4"]),
        policy=NEVER,
    )

    bundle = update(base, tmp_path / "out", changes)

    first, second = bundle.manifest.segments
    assert (first.documents, first.deleted, first.index_type) == (60, 2, index_type)
    assert (second.documents, second.deleted, second.index_type) == (25, 0, "flat")
    old = (base.path / "index.faiss").stat()
    assert (bundle.path / "segments/0000/index.faiss").stat().st_ino == old.st_ino
    assert (bundle.path / "embedder/model.onnx").stat().st_nlink > 1
    assert open_index(base.path).digest == base.digest
    ids = {hit.doc_id for hit in Retriever.open(bundle).retrieve(["fox"], 200)[0]}
    assert ids == {str(each["_id"]) for each in [*DOCUMENTS, *MORE]} - {"d3", "d4"}


def test_only_new_documents_are_embedded(
    tmp_path: Path, tiny_index: Bundle[IndexManifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[str] = []

    class Counting(Embedder):
        def embed_documents(
            self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda _: None
        ) -> Vectors:
            embedded.extend(texts)
            return super().embed_documents(texts, on_progress)

    monkeypatch.setattr(index_update, "Embedder", Counting)
    changes = Changes(add=write_corpus(tmp_path / "add.jsonl", MORE), merge=True)

    update(tiny_index, tmp_path / "out", changes)

    assert embedded == [document["text"] for document in MORE]


def test_replacing_needs_to_be_said(tmp_path: Path, tiny_index: Bundle[IndexManifest]) -> None:
    add = write_corpus(tmp_path / "add.jsonl", [{"_id": "d3", "text": "a fox of its own"}])

    with pytest.raises(CorpusError, match="'d3' is in the bundle already: add --replace"):
        update(tiny_index, tmp_path / "out", Changes(add=add))
    assert not (tmp_path / "out").exists()

    bundle = update(tiny_index, tmp_path / "out", Changes(add=add, replace=True))
    texts = [hit.text for hit in Retriever.open(bundle).retrieve(["fox"], 200)[0]]
    assert (len(texts), texts.count("a fox of its own")) == (60, 1)


def test_everything_may_be_deleted(tmp_path: Path, tiny_index: Bundle[IndexManifest]) -> None:
    ids = write_ids(tmp_path / "ids", [str(document["_id"]) for document in DOCUMENTS])

    empty = update(tiny_index, tmp_path / "empty", Changes(delete=ids))
    add = write_corpus(tmp_path / "add.jsonl", MORE)
    filled = update(empty, tmp_path / "filled", Changes(add=add))

    assert Retriever.open(empty).retrieve(["fox"], 10) == [[]]
    assert (empty.manifest.documents, filled.manifest.documents) == (0, 25)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([0, 0], []),
        ([100_000, 10_000], [[0], [1]]),
        ([100_000, 60_000], [[0, 1]]),
        ([100_000, 30_000, 25_000], [[0, 1, 2]]),
        ([100_000, 30_000, 10_000], [[0], [1], [2]]),
        ([100_000, 0, 900, 10, 1], [[0], [2, 3, 4]]),
        ([10_000, 100_000], [[0, 1]]),
    ],
)
def test_which_segments_merge(sizes: list[int], groups: list[list[int]]) -> None:
    assert MergePolicy().groups(sizes) == groups


def test_there_are_few_segments_however_small_the_additions_are() -> None:
    policy, sizes, copied = MergePolicy(), [200_000], 0
    for _ in range(1_000):
        groups = policy.groups([*sizes, 500])
        sizes = [sum([*sizes, 500][place] for place in group) for group in groups]
        copied += sizes[-1]
        assert len(sizes) <= 10

    assert sum(sizes) == 700_000
    assert copied < 500_000 * 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--delete", "ids.txt"], "1 ids are not in the bundle, the first is 'nowhere'"),
        (["--add", "double.jsonl"], "double.jsonl, line 2: the id 'a' was there before"),
        (["--add", "broken.jsonl"], "broken.jsonl, line 1: byte 24 is not UTF-8"),
        (["--add", "missing.jsonl"], "missing.jsonl does not exist"),
        (["--add", "no-id.jsonl"], "no-id.jsonl, line 1: it has no _id"),
        ([], "say what to change"),
        (["--merge", "--corpus", "double.jsonl"], "use --add, not --corpus"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    tiny_index: Bundle[IndexManifest],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    (tmp_path / "ids.txt").write_text("d1\nnowhere\n")
    (tmp_path / "double.jsonl").write_text('{"_id": "a", "text": "x"}\n' * 2)
    (tmp_path / "no-id.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "broken.jsonl").write_bytes(b'{"_id": "a", "text": "x\xff"}\n')
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())

    assert main(["index", "--base", str(tiny_index.path), "--out", "out", *words]) == 1

    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(tmp_path.iterdir()) == before
