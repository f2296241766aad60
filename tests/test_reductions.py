from __future__ import annotations

import copy
import io
import math
from typing import Any

import pytest
import torch
from torch import nn

import lit_optim as lo
from lit_optim.names import dotted_name
from lit_optim.reductions import Reductions
from lit_optim.schedules.plateau import Plateau

RUN = lo.Horizon(100, 10)
TORCHS = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "monitor": "val/loss", "patience": 0}


def node(**arguments: Any) -> dict[str, Any]:
    return {"_target_": dotted_name(Plateau), "monitor": "val/loss", "patience": 0, **arguments}


def built(lr: Any, head: Any = None, **more: Any) -> tuple[torch.optim.Optimizer, Any]:
    """Two groups, and what each follows."""
    rule = {"match": "1", "lr": 0.01} | ({} if head is None else {"schedule": {"lr": head}})
    recipe = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 1.0},
        "rules": {"head": rule},
        "schedule": {"lr": lr, **more},
    }
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    return lo.build(model, lo.make_plan(model, recipe, RUN))


def rates(optimizer: torch.optim.Optimizer, name: str = "lr") -> list[float]:
    return [group[name] for group in optimizer.param_groups]


def steps(scheduler: Any, count: int) -> None:
    for _ in range(count):
        scheduler.optimizer.step()
        scheduler.step()


def saved(scheduler: Any) -> Any:
    """Its state by way of a file that is read without running code."""
    buffer = io.BytesIO()
    torch.save(scheduler.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_groups_with_the_same_schedule_shrink_together_and_from_the_next_step_on() -> None:
    optimizer, scheduler = built(node())
    for value, expected in ((1.0, [0.1, 0.01]), (0.5, [0.1, 0.01]), (0.6, [0.01, 0.001]), (0.4, [0.01, 0.001])):
        scheduler.see({"val/loss": torch.tensor(value)})
        assert rates(optimizer) == pytest.approx(expected)
        steps(scheduler, 3)
        assert rates(optimizer) == pytest.approx(expected)


def test_each_schedule_has_its_own_standing() -> None:
    optimizer, scheduler = built(node(), head=node(monitor="val/acc", mode="max", factor=0.5))
    assert scheduler.monitors == ("val/loss", "val/acc")
    for metrics in ({"val/loss": 1.0}, {"val/acc": 0.5}, {"val/acc": 0.4}, {}, {"val/other": 3.0}):
        scheduler.see(metrics)
    assert rates(optimizer) == pytest.approx([0.1, 0.005])
    scheduler.see({"val/loss": 1.0, "val/acc": 0.6})
    assert rates(optimizer) == pytest.approx([0.01, 0.005])


def test_other_hyperparameters_can_follow_it_too() -> None:
    optimizer, scheduler = built(node(), weight_decay=node(factor=0.5))
    scheduler.see({"val/loss": 1.0})
    scheduler.see({"val/loss": 1.0})
    assert rates(optimizer, "weight_decay") == [0.5, 0.5]
    assert rates(optimizer) == pytest.approx([0.01, 0.001])


def test_what_is_not_measured_is_not_looked_at() -> None:
    optimizer, scheduler = built(node())
    for _ in range(9):
        scheduler.see({})
        scheduler.see({"train/loss": 1.0})
    assert rates(optimizer) == [0.1, 0.01]


def test_it_counts_once_the_warm_up_is_over() -> None:
    optimizer, scheduler = built(node(warmup=4))
    for _ in range(4):
        scheduler.see({"val/loss": 0.0})
        steps(scheduler, 1)
    scheduler.see({"val/loss": 2.0})
    assert rates(optimizer) == [0.1, 0.01]
    scheduler.see({"val/loss": 1.0})
    assert rates(optimizer) == [0.1, 0.01]
    scheduler.see({"val/loss": 1.0})
    assert rates(optimizer) == pytest.approx([0.01, 0.001])


@pytest.mark.parametrize("what", [node(patience=1, cooldown=1, warmup=2), {**TORCHS, "patience": 1, "cooldown": 1}])
@pytest.mark.parametrize("at", range(8))
def test_it_goes_on_from_its_state(what: dict[str, Any], at: int) -> None:
    values = [3.0, 2.0, math.nan, 2.0, 2.0, 2.0, 1.9, 1.9]
    optimizer, scheduler = built(what)
    state, told, again = {}, [], []
    for number, value in enumerate(values):
        if number == at:
            state = saved(scheduler)
        steps(scheduler, 1)
        scheduler.see({"val/loss": value})
        told.append(rates(optimizer))
    optimizer, scheduler = built(what)
    scheduler.load_state_dict(state)
    for value in values[at:]:
        steps(scheduler, 1)
        scheduler.see({"val/loss": value})
        again.append(rates(optimizer))
    assert again == told[at:]
    assert told[-1] != told[0]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (node(), 0.01),
        (node(patience=5, threshold=0.2), 0.01),
        (node(factor=0.5), 0.05),
        (node(monitor="val/acc"), 0.1),
        (node(mode="max"), 0.1),
        (TORCHS, 0.1),
        ({"_target_": "lit_optim.schedules.Constant"}, 0.1),
    ],
)
def test_what_is_written_now_runs_and_goes_on_where_it_looks_at_the_same(now: dict[str, Any], expected: float) -> None:
    _, scheduler = built(node())
    steps(scheduler, 1)
    scheduler.see({"val/loss": 1.0})
    scheduler.see({"val/loss": 1.0})
    optimizer, resumed = built(now)
    resumed.see({"val/loss": 3.0})
    resumed.load_state_dict(saved(scheduler))
    assert rates(optimizer)[0] == pytest.approx(expected)


