"""Our decisions on a plateau against those of torch's ReduceLROnPlateau, look by look."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

import lit_optim as lo
from lit_optim.names import dotted_name
from lit_optim.schedules.plateau import Plateau

RATES = (0.3, 1e-4)
RUN = lo.Horizon(1000, 10)

metrics = st.lists(
    st.sampled_from([0.0, 1.0, 0.9999, 0.99985, -1.0, 2.0, math.nan, math.inf, -math.inf])
    | st.floats(-2, 2, allow_nan=False)
    | st.floats(0.999, 1.001),
    max_size=40,
)
decisions = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.sampled_from([0.1, 0.5, 0.3, 0.99]),
        "patience": st.integers(0, 4),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1, 1.0, 2.0]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 3),
    }
)


def torchs(rates: tuple[float, ...], values: list[float], **arguments: Any) -> list[list[float]]:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = ReduceLROnPlateau(optimizer, **arguments)
    told = []
    for value in values:
        scheduler.step(value)
        told.append([group["lr"] for group in optimizer.param_groups])
    return told


def ours(rates: tuple[float, ...], values: list[float], node: dict[str, Any]) -> list[list[float]]:
    """By the scheduler of a plan."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    rules = {"head": {"match": "1", "lr": rates[1]}}
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": rates[0]}, "rules": rules, "schedule": {"lr": node}}
    optimizer, scheduler = lo.build(model, lo.make_plan(model, recipe, RUN))
    told = []
    for value in values:
        scheduler.see({node["monitor"]: value, "another": 0.0})
        told.append([group["lr"] for group in optimizer.param_groups])
    return told


@given(values=metrics, arguments=decisions)
def test_the_same_decisions(values: list[float], arguments: dict[str, Any]) -> None:
    plateau = Plateau("val/loss", **arguments)
    standing, reductions = plateau.begin(), []
    for value in values:
        standing = plateau.look(standing, value)
        reductions.append(standing.reductions)
    rate = 1.0  # torch's own reductions, counted: with eps 0 each of them moves it
    factor = arguments["factor"]
    expected = [
        0 if lr == rate else round(math.log(lr / rate, factor))
        for [lr] in torchs((rate,), values, eps=0.0, **arguments)
    ]
    assert reductions == expected


@given(values=metrics, arguments=decisions, floor=st.sampled_from([0.0, 1e-5, 0.01, 0.5]))
def test_torchs_own_class_gives_its_own_numbers(values: list[float], arguments: dict[str, Any], floor: float) -> None:
    node = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "monitor": "val/loss", "min_lr": floor}
    assert ours(RATES, values, {**node, **arguments}) == torchs(RATES, values, min_lr=floor, **arguments)


@given(values=metrics, arguments=decisions)
def test_ours_keeps_the_ratio_of_the_groups(values: list[float], arguments: dict[str, Any]) -> None:
    node = {"_target_": dotted_name(Plateau), "monitor": "val/loss", **arguments}
    told = ours(RATES, values, node)
    assert told == [pytest.approx(lrs, rel=1e-12) for lrs in torchs(RATES, values, eps=0.0, **arguments)]
    assert all(lrs[0] / lrs[1] == pytest.approx(RATES[0] / RATES[1], rel=1e-12) for lrs in told)


def test_the_comparison_can_fail() -> None:
    values, arguments = [1.0] * 12, {"patience": 2, "cooldown": 1}
    assert torchs((1.0,), values, patience=2, cooldown=1) != torchs((1.0,), values, patience=2)
    assert ours(RATES, values, {"_target_": dotted_name(Plateau), "monitor": "m", **arguments})[-1][0] == pytest.approx(
        3e-4
    )
