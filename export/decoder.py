"""Decoders that judge by the logits of "yes" and "no" behind a chat template: Qwen3-Reranker.

The score is the logit of "yes" minus that of "no" at the last token, as one product with the
difference of two rows of the output embedding. The rest of the vocabulary is never computed.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.errors import QueryTooLongError
from engine.pairs import PairEncoder
from export.errors import CheckpointError
from export.fp32 import export_task
from export.trimmed import OUTPUT
from schemas.manifests import PairTemplate

RECIPE = "decoder"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

# As the model card of Qwen3-Reranker has it; a checkpoint does not hold it.
_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".'
)
_BEFORE = f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n<|im_start|>user\n"
_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_ANSWERS = ("yes", "no")
_NEEDED = (*_ANSWERS, "<|im_start|>", "<|im_end|>")
_SHARE = 8


@dataclass(frozen=True)
class YesNoReranker:
    """A decoder and the ids of its two answers; called like a classifier with one label."""

    decoder: PreTrainedModel
    yes: int
    no: int

    @property
    def config(self) -> Any:
        """The decoder's configuration."""
        return self.decoder.config

    def __call__(self, input_ids: torch.Tensor) -> SimpleNamespace:
        """Return `logits`, float32 [batch, 1]; all sequences have one length."""
        last = self.decoder(input_ids=input_ids, logits_to_keep=1).logits[:, -1]
        return SimpleNamespace(logits=last[:, [self.yes]] - last[:, [self.no]])


def reranker_of(decoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> YesNoReranker:
    """Find the answers' ids; raises CheckpointError where the vocabulary lacks what is needed."""
    vocabulary = tokenizer.get_vocab()
    if missing := [word for word in _NEEDED if word not in vocabulary]:
        raise CheckpointError(
            f"the tokenizer has no {', '.join(missing)}: of decoders only Qwen3-Reranker and "
            "models with its chat template are taken"
        )
    return YesNoReranker(decoder, vocabulary["yes"], vocabulary["no"])


def decoder_graph(reranker: YesNoReranker) -> onnx.ModelProto:
    """Return the graph with one output, the raw logit as float32 [batch]."""
    base: Any = reranker.decoder.base_model
    model = export_task(base, "feature-extraction")
    rows = reranker.decoder.get_output_embeddings().weight.detach().cpu().numpy()
    answer = np.asarray(rows[reranker.yes] - rows[reranker.no], dtype=np.float32)
    graph = model.graph
    hidden = graph.output[0].name
    for value, name in (
        (np.asarray(-1, dtype=np.int64), "last_token"),
        (answer[:, None], "yes_minus_no"),
        (np.asarray([1], dtype=np.int64), "only_column"),
    ):
        graph.initializer.append(numpy_helper.from_array(value, name))
    graph.node.extend(
        [
            helper.make_node("Gather", [hidden, "last_token"], ["last_hidden"], axis=1),
            helper.make_node("MatMul", ["last_hidden", "yes_minus_no"], ["column"]),
            helper.make_node("Squeeze", ["column", "only_column"], [OUTPUT]),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch"]))
    return model


def chat_template(
    tokenizer: PreTrainedTokenizerFast, max_tokens: int, instruction: str
) -> PairTemplate:
    """Return the template; raises CheckpointError where it leaves no room for texts.

    A word's tokens hold the blank before it, and a line's end joins the punctuation before it: so
    these belong to the texts, and the tokens are those of the whole prompt.
    """
    prefix = _ids(tokenizer, _BEFORE) + _ids(tokenizer, f"<Instruct>: {instruction}\n<Query>:")
    infix, suffix = _ids(tokenizer, "<Document>:"), _ids(tokenizer, _AFTER)
    room = max_tokens - len(prefix) - len(infix) - len(suffix)
    query = room - max(1, room // _SHARE)
    if query < 1:
        raise CheckpointError(
            f"--max-tokens {max_tokens}: the chat template leaves no room, it takes "
            f"{max_tokens - room} tokens itself"
        )
    return PairTemplate(
        prefix=prefix,
        infix=infix,
        suffix=suffix,
        max_tokens=max_tokens,
        max_query_tokens=query,
        token_types=False,
        query_prefix=" ",
        query_suffix="\n",
        document_prefix=" ",
    )


def prove_chat_template(
    tokenizer: PreTrainedTokenizerFast,
    encoder: PairEncoder,
    instruction: str,
    pairs: tuple[tuple[str, str], ...],
) -> None:
    """Raise CheckpointError unless the engine's pairs are the tokens of the whole prompt."""
    before, after = _ids(tokenizer, _BEFORE), _ids(tokenizer, _AFTER)
    room = encoder.template.max_tokens - len(before) - len(after)
    for query, document in pairs:
        try:
            ids = encoder.encode_query(query)
        except QueryTooLongError:
            continue
        text = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
        own = before + _ids(tokenizer, text)[:room] + after
        if tuple(encoder.encode(ids, [document])[0].ids.tolist()) != own:
            raise CheckpointError(
                "the tokenizer joins words in a way that no pair template can express, "
                f"for instance of {query[:40]!r} and {document[:40]!r}"
            )


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