def test_a_state_from_before_there_was_a_plateau_begins_anew() -> None:
    optimizer, scheduler = built(node())
    scheduler.see({"val/loss": 1.0})
    scheduler.see({"val/loss": 1.0})
    scheduler.load_state_dict({"last_epoch": 3})
    assert rates(optimizer) == [0.1, 0.01]


def test_of_two_that_look_at_the_same_each_finds_its_own() -> None:
    first, second = node(), node(patience=7, factor=0.5)
    _, scheduler = built(first, head=second)
    for _ in range(3):
        scheduler.see({"val/loss": 1.0})
    optimizer, resumed = built(second, head=first)
    resumed.load_state_dict(saved(scheduler))
    assert rates(optimizer) == pytest.approx([0.1, 0.0001])
    changed, resumed = built(node(patience=3))
    resumed.load_state_dict(saved(scheduler))  # which of the two would it be?
    assert rates(changed) == [0.1, 0.01]


def test_a_plan_without_one_has_the_state_it_had() -> None:
    _, scheduler = built({"_target_": "lit_optim.schedules.Cosine"})
    assert scheduler.monitors == ()
    assert scheduler.state_dict() == {"last_epoch": 0}


def test_a_curve_that_follows_no_metric_is_left_alone() -> None:
    recipe = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
        "schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine"}},
    }
    plan = lo.make_plan(nn.Linear(1, 1), recipe, RUN)
    curve = plan.bound(plan.groups[0])["lr"]
    assert Reductions(plan).over(curve, plan.groups[0].schedules["lr"]) is curve


def test_a_new_schedule_does_not_take_over_what_another_has_seen() -> None:
    _, scheduler = built(node())
    for value in (1.0, 1.0, 1.0):
        scheduler.see({"val/loss": value})
    optimizer, again = built(node(), weight_decay=node(patience=5, factor=0.5))
    again.load_state_dict(saved(scheduler))
    assert rates(optimizer)[0] == pytest.approx(0.001)
    assert rates(optimizer, "weight_decay") == [1.0, 1.0]


def test_a_copy_follows_its_own_reductions() -> None:
    optimizer, scheduler = built(node())
    copied_optimizer, copied = copy.deepcopy((optimizer, scheduler))
    for value in (1.0, 1.0):
        copied.see({"val/loss": value})
    assert rates(copied_optimizer) == pytest.approx([0.01, 0.001])
    steps(scheduler, 1)
    assert rates(optimizer) == pytest.approx([0.1, 0.01])
