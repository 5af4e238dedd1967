"""A batch's parts, which are worked on side by side."""

from training.batches import Batch, split_batch


def _batch(lengths: list[int]) -> Batch:
    count = len(lengths)
    return Batch(
        queries=[f"{number}" for number in range(count)],
        candidates=[["x" * length, "y"] for length in lengths],
        teacher=[[float(number), 0.0] for number in range(count)],
        labels=[[1, 0]] * count,
        judged=[False] * count,
    )


def test_a_long_query_is_a_part_of_its_own() -> None:
    short, long = split_batch(_batch([10, 300, 12, 11]), 2)
    assert [sorted(short.queries), long.queries] == [["0", "2", "3"], ["1"]]
    assert long.teacher == [[1.0, 0.0]]


def test_queries_of_one_length_are_shared_out_evenly() -> None:
    assert [len(part.queries) for part in split_batch(_batch([20] * 8), 2)] == [4, 4]


def test_there_are_no_more_parts_than_queries() -> None:
    assert [part.queries for part in split_batch(_batch([5]), 2)] == [["0"]]


def test_many_queries_are_cut_into_many_parts() -> None:
    lengths = list(range(10, 74))
    parts = split_batch(_batch(lengths), 8)
    assert len(parts) == 8
    assert sorted(int(query) for part in parts for query in part.queries) == list(range(64))
    assert len(parts[0].queries) > len(parts[-1].queries)
