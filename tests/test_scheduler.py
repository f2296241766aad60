import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

import lit_optim as lo
from lit_optim.models import MLP
from lit_optim.names import dotted_name
from lit_optim.scheduler import PlanScheduler
from lit_optim.schedules.plateau import Plateau

TOTAL = 24
RUN = lo.Horizon(total_steps=TOTAL, steps_per_epoch=8)
SCHEDULED = ("lr", "momentum", "weight_decay")


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"lit_optim.schedules.{name}", **arguments}


CONFIG = {
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "rules": {
        "bias": {"match": "*.bias", "lr": 0.3, "schedule": {"weight_decay": None}},
        "top": {
            "match": "layer.2",
            "multiply": {"lr": 0.7},
            "schedule": {"lr": node("Milestones", at=[5], values=[0.01])},
        },
    },
    "schedule": {
        "lr": node("WarmupCosine", warmup="20%"),
        "momentum": node("Exponential", rate=0.9, every=3),
        "weight_decay": node("Linear", final_value=0.2, duration="2epochs"),
    },
}


def built(config: dict[str, Any] = CONFIG) -> tuple[nn.Module, lo.Plan, torch.optim.Optimizer, LRScheduler]:
    torch.manual_seed(0)
    model = MLP(4, (3,), 2)
    plan = lo.make_plan(model, lo.Recipe.from_config(config), RUN)
    return model, plan, *lo.build(model, plan)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def values(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {name: v for name, v in group.items() if name not in ("params", "param_names")}
        for group in optimizer.param_groups
    ]


def test_each_step_uses_what_the_plan_shows() -> None:
    model, plan, optimizer, scheduler = built()
    assert len(plan.groups) == 4
    curves = {(g.name, name): plan.curve(g.name, name) for g in plan.groups for name in SCHEDULED}
    for number in range(TOTAL):
        for group in optimizer.param_groups:
            for name in SCHEDULED:
                assert group[name] == curves[group["name"], name][number]
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
        assert scheduler.last_epoch == number
        step(model, optimizer, number)
        scheduler.step()


schedules = st.one_of(
    st.builds(node, st.just("WarmupCosine"), warmup=st.integers(0, TOTAL), final_factor=st.floats(0, 2)),
    st.builds(node, st.just("Linear"), final_factor=st.floats(0, 2), duration=st.integers(0, TOTAL)),
    st.builds(node, st.just("Polynomial"), power=st.floats(0.1, 3), duration=st.integers(0, TOTAL)),
    st.builds(node, st.just("Exponential"), rate=st.floats(0.5, 1.0), every=st.integers(1, TOTAL)),
    st.builds(lambda at, to: node("Milestones", at=[at], factors=[to]), st.integers(0, TOTAL), st.floats(0, 2)),
)


def random_config(top: dict[str, Any], own: dict[str, Any], multiply: float) -> dict[str, Any]:
    rule = {"match": "*.bias", "multiply": {"lr": multiply}, "schedule": {"lr": own}}
    return {**CONFIG, "rules": {"bias": rule}, "schedule": {"lr": top, "momentum": own}}


configs = st.builds(random_config, schedules, schedules, st.floats(0.5, 3))


@given(configs)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_plan_and_run_agree_bit_for_bit(config: dict[str, Any]) -> None:
    _, plan, optimizer, scheduler = built(config)
    curves = {(g.name, name): plan.curve(g.name, name).tolist() for g in plan.groups for name in SCHEDULED}
    ran: dict[tuple[str, str], list[float]] = {key: [] for key in curves}
    for _ in range(TOTAL):
        for group, name in ((group, name) for group in optimizer.param_groups for name in SCHEDULED):
            ran[group["name"], name].append(group[name])
        scheduler.step()
    assert ran == curves


@given(configs, st.integers(0, TOTAL - 1))
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_fresh_pair_goes_on_where_the_saved_one_was(config: dict[str, Any], at: int) -> None:
    _, plan, optimizer, scheduler = built(config)
    for _ in range(at):
        scheduler.step()
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    _, _, fresh, resumed = built(config)
    fresh.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for number in range(at, TOTAL):
        assert values(fresh) == values(optimizer)
        assert all(g["lr"] == plan.curve(g["name"], "lr")[number] for g in fresh.param_groups)
        scheduler.step()
        resumed.step()


