"""The moments of a step: gradients before clipping, after it, and what the step has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer

from lit_optim.integration.around_steps import AroundSteps
from lit_optim.statistics import Figures, figures


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.tensor([3.0, 4.0]))


def evaluating(one: nn.Parameter, see: Callable[[], None]) -> Callable[[], Tensor]:
    """As Lightning's closure: gradients, then whoever looks at them, then clipping to half."""

    def closure() -> Tensor:
        one.grad = one.detach().clone()
        see()
        one.grad.mul_(0.5)
        return one.detach().square().sum()

    return closure


def seen(around: AroundSteps) -> Figures:
    measurements = [*around.measurements.values()]
    return figures(measurements, [value for one in measurements for value in one.vector().tolist()])


DUE = ("grad_norm", "grad_norm_clipped", "update_norm", "histograms")


@pytest.mark.parametrize("call", ["keyword", "positional", "none"])
def test_a_step_is_seen_with_and_without_a_closure(call: str) -> None:
    one = parameter()
    optimizer = SGD([one], lr=0.1)
    around = AroundSteps([optimizer], 1)
    around.begin(DUE)
    closure = evaluating(one, lambda: around.see_gradients(optimizer))
    if call == "keyword":
        optimizer.step(closure=closure)
    elif call == "positional":
        optimizer.step(closure)
    else:
        closure()
        optimizer.step()
    figures_ = {quantity: groups["group0"] for quantity, groups in seen(around).groups.items()}
    assert figures_ == {"grad_norm": 5.0, "grad_norm_clipped": 2.5, "update_norm": pytest.approx(0.25)}
    [histograms] = around.histograms.values()
    assert histograms.read(histograms.vector().tolist())[0].total == 3.5, "as the optimizer gets them"
    assert around.lrs == {"group0": 0.1}


def test_the_first_evaluation_counts_and_the_closure_is_called_as_often_as_without() -> None:
    calls = []

    def run(optimizer: Optimizer, one: nn.Parameter, see: Callable[[], None]) -> int:
        calls.clear()
        closure = evaluating(one, lambda: (calls.append(1), see())[1])
        optimizer.step(closure)
        return len(calls)

    one, twin = parameter(), parameter()
    optimizer = LBFGS([one], lr=0.1, max_iter=4)
    around = AroundSteps([optimizer], 1)
    around.begin(DUE)
    count = run(optimizer, one, lambda: around.see_gradients(optimizer))
    assert count == run(LBFGS([twin], lr=0.1, max_iter=4), twin, lambda: None) > 1
    assert torch.equal(one, twin)
    assert seen(around).totals["grad_norm"] == 5.0
    assert seen(around).totals["grad_norm_clipped"] == 2.5


def test_nothing_is_measured_that_is_not_due_and_no_hook_stays() -> None:
    one = parameter()
    optimizer = SGD([one], lr=0.1)
    around = AroundSteps([optimizer], 1)
    around.begin(())
    optimizer.step(evaluating(one, lambda: around.see_gradients(optimizer)))
    assert around.measurements == {}
    around.begin(DUE)
    around.remove()
    optimizer.step(evaluating(one, lambda: around.see_gradients(optimizer)))
    assert seen(around).groups == {
        "grad_norm": {"group0": pytest.approx(4.75)},
        "grad_norm_clipped": {},
        "update_norm": {},
    }


def test_a_learning_rate_is_the_one_of_the_step() -> None:
    one, lr = parameter(), torch.tensor(0.1)
    groups: list[Any] = [{"params": [one], "initial_lr": 0.5}]
    optimizer = SGD(groups, lr=lr)
    around = AroundSteps([optimizer], 1)
    around.begin(DUE)
    optimizer.step(evaluating(one, lambda: around.see_gradients(optimizer)))
    lr.fill_(7.0)
    assert around.lrs == {"group0": pytest.approx(0.1)}
    assert around.built_with == {"group0": 0.5}
