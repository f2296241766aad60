from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from schedulers import Capped
from torch import nn

import lit_optim as lo
from lit_optim.moves import Move, moves_of
from lit_optim.reductions import Reductions

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
GROUPS = 12
TOTAL = 20
RUN = lo.Horizon(TOTAL, steps_per_epoch=5)


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"lit_optim.schedules.{name}", **arguments}


PLATEAU = node("Plateau", monitor="val/loss", patience=0, warmup=2)
CAPPED = {"_target_": "schedulers.Capped"}
KINDS = (
    node("WarmupCosine", warmup="20%"), node("Linear", final_value=0.3), node("Exponential", rate=0.9, every=3),
    node("Milestones", at=[5, 9], values=[0.3, 0.2]), node("OneCycle", final_value=0.1), node("CosineRestarts"),
    node("Joined", schedules=[node("Cosine"), node("Warmup", schedule=node("Polynomial"))], at=[7]), PLATEAU,
    CAPPED, node("Joined", schedules=[node("Cosine"), CAPPED], at=[7]), node("Warmup", schedule=CAPPED),
)  # fmt: skip
TORCHS = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": TOTAL}
kinds = st.sampled_from(KINDS)


def planned(schedules: dict[str, Any], count: int = GROUPS, run: lo.Horizon = RUN) -> tuple[nn.Module, lo.Plan]:
    """Groups of one parameter each, which differ in learning rate, weight decay and the first of the betas."""
    rules = {
        f"r{i}": {
            "match": f"{i}.weight",
            "lr": 3 - i / 100,
            "weight_decay": 0.5 - i / 100,
            "betas": [0.9 - i / 100, 0.99],
        }
        for i in range(count)
    }
    model = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(count))
    recipe = {"optimizer": {"_target_": "torch.optim.AdamW"}, "rules": rules, "schedule": schedules}
    return model, lo.make_plan(model, recipe, run)


def moves(plan: lo.Plan) -> list[Move]:
    return moves_of(plan, [[i] for i in range(len(plan.groups))], Reductions(plan))


def rates(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [group["lr"] for group in optimizer.param_groups]


@given(kinds | st.just(TORCHS), kinds, st.integers(1, GROUPS), st.integers(0, 2 * TOTAL))
def test_many_groups_run_bit_for_bit_as_planned(lr: Any, other: Any, count: int, at: int) -> None:
    model, plan = planned({"lr": lr, "weight_decay": other, "betas.0": node("Linear", final_factor=0.7)}, count)
    optimizer, scheduler = lo.build(model, plan)
    bound = [plan.bound(group) for group in plan.groups]
    for step in (*range(TOTAL), at):
        scheduler.step(step)
        expected = [{name: curve(step) for name, curve in curves.items()} for curves in bound]
        found = [
            {"lr": group["lr"], "weight_decay": group["weight_decay"], "betas.0": group["betas"][0]}
            for group in optimizer.param_groups
        ]
        assert found == expected
        assert all(type(value) is float for of_group in found for value in of_group.values())
    assert {(type(group["betas"]), group["betas"][1]) for group in optimizer.param_groups} == {(tuple, 0.99)}


def test_an_evaluation_serves_many_values_or_each_of_few() -> None:
    schedules = {"lr": node("Cosine"), "weight_decay": node("Linear"), "betas.0": node("Constant")}
    assert len(moves(planned(schedules)[1])) == 3
    assert len(moves(planned(schedules, count=3)[1])) == 9
    places = [place for move in moves(planned(schedules)[1]) for place in move.places]
    names = (("lr", None), ("weight_decay", None), ("betas", 0))
    assert sorted(places, key=repr) == sorted(((i, *name) for i in range(GROUPS) for name in names), key=repr)


def test_a_schedule_of_the_user_s_is_evaluated_once_for_each_distinct_value() -> None:
    rules = {f"r{i}": {"match": f"{i}.weight", "weight_decay": i / 100, "lr": 0.1 + i % 3} for i in range(GROUPS)}
    recipe = {"optimizer": {"_target_": "torch.optim.AdamW"}, "rules": rules, "schedule": {"lr": CAPPED}}
    model = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(GROUPS))
    optimizer, scheduler = lo.build(model, lo.make_plan(model, recipe, RUN))
    before = Capped.asked
    scheduler.step()
    assert Capped.asked == before + 3
    assert rates(optimizer)[:6] == [0.05, 0.55, 1.05] * 2


def test_reductions_reach_many_groups_at_once_and_a_copy_has_its_own() -> None:
    model, plan = planned({"lr": PLATEAU})
    optimizer, scheduler = lo.build(model, plan)
    scheduler.step(5)
    other, copied = copy.deepcopy((optimizer, scheduler))
    starts = rates(optimizer)
    for _ in range(2):
        copied.see({"val/loss": 1.0})
    assert rates(other) == [value * 0.1 for value in starts]
    scheduler.step()
    assert rates(optimizer) == starts
    scheduler.load_state_dict(copied.state_dict())
    assert rates(optimizer) == rates(other)
    copied.load_state_dict({"last_epoch": 5})
    assert rates(other) == starts


def test_tensors_among_many_groups_are_filled() -> None:
    model, plan = planned({"lr": node("Cosine"), "betas.0": node("Linear", final_factor=0.5)})
    optimizer, scheduler = lo.build(model, plan)
    rate, beta = torch.tensor(0.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    optimizer.param_groups[3]["lr"], optimizer.param_groups[4]["betas"] = rate, (beta, 0.99)
    scheduler.step(7)
    assert optimizer.param_groups[3]["lr"] is rate
    assert optimizer.param_groups[4]["betas"][0] is beta
    assert rate.item() == plan.bound(plan.groups[3])["lr"](7)
    assert beta.item() == plan.bound(plan.groups[4])["betas.0"](7)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_value_that_is_not_finite_is_told_as_of_one_group() -> None:
    model, plan = planned({"lr": node("Exponential", rate=1e308, every=1)}, run=lo.Horizon(-1))
    _, scheduler = lo.build(model, plan)
    with pytest.raises(lo.PlanError, match=r"schedule.lr._target_: .*Exponential gives no finite number at step 1"):
        scheduler.step()
