"""Figures from sums."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD

from lit_optim.measurement import QUANTITIES, Measurement
from lit_optim.statistics import Figures, figures


def one_step(names: list[str], *groups: list[list[float]], quantities: tuple[str, ...] = QUANTITIES) -> Measurement:
    """Of parameters that are all one, with these gradients."""
    parameters = [[nn.Parameter(torch.ones(len(gradient))) for gradient in group] for group in groups]
    for own, gradients in zip(parameters, groups, strict=True):
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
    optimizer = SGD([{"params": own} for own in parameters], lr=0.5)
    measurement = Measurement(optimizer, names, quantities)
    measurement.before()
    measurement.clipped()
    optimizer.step()
    measurement.after()
    return measurement


def test_several_optimizers_have_their_groups_apart_and_one_total() -> None:
    first = one_step(["a", "b"], [[3.0], [4.0]], [[0.0, 0.0, 1.0]])
    second = one_step(["c"], [[torch.nan, 2.0]])
    values = [*first.vector().tolist(), *second.vector().tolist()]
    seen = figures([first, second], values)
    assert seen.groups["grad_norm"] == {"a": 5.0, "b": 1.0, "c": pytest.approx(torch.nan, nan_ok=True)}
    assert seen.groups["zero_grads"] == {"a": 0.0, "b": pytest.approx(2 / 3), "c": 0.0}
    assert seen.groups["update_ratio"]["a"] == pytest.approx(2.5 / 2**0.5)
    assert seen.totals["zero_grads"] == pytest.approx(2 / 7)
    assert seen.totals["param_norm"] == pytest.approx(7**0.5)
    assert [(group, parameter.numel()) for group, parameter in seen.nonfinite] == [("c", 2)]


def test_a_parameter_of_nothing_and_no_quantity_have_no_figures() -> None:
    assert figures([], []) == Figures({}, {}, [])
    assert figures([one_step(["a"], [[1.0]], quantities=())], []) == Figures({}, {}, [])
    empty = one_step(["a", "b"], [[]], [[1.0]], quantities=("grad_norm", "zero_grads"))
    assert figures([empty], empty.vector().tolist()).groups["zero_grads"] == {"b": 0.0}
