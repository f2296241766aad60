"""Losses that wait on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_optim.integration.losses import Losses


def taken(losses: Losses, divisor: int = 1) -> tuple[float | None, list[float]]:
    values = losses.take(divisor)
    assert values.shape == (4,)
    return losses.read(values.tolist())


def add(losses: Losses, *values: float, divisor: int = 1) -> None:
    for value in values:
        losses.add(torch.tensor(value), divisor)


def test_the_mean_is_since_the_last_time_and_the_first_ones_stay() -> None:
    losses = Losses(2)
    assert taken(losses) == (None, [])
    add(losses, 3.0)
    assert taken(losses) == (3.0, [])
    add(losses, 5.0, 7.0)
    assert taken(losses) == (6.0, [3.0, 5.0])
    assert taken(losses) == (None, [3.0, 5.0])


def test_the_division_by_the_accumulation_is_undone() -> None:
    losses = Losses(2)
    add(losses, 1.0, 2.0, divisor=4)
    assert taken(losses, 4) == (6.0, [4.0, 8.0])


def test_what_is_cleared_is_in_no_mean() -> None:
    losses = Losses(2)
    add(losses, 100.0)
    losses.clear()
    add(losses, 1.0)
    assert taken(losses) == (1.0, [100.0, 1.0])


def test_one_element_of_any_shape_and_type_is_a_loss() -> None:
    losses = Losses(2)
    shapes: list[Tensor] = [torch.ones(1, dtype=torch.bfloat16), torch.ones((), dtype=torch.float64)]
    for loss in shapes:
        losses.add(loss, 1)
    assert taken(losses) == (1.0, [1.0, 1.0])
