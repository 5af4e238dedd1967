"""Pairs of random tokens, to measure ranges beyond the texts at hand.

Scales are fixed once, for texts of any kind. A few pairs of tokens from all over the vocabulary
reach channels that the calibration pairs leave quiet, and so keep other domains from being clipped.
"""

import numpy as np
from tokenizers import Tokenizer

from engine.pairs import EncodedPair
from schemas.manifests import PairTemplate

_PAIRS = 40
_SHORTEST = 12
_LONGEST = 320
_QUERY_TOKENS = 24
_SEED = 20


def babble(tokenizer: Tokenizer, template: PairTemplate) -> list[EncodedPair]:
    """Return pairs of evenly spaced lengths, the same at every call."""
    special = set(tokenizer.get_added_tokens_decoder())
    ordinary = np.asarray(
        sorted(set(tokenizer.get_vocab(with_added_tokens=False).values()) - special), dtype=np.int32
    )
    random = np.random.default_rng(_SEED)
    lengths = np.linspace(_SHORTEST, min(_LONGEST, template.max_tokens), _PAIRS).astype(int)
    return [_pair(random, ordinary, template, int(length)) for length in lengths]


def _pair(
    random: np.random.Generator, ordinary: np.ndarray, template: PairTemplate, length: int
) -> EncodedPair:
    special = len(template.prefix) + len(template.infix) + len(template.suffix)
    words = random.choice(ordinary, size=max(2, length - special))
    query = min(_QUERY_TOKENS, template.max_query_tokens, len(words) // 2)
    head = np.concatenate([template.prefix, words[:query], template.infix])
    ids = np.concatenate([head, words[query:], template.suffix]).astype(np.int32)
    return EncodedPair(ids, len(head), truncated=False)
