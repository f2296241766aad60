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
    CosineRestarts,
    Exponential,
    Linear,
    Milestones,
    OneCycle,
    Polynomial,
    Schedule,
    WarmupCosine,
)

START, TOTAL = 0.3, 1000
RUN = Horizon(total_steps=TOTAL, steps_per_epoch=50)


def warmup_cosine(optimizer: Any) -> LRScheduler:
    rise = lr_scheduler.LinearLR(optimizer, start_factor=0.1, end_factor=1.0, total_iters=80)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL - 80, eta_min=0.03)
    return lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[80])


def one_cycle(**more: Any) -> Callable[[Any], LRScheduler]:
    """Its last step is ``total_steps - 1`` and its peak at ``pct_start * total_steps - 1``: here steps T and 0.3 T."""
    return lambda o: lr_scheduler.OneCycleLR(o, START, total_steps=TOTAL + 1, pct_start=301 / 1001, **more)


CASES: list[tuple[Schedule, str, Callable[[Any], LRScheduler], str]] = [
    (Constant(0.5), "ConstantLR", lambda o: lr_scheduler.ConstantLR(o, 0.5, total_iters=10 * TOTAL), "lr"),
    (
        Linear(final_factor=0.1, duration=400),
        "LinearLR",
        lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=400),
        "lr",
    ),
    (
        Linear(start_factor=0.2, final_factor=1.0, duration="30%"),
        "LinearLR, rising",
        lambda o: lr_scheduler.LinearLR(o, 0.2, 1.0, total_iters=300),
        "lr",
    ),
    (
        Linear(final_factor=1.5),
        "LambdaLR",
        lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 + 0.5 * min(step / TOTAL, 1)),
        "lr",
    ),
    (Cosine(), "CosineAnnealingLR", lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL), "lr"),
    (
        Cosine(final_value=0.01),
        "CosineAnnealingLR(eta_min)",
        lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL, eta_min=0.01),
        "lr",
    ),
    (
        CosineRestarts(period=60, final_value=0.01),
        "CosineAnnealingWarmRestarts",
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=60, eta_min=0.01),
        "lr",
    ),
    (
        CosineRestarts(period=60, growth=2),
        "CosineAnnealingWarmRestarts(T_mult=2)",
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=60, T_mult=2),
        "lr",
    ),
    (Exponential(rate=0.99, every=1), "ExponentialLR", lambda o: lr_scheduler.ExponentialLR(o, 0.99), "lr"),
    (
        Exponential(rate=0.5, every="1epochs", staircase=True),
        "StepLR",
        lambda o: lr_scheduler.StepLR(o, 50, 0.5),
        "lr",
    ),
    (Polynomial(power=2.0), "PolynomialLR", lambda o: lr_scheduler.PolynomialLR(o, TOTAL, 2.0), "lr"),
    (Polynomial(power=0.5, duration=600), "PolynomialLR(0.5)", lambda o: lr_scheduler.PolynomialLR(o, 600, 0.5), "lr"),
    (
        Milestones(at=[300, "80%"], factors=[0.1, 0.01]),
        "MultiStepLR",
        lambda o: lr_scheduler.MultiStepLR(o, [300, 800], 0.1),
        "lr",
    ),
    (
        WarmupCosine(warmup=80, start_factor=0.1, final_value=0.03),
        "SequentialLR of LinearLR and CosineAnnealingLR",
        warmup_cosine,
        "lr",
    ),
    (OneCycle(), "OneCycleLR(T + 1)", one_cycle(), "lr"),
    (
        OneCycle(start_value=0.95, peak_value=0.85, final_value=0.95),
        "OneCycleLR(T + 1), momentum",
        one_cycle(),
        "momentum",
    ),
    (
        OneCycle(three_phase=True, shape="linear"),
        "OneCycleLR(T + 1, three_phase, linear)",
        one_cycle(three_phase=True, anneal_strategy="linear"),
        "lr",
    ),
]


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # by torch's SequentialLR
@pytest.mark.parametrize(("ours", "name", "theirs", "key"), CASES, ids=[name for _, name, _, _ in CASES])
def test_the_same_value_at_every_step(
    ours: Schedule, name: str, theirs: Callable[[Any], LRScheduler], key: str
) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=START, momentum=0.95)
    scheduler = theirs(optimizer)
    curve = ours.curve(START, RUN)
    for step in range(TOTAL + 1):
        assert curve(step) == pytest.approx(optimizer.param_groups[0][key], rel=1e-12, abs=1e-12), step
        if step < TOTAL:
            optimizer.step()
            scheduler.step()


def test_the_comparison_can_fail() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=START)
    lr_scheduler.ConstantLR(optimizer, 0.5, total_iters=3)
    assert Constant(0.5 + 1e-11).curve(START, RUN)(0) != pytest.approx(
        optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-12
    )
