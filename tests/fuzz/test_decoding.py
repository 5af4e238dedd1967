"""A short run on every test; `python -m tests.fuzz` is the long one."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS, a_query_or_a_dead_letter

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OPTIONAL = ("top_k", "top_n", "deadline_ms", "candidates", "return_text", "attributes")
events = st.fixed_dictionaries(
    {"query_id": values, "query": values},
    optional=dict.fromkeys(OPTIONAL, values),
)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_seeds(target: Any) -> None:
    for seed in SEEDS:
        target(seed)


@settings(deadline=None)
@given(events)
def test_events_with_anything_in_any_field(event: dict[str, Any]) -> None:
    a_query_or_a_dead_letter(json.dumps(event).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=300))
def test_bytes(target: Any, raw: bytes) -> None:
    target(raw)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=200, deadline=None)
@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 90), drop=st.integers(0, 9), put=st.binary())
def test_seeds_with_a_piece_replaced(
    target: Any, seed: bytes, at: int, drop: int, put: bytes
) -> None:
    target(seed[:at] + put + seed[at + drop :])
