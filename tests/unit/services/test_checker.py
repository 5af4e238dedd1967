"""The checker itself must fail where it should."""

import json

import pytest

from tests.checker import Record, assert_exactly_once, assert_partition_order


def query(query_id: str, offset: int, partition: int = 0) -> Record:
    return Record("queries", partition, offset, query_id.encode(), b"{}")


def result(query_id: str, offset: int, partition: int = 0, named: str | None = None) -> Record:
    value = json.dumps({"query_id": named or query_id}).encode()
    return Record("results", partition, offset, query_id.encode(), value)


def test_exactly_once_holds() -> None:
    assert_exactly_once(["a", "b", "b"], [result("b", 0), result("a", 2), result("b", 5)])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([result("a", 0)], "1 lost: b"),
        ([result("a", 0), result("b", 1), result("b", 7)], "1 more than once: b at 0@1 0@7"),
        ([result("a", 0), result("b", 1), result("c", 2)], "1 never asked: c"),
        ([result("a", 0, named="b"), result("b", 1)], "key 'a' over a value of 'b'"),
    ],
)
def test_exactly_once_says_what_is_wrong(results: list[Record], message: str) -> None:
    with pytest.raises(AssertionError) as failure:
        assert_exactly_once(["a", "b"], results)
    assert message in str(failure.value)


def test_order_holds_within_each_pair_of_partitions() -> None:
    queries = [query("a", 0), query("b", 1), query("c", 0, partition=1), query("a", 2)]
    results = [
        result("c", 0),
        result("a", 1),
        result("b", 0, partition=1),
        result("a", 2),
    ]
    assert_partition_order(queries, results)


def test_order_broken_is_told() -> None:
    queries = [query("a", 0), query("b", 1)]
    with pytest.raises(AssertionError, match=r"answers query 0@0 \(a\) after that of @1 \(b\)"):
        assert_partition_order(queries, [result("b", 0), result("a", 1)])


def test_order_refuses_results_that_nobody_asked_for() -> None:
    with pytest.raises(AssertionError, match="more results than queries"):
        assert_partition_order([query("a", 0)], [result("a", 0), result("a", 1)])
