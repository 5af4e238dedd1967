"""Losses against values computed by hand."""

import math

import pytest
import torch

from training.config import LossRecipe
from training.losses import calibration, distillation, listwise
from training.train import Targets, learning_rate_factor, total_loss

YES = torch.tensor([[True, True]])


def test_listwise_is_minus_log_of_the_right_share() -> None:
    loss = listwise(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[1, 0]]), YES)
    assert loss.item() == pytest.approx(-math.log(0.75))


def test_listwise_leaves_out_unknown_and_padding() -> None:
    scores = torch.tensor([[math.log(3.0), 0.0, 9.0, 9.0]])
    labels = torch.tensor([[1, 0, -1, 0]])
    valid = torch.tensor([[True, True, True, False]])
    assert listwise(scores, labels, valid).item() == pytest.approx(-math.log(0.75))


def test_listwise_without_a_right_candidate_is_nothing() -> None:
    scores = torch.zeros(1, 2, requires_grad=True)
    loss = listwise(scores, torch.tensor([[0, 0]]), YES)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()


def test_distillation_is_the_kl_divergence() -> None:
    # teacher softmax(2 * [log(3)/2, 0]) = [3/4, 1/4]; student uniform
    teacher = torch.tensor([[math.log(3.0) / 2, 0.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = distillation(torch.zeros(1, 2), teacher, YES, scale=2.0)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_distillation_is_zero_at_the_teacher_and_blind_to_padding() -> None:
    teacher = torch.tensor([[0.3, 0.1, 5.0]])
    scores = torch.tensor([[16 * 0.3 + 2, 16 * 0.1 + 2, -7.0]])
    valid = torch.tensor([[True, True, False]])
    assert distillation(scores, teacher, valid, 16.0).item() == pytest.approx(0.0, abs=1e-6)


def test_calibration_is_binary_cross_entropy_of_the_known() -> None:
    scores = torch.tensor([[0.0, math.log(3.0), 50.0]])
    labels = torch.tensor([[1, 0, -1]])
    expected = (math.log(2.0) + math.log(4.0)) / 2
    found = calibration(scores, labels, torch.ones(1, 3, dtype=torch.bool))
    assert found.item() == pytest.approx(expected)


def test_total_weighs_the_teacher_less_where_people_judged() -> None:
    scores, teacher = torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    recipe = LossRecipe(distill=1.0, distill_labelled=0.0, listwise=0.0, calibration=0.0)
    targets = Targets(
        teacher, torch.tensor([[1, 0], [1, 0]]), YES.expand(2, 2), torch.tensor([True, False])
    )
    one = distillation(scores[:1], teacher[:1], YES, recipe.teacher_scale).item()
    assert total_loss(scores, targets, recipe).item() == pytest.approx(one / 2)


def test_learning_rate_rises_then_falls() -> None:
    assert learning_rate_factor(0, 10, 100) == pytest.approx(0.1)
    assert learning_rate_factor(10, 10, 100) == pytest.approx(1.0)
    assert learning_rate_factor(55, 10, 100) == pytest.approx(0.525)
    assert learning_rate_factor(100, 10, 100) == pytest.approx(0.05)
