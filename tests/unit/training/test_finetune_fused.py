"""How much the retrieval score counts, learnt from labels and a model's logits."""

from dataclasses import replace
from typing import Any, cast
from zlib import crc32

import pytest

pytest.importorskip("torch")

from schemas.manifests import IndexManifest
from tests.fakes.encoder import tiny_encoder
from training.finetune.encoder import EngineCrossEncoder
from training.finetune.fused import full_chars, learn_fusion
from training.finetune.labels import Document, LabelledQuery

LONG = "the quick brown fox " * 40
SHORT = "the lazy dog"
DIGEST = "sha256:" + "ab" * 32


class Model:
    """Knows which short documents are right, and of long ones nothing."""

    pairs = tiny_encoder(max_tokens=64)

    def logits(self, pairs: list[tuple[str, str]]) -> list[float]:
        return [
            3.0 * ("right" in text) if len(text) < 100 else crc32(text.encode()) % 13 - 6.0
            for _, text in pairs
        ]


def index() -> IndexManifest:
    class Named:
        digest = DIGEST
        source = cast("Any", None)
        embedder = cast("Any", None)

    named: Any = Named()
    named.source, named.embedder = named, named
    return cast("IndexManifest", named)


def document(number: int, text: str, label: float, score: float | None) -> Document:
    return Document(f"d{number}", text, label, 1.0, number + 1, score)


def query(number: int, *texts: str, score: float | None = 0.5) -> LabelledQuery:
    """Of each text one right document and five wrong ones; the retriever knows the right ones."""
    found = [
        document(
            10 * kind + at,
            f"{'' if at else 'right '}{text} {number} {at}",
            0.0 if at else 1.0,
            score if not at or score is None else 0.4,
        )
        for kind, text in enumerate(texts)
        for at in range(6)
    ]
    return LabelledQuery(f"q{number}", f"question {number}", None, tuple(found))


def noisy(number: int) -> LabelledQuery:
    """Long and short documents, and a retriever that errs with some of them."""
    found = query(number, LONG, SHORT)
    shifted = [
        replace(
            each, retrieval_score=(each.retrieval_score or 0) + crc32(each.text.encode()) % 11 / 60
        )
        for each in found.documents
    ]
    return replace(found, documents=tuple(shifted))


def fused(queries: list[LabelledQuery]) -> Any:
    return learn_fusion(cast("EngineCrossEncoder", Model()), queries, index())


def test_what_fits_beside_a_query_is_told_in_characters() -> None:
    encoder = tiny_encoder(max_tokens=64)
    found = full_chars(encoder, [query(1, LONG)])
    assert found is not None

    beside = encoder.encode_query("question 1")
    read = encoder.encode(beside, [LONG[: found - 30], LONG[: found + 30]])

    assert [pair.truncated for pair in read] == [False, True]
    assert full_chars(encoder, [query(1, SHORT)]) is None


def test_long_documents_of_which_the_model_knows_little_count_for_less() -> None:
    queries = [noisy(number) for number in range(40)]
    found = fused(queries)

    assert found.full_chars == full_chars(Model.pairs, queries)
    assert found.retrieval_weight > 0
    assert found.embedder == DIGEST


def test_short_documents_all_count_alike() -> None:
    assert fused([query(number, SHORT) for number in range(30)]).full_chars is None


def test_without_retrieval_scores_there_is_no_fusion() -> None:
    assert fused([query(number, SHORT, score=None) for number in range(30)]) is None
