from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from engine.pairs import PairEncoder
from export.errors import CheckpointError
from export.pair_template import derive_template, prove_template, write_tokenizer
from schemas.manifests import PairTemplate
from tests.unit.export.tiny_cross_encoder import make_tokenizer

BERT = {"model_type": "bert", "max_position_embeddings": 64, "type_vocab_size": 2}
ROBERTA = {
    "model_type": "roberta",
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}


def prove(tokenizer: Any, template: PairTemplate, folder: Path) -> None:
    write_tokenizer(tokenizer, folder / "tokenizer.json")
    prove_template(tokenizer, template, folder / "tokenizer.json")


def test_bert(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert")
    template = derive_template(tokenizer, BERT)
    assert (template.prefix, template.infix, template.suffix) == ((2,), (3,), (3,))
    assert template.token_types
    assert (template.max_tokens, template.max_query_tokens) == (64, 64 - 3 - 8)
    prove(tokenizer, template, tmp_path)


def test_roberta_has_two_ids_between_and_no_types(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("roberta")
    template = derive_template(tokenizer, ROBERTA)
    assert (template.prefix, template.infix, template.suffix) == ((0,), (2, 2), (2,))
    assert not template.token_types
    assert template.max_tokens == 64
    prove(tokenizer, template, tmp_path)


def test_shorter_is_allowed_and_longer_is_not(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert")
    template = derive_template(tokenizer, BERT, max_tokens=24)
    assert template.max_tokens == 24
    prove(tokenizer, template, tmp_path)
    with pytest.raises(CheckpointError, match="reads 64 at most"):
        derive_template(tokenizer, BERT, max_tokens=65)


def test_documents_are_cut_at_the_side_that_the_tokenizer_says(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert")
    tokenizer.truncation_side = "left"
    template = derive_template(tokenizer, BERT, max_tokens=24)
    assert template.truncation_side == "left"
    prove(tokenizer, template, tmp_path)
    other = template.model_copy(update={"truncation_side": "right"})
    encoders = [PairEncoder.load(tmp_path / "tokenizer.json", one) for one in (template, other)]
    left, right = (
        encoder.encode(encoder.encode_query("read"), ["fox " * 30 + "dog " * 30])[0]
        for encoder in encoders
    )
    assert left.ids.tolist() != right.ids.tolist()


def test_a_wrong_template_does_not_pass_the_proof(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert")
    template = derive_template(tokenizer, BERT)
    wrong = {"infix": (3, 3), "suffix": (), "prefix": (3,)}
    for name, ids in wrong.items():
        with pytest.raises(CheckpointError, match="no pair template can express"):
            prove(tokenizer, template.model_copy(update={name: ids}), tmp_path)


def test_document_before_query_can_not_be_expressed() -> None:
    tokenizer = make_tokenizer("bert")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $B [SEP] $A [SEP]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    with pytest.raises(CheckpointError, match="joins them"):
        derive_template(tokenizer, BERT)


def test_truncation_and_padding_stay_out_of_the_file(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert")
    tokenizer.backend_tokenizer.enable_truncation(10)
    tokenizer.backend_tokenizer.enable_padding(length=10)
    prove(tokenizer, derive_template(tokenizer, BERT), tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    assert '"truncation": null' in text
    assert '"padding": null' in text