@pytest.mark.parametrize("at", [0, 1, 7, TOTAL - 1])
def test_training_goes_on_to_the_same_weights(at: int) -> None:
    whole, _, optimizer, scheduler = built()
    for number in range(TOTAL):
        if number == at:
            saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict(), scheduler.state_dict()))
        step(whole, optimizer, number)
        scheduler.step()
    resumed, _, optimizer, scheduler = built()
    for part, state in zip((resumed, optimizer, scheduler), saved, strict=True):
        part.load_state_dict(state)  # type: ignore[attr-defined]
    for number in range(at, TOTAL):
        step(resumed, optimizer, number)
        scheduler.step()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_the_plan_wins_over_what_a_loaded_optimizer_brings() -> None:
    other = copy.deepcopy(CONFIG)
    other["optimizer"] |= {"lr": 7.0, "momentum": 0.1, "weight_decay": 0.5, "nesterov": True, "dampening": 0.0}
    other["rules"]["bias"]["lr"] = 5.0
    _, _, foreign, moved = built(other)
    for _ in range(6):
        moved.step()
    _, plan, optimizer, scheduler = built()
    optimizer.load_state_dict(foreign.state_dict())
    assert optimizer.param_groups[0]["nesterov"] is True
    scheduler.load_state_dict(moved.state_dict())
    for group, planned in zip(optimizer.param_groups, plan.groups, strict=True):
        for name, value in planned.hyperparameters.items():
            expected = plan.curve(planned.name, name)[6] if name in planned.schedules else value
            assert group[name] == expected


def test_its_state_is_the_step_and_loads_as_weights_only(tmp_path: Any) -> None:
    _, _, optimizer, scheduler = built()
    optimizer.step()
    scheduler.step()
    assert scheduler.state_dict() == {"last_epoch": 1}
    torch.save(scheduler.state_dict(), tmp_path / "s.pt")
    assert torch.load(tmp_path / "s.pt", weights_only=True) == {"last_epoch": 1}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_it_goes_to_any_step_and_holds_after_the_last() -> None:
    _, plan, optimizer, scheduler = built()
    scheduler.step(9)
    assert optimizer.param_groups[0]["lr"] == plan.curve("default", "lr")[9]
    scheduler.step(3)
    assert optimizer.param_groups[0]["lr"] == plan.curve("default", "lr")[3]
    scheduler.step(10 * TOTAL)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert optimizer.param_groups[0]["weight_decay"] == 0.2


def test_it_can_follow_the_steps_that_happened() -> None:
    model, _, optimizer, scheduler = built()
    assert isinstance(scheduler, PlanScheduler)
    scheduler.follows_steps = True
    seen = []
    for number, happened in enumerate((False, True, False, False, True, True)):
        if happened:
            step(model, optimizer, number)
        scheduler.step()
        seen.append(scheduler.last_epoch)
    assert seen == [0, 1, 1, 1, 2, 3]


def test_a_step_before_a_state_is_loaded_does_not_count() -> None:
    """As torch's distributed checkpoints take one, to have something to load into."""
    model, _, optimizer, scheduler = built()
    assert isinstance(scheduler, PlanScheduler)
    scheduler.follows_steps = True
    optimizer.step()
    scheduler.load_state_dict({"last_epoch": 3})
    scheduler.step()
    assert scheduler.last_epoch == 3
    step(model, optimizer, 3)
    scheduler.step()
    assert scheduler.last_epoch == 4


def test_a_tensor_is_filled_and_stays_the_same_tensor() -> None:
    _, plan, optimizer, scheduler = built()
    held = torch.tensor(0.0, dtype=torch.float64)
    optimizer.param_groups[0]["lr"] = held
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is held
    assert held.item() == plan.curve("default", "lr")[1]
    scheduler.load_state_dict({"last_epoch": 4})
    assert held.item() == plan.curve("default", "lr")[4]


def test_without_schedules_nothing_moves() -> None:
    model, _, optimizer, scheduler = built({**CONFIG, "rules": {}, "schedule": {}})
    before = values(optimizer)
    for number in range(3):
        step(model, optimizer, number)
        scheduler.step()
    assert values(optimizer) == before


def test_steps_in_the_usual_order_warn_of_nothing() -> None:
    model, _, optimizer, scheduler = built()
    for number in range(3):
        step(model, optimizer, number)  # warnings are errors here
        scheduler.step()


def test_a_run_without_an_end_goes_on() -> None:
    model = MLP(4, (3,), 2)
    config = {"optimizer": CONFIG["optimizer"], "schedule": {"lr": node("Linear", duration=2)}}
    plan = lo.make_plan(model, lo.Recipe.from_config(config), lo.Horizon(-1))
    optimizer, scheduler = lo.build(model, plan)
    seen = []
    for number in range(4):
        seen.append(optimizer.param_groups[0]["lr"])
        step(model, optimizer, number)
        scheduler.step()
    assert seen == [0.1, 0.05, 0.0, 0.0]


