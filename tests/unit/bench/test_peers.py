"""Orders are compared question by question, and a wrong one of ours fails the command."""

from bench.engine_timing import Timing
from bench.peers import OURS, REFERENCE, _check_order, _orders, _speeds
from bench.peers_players import Answered
from bench.peers_setup import peer_packages
from bench.report import Table

MODE = "all waiting"


def answered(seconds: float, scores: list[list[float]]) -> list[Answered]:
    return [Answered(Timing(seconds, seconds), scores)]


FOUND = {
    (REFERENCE, MODE): answered(4.0, [[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]]),
    (OURS, MODE): answered(1.0, [[1.1, 2.0, 3.0], [3.0, 1.0, 2.1]]),
    ("flashrank", MODE): answered(2.0, [[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]]),
}


def test_orders() -> None:
    rows = {str(row["reranker"]): row for row in _orders(FOUND)}
    assert rows[OURS]["least"] == 1.0
    flashrank = rows["FlashRank, the same ONNX dynamic int8"]
    assert flashrank["least"] == -1.0
    assert flashrank["rms difference of logits"] is None  # its scores are no logits


def test_speeds() -> None:
    rows = {str(row["reranker"]): row for row in _speeds(FOUND, pairs=6)}
    assert rows[OURS]["pairs/s"] == 6.0
    assert rows[OURS][": torch"] == "4.00 (4.00-4.00)"
    assert rows["FlashRank, the same ONNX dynamic int8"]["ours : it"] == "2.00 (2.00-2.00)"


def test_only_our_own_order_decides() -> None:
    right = Table("order", "Order", _orders(FOUND))
    assert _check_order([right]) == 0
    wrong = {**FOUND, (OURS, MODE): FOUND["flashrank", MODE]}
    assert _check_order([Table("order", "Order", _orders(wrong))]) == 1


def test_the_packages_come_from_the_project_file() -> None:
    assert any(name.startswith("openvino==") for name in peer_packages())
