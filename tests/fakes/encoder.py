"""A tokenizer that is trained on the spot, so that no model's files are needed."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine.pairs import PairEncoder
from schemas.manifests import PairTemplate

# Words that are one token of their own, for graphs that fail on certain ids.
POISON = "<poison>"
NAN = "<nan>"
_SPECIALS = ["[CLS]", "[SEP]", POISON, NAN]
_SENTENCES = [
    "how do I read a file line by line",
    "a broker keeps the records of its topics in partitions",
    "the quick brown fox jumps over the lazy dog",
]
CLS_ID, SEP_ID, POISON_ID, NAN_ID = range(len(_SPECIALS))


@cache
def tiny_tokenizer_json() -> str:
    """Byte-level BPE: every text has its own tokens, and none is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    return str(tokenizer.to_str())


def tiny_encoder(max_tokens: int = 128, max_query_tokens: int = 48) -> PairEncoder:
    """`[CLS] query [SEP] document [SEP]` over the tiny tokenizer."""
    tokenizer = Tokenizer.from_str(tiny_tokenizer_json())
    tokenizer.enable_truncation(max_tokens + 1)
    template = PairTemplate(
        prefix=(CLS_ID,),
        infix=(SEP_ID,),
        suffix=(SEP_ID,),
        max_tokens=max_tokens,
        max_query_tokens=max_query_tokens,
        token_types=True,
    )
    return PairEncoder(tokenizer, template)