def test_a_class_without_a_learning_rate_is_scheduled_in_what_it_has() -> None:
    node_ = {"_target_": "pytorch_optimizer.A2Grad", "beta": 10.0}
    _, plan, optimizer, scheduler = built({"optimizer": node_, "schedule": {"beta": node("Linear", final_value=1.0)}})
    assert "lr" not in optimizer.param_groups[0]
    assert not {"initial_lr"} & optimizer.param_groups[0].keys()
    assert [math.isnan(float(rate)) for rate in scheduler.get_last_lr()] == [True]
    scheduler.step()
    assert optimizer.param_groups[0]["beta"] == plan.curve("default", "beta")[1]


def test_groups_that_a_class_makes_itself_follow_the_plan_s_one() -> None:
    mini = {"_target_": "pytorch_optimizer.AdamMini", "lr": 0.1, "num_embeds": 8, "num_heads": 2}
    _, plan, optimizer, scheduler = built({"optimizer": mini, "schedule": {"lr": node("Cosine")}})
    assert len(plan.groups) == 1
    scheduler.step()
    assert {group["lr"] for group in optimizer.param_groups} == {plan.curve("default", "lr")[1]}
    assert [group["name"] for group in optimizer.param_groups] == [*plan.groups[0].parameters]
    scheduler.load_state_dict({"last_epoch": 5})
    assert {group["lr"] for group in optimizer.param_groups} == {plan.curve("default", "lr")[5]}
    assert [group["name"] for group in optimizer.param_groups] == [*plan.groups[0].parameters]


def test_how_each_group_is_executed_stays_its_own_after_loading() -> None:
    sgd = {"_target_": "torch.optim.SGD", "lr": 0.1, "foreach": False}
    rules = {"bias": {"match": "*.bias", "optimizer": sgd}}
    config = {"optimizer": {"_target_": "torch.optim.AdamW"}, "rules": rules}
    model, _, optimizer, scheduler = built(config)
    before = [(group["name"], group["fused"], group["foreach"]) for group in optimizer.param_groups]
    assert before == [("default", True, None), ("bias", None, False)]
    step(model, optimizer, 0)
    saved, at = copy.deepcopy(optimizer.state_dict()), scheduler.state_dict()
    saved["param_groups"][1]["foreach"] = True
    _, _, again, scheduler = built(config)
    again.load_state_dict(saved)
    scheduler.load_state_dict(at)
    assert [(group["name"], group["fused"], group["foreach"]) for group in again.param_groups] == before


@pytest.mark.parametrize("scheduled", [False, True])
def test_what_an_optimizer_moves_itself_stays_as_loaded_unless_it_is_scheduled(scheduled: bool) -> None:
    asgd = {"_target_": "pytorch_optimizer.ASGD", "lr": 0.01}
    config = {"optimizer": asgd, "schedule": {"lr": node("Constant")} if scheduled else {}}
    model, _, optimizer, scheduler = built(config)
    for number in range(3):
        step(model, optimizer, number)
        scheduler.step()
    moved = optimizer.param_groups[0]["lr"]
    _, _, again, resumed = built(config)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert (again.param_groups[0]["lr"] == moved) is not scheduled or moved == 0.01
    assert scheduled or moved != 0.01


def test_a_scheduler_of_torchs_goes_on_from_its_step_alone() -> None:
    cosine = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 3, "interval": "epoch"}
    config = {**CONFIG, "rules": {}, "schedule": {"lr": cosine}}
    _, plan, optimizer, scheduler = built(config)
    scheduler.load_state_dict({"last_epoch": 17})
    assert optimizer.param_groups[0]["lr"] == plan.curve("default", "lr")[17] < plan.curve("default", "lr")[0]
    assert scheduler.state_dict() == {"last_epoch": 17}


def test_what_a_metric_reduces_is_reduced_from_the_next_step_on() -> None:
    plateau = {"_target_": dotted_name(Plateau), "monitor": "val/loss", "patience": 0, "warmup": 2, "start_factor": 0.5}
    _, _, optimizer, scheduler = built({**CONFIG, "rules": {}, "schedule": {"lr": plateau}})
    assert isinstance(scheduler, PlanScheduler)
    assert scheduler.monitors == ("val/loss",)
    used = []
    for value in (1.0, 1.0, 1.0, 1.0, 1.0):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        scheduler.see({"val/loss": value, "val/acc": 0.0})
    assert used == pytest.approx([0.05, 0.075, 0.1, 0.01, 0.001])
    scheduler.step(1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.075e-3)
