"""Our pure schedules against torch's chained ones, at every step and past the end."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from lit_optim.durations import Horizon
from lit_optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Milestones,
    Polynomial,
    Schedule,
    WarmupCosine,
)

START, TOTAL = 0.3, 100
RUN = Horizon(total_steps=TOTAL, steps_per_epoch=10)


def warmup_cosine(optimizer: Any) -> LRScheduler:
    rise = lr_scheduler.LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=20)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=80, eta_min=0.03)
    return lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[20])


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # by torch's SequentialLR
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Linear(final_factor=0.1, duration=40), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=40)),
        (
            Linear(start_factor=0.2, final_factor=1.0, duration="30%"),
            lambda o: lr_scheduler.LinearLR(o, 0.2, 1.0, total_iters=30),
        ),
        (
            Linear(final_factor=1.5),
            lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 + 0.5 * min(step / TOTAL, 1)),
        ),
        (Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL)),
        (Cosine(final_value=0.01), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL, eta_min=0.01)),
        (Exponential(rate=0.97, every=1), lambda o: lr_scheduler.ExponentialLR(o, 0.97)),
        (Exponential(rate=0.5, every="1epochs", staircase=True), lambda o: lr_scheduler.StepLR(o, 10, 0.5)),
        (Polynomial(power=2.0), lambda o: lr_scheduler.PolynomialLR(o, TOTAL, 2.0)),
        (Polynomial(power=0.5, duration=60), lambda o: lr_scheduler.PolynomialLR(o, 60, 0.5)),
        (Milestones(at=[30, 80], factors=[0.1, 0.01]), lambda o: lr_scheduler.MultiStepLR(o, [30, 80], 0.1)),
        (WarmupCosine(warmup=20, start_factor=0.1, final_value=0.03), warmup_cosine),
        (Constant(0.5), lambda o: lr_scheduler.ConstantLR(o, 0.5, total_iters=10 * TOTAL)),
    ],
    ids=lambda item: repr(item) if isinstance(item, Schedule) else "",
)
def test_the_same_value_at_every_step(ours: Schedule, theirs: Callable[[Any], LRScheduler]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=START)
    scheduler = theirs(optimizer)
    curve = ours.curve(START, RUN)
    for step in range(TOTAL + 1):
        assert curve(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-12), step
        optimizer.step()
        scheduler.step()


def test_the_comparison_can_fail() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=START)
    lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=3)
    assert Constant(0.5 + 1e-11).curve(START, RUN)(0) != pytest.approx(
        optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-12
    )
