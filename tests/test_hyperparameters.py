from typing import Any

import pytest
import torch
from torch import nn

import lit_optim as lo
from lit_optim.hyperparameters import divided, numbers_in, place_of, replaced, value_at

ADAM = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, "name": "x"}


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("lr", "lr", 0.1),
        ("betas", "betas", (0.9, 0.999)),
        ("betas.0", "betas.0", 0.9),
        ("betas.1", "betas.1", 0.999),
        ("betas.01", "betas.1", 0.999),
        ("momentum", "betas.0", 0.9),
    ],
)
def test_a_number_is_found_by_name(name: str, place: str, value: object) -> None:
    assert place_of(name, ADAM) == place
    assert value_at(place, ADAM) == value


@pytest.mark.parametrize("name", ["betas.2", "betas.-1", "betas.", "betas.x", "lr.0", "name.0", "rho", ".0", ""])
def test_what_is_not_there_has_no_place(name: str) -> None:
    assert place_of(name, ADAM) is None


def test_momentum_is_the_momentum_where_there_is_one() -> None:
    assert place_of("momentum", {"momentum": 0.5, "betas": (0.9, 0.99)}) == "momentum"
    assert place_of("momentum", {"lr": 0.1}) is None


def test_an_item_is_replaced_within_its_list() -> None:
    assert replaced("betas.1", ADAM, 0.5) == ("betas", (0.9, 0.5))
    assert replaced("lr", ADAM, 0.5) == ("lr", 0.5)


def test_all_numbers_are_listed() -> None:
    assert numbers_in(ADAM) == ["lr", "betas.0", "betas.1", "eps"]
    assert divided(ADAM, {"betas", "rho"}) == {
        "lr": 0.1,
        "betas.0": 0.9,
        "betas.1": 0.999,
        "eps": 1e-8,
        "amsgrad": False,
        "name": "x",
    }


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


UP: dict[str, Any] = {"_target_": "lit_optim.schedules.Linear", "final_value": 0.5}
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.1}
RUN = lo.Horizon(10)


@pytest.mark.parametrize("schedule", [{"momentum": UP}, {"betas.0": UP}, {"betas": {0: UP}}, {"betas": {"0": UP}}])
def test_the_first_of_the_betas_moves_and_the_second_stays(schedule: dict[str, Any]) -> None:
    model = _model()
    plan = lo.make_plan(model, {"optimizer": ADAMW, "schedule": schedule}, RUN)
    assert plan.groups[0].schedules == {"betas.0": UP}
    assert plan.curve("default", "betas.0").tolist() == plan.curve("default", "momentum").tolist()
    assert plan.curve("default", "betas.1").tolist() == [0.999] * 10
    optimizer, scheduler = lo.build(model, plan)
    seen = []
    for _ in range(10):
        seen.append(optimizer.param_groups[0]["betas"])
        optimizer.step()
        scheduler.step()
    assert seen == [(pytest.approx(0.9 - 0.04 * step), 0.999) for step in range(10)]
    assert "betas.0" in str(plan)
    assert "betas.1 0.999" in str(plan)
    assert "betas (" not in str(plan)


def test_a_state_that_is_loaded_does_not_undo_a_moved_beta() -> None:
    model = _model()
    plan = lo.make_plan(model, {"optimizer": ADAMW, "schedule": {"betas.1": UP}}, RUN)
    optimizer, scheduler = lo.build(model, plan)
    optimizer.step()
    scheduler.step()
    saved = optimizer.state_dict(), scheduler.state_dict()
    again, its_scheduler = lo.build(model, plan)
    again.load_state_dict(saved[0])
    its_scheduler.load_state_dict(saved[1])
    assert again.param_groups[0]["betas"] == (0.9, pytest.approx(0.999 - 0.0499))


@pytest.mark.parametrize("betas", [(0.9, 0.999), (torch.tensor(0.9), torch.tensor(0.999))])
def test_numbers_that_are_tensors_are_filled(betas: Any) -> None:
    model = _model()
    plan = lo.make_plan(model, {"optimizer": ADAMW, "schedule": {"lr": UP, "momentum": UP}}, RUN)
    optimizer, scheduler = lo.build(model, plan)
    group = optimizer.param_groups[0]
    lr = group["lr"] = torch.tensor(0.1)
    group["betas"] = betas
    scheduler.step()
    assert group["lr"] is lr
    assert lr.item() == pytest.approx(0.14)
    assert float(group["betas"][0]) == pytest.approx(0.86)
    assert group["betas"][0] is betas[0] or not isinstance(betas[0], torch.Tensor)
    plain, _ = lo.build(model, plan)
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.1)
    scheduler.load_state_dict({"last_epoch": 5})
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(0.3)
    assert float(optimizer.param_groups[0]["betas"][0]) == pytest.approx(0.7)


def test_a_rule_s_schedule_stands_for_the_same_number() -> None:
    recipe = {
        "optimizer": ADAMW,
        "rules": {"head": {"match": "1", "schedule": {"momentum": None}}, "base": {"match": "0", "betas": [0.8, 0.9]}},
        "schedule": {"betas.0": UP},
    }
    plan = lo.make_plan(_model(), recipe, RUN)
    assert plan.group("head").schedules == {}
    assert plan.curve("base", "momentum")[0] == 0.8


def test_each_class_has_its_own_momentum() -> None:
    rules = {"matrix": {"match": {"ndim": 2}, "optimizer": {"_target_": "torch.optim.SGD", "momentum": 0.95}}}
    plan = lo.make_plan(_model(), {"optimizer": ADAMW, "rules": rules, "schedule": {"momentum": UP}}, RUN)
    assert [list(group.schedules) for group in plan.groups] == [["momentum"], ["betas.0"]]


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (
            {"betas.2": UP},
            [
                "schedule.betas.2: torch.optim.AdamW has no hyperparameter 'betas.2'",
                "    given:   'lit_optim.schedules.Linear'",
                "    allowed: lr, betas.0, betas.1, eps, weight_decay",
                "    nearest: betas.1, betas.0",
                "    fix:     correct the name or remove it",
            ],
        ),
        (
            {"betas": UP},
            [
                "schedule.betas: betas is not one number, so it can't be scheduled",
                "    given:   (0.9, 0.999)",
                "    allowed: betas.0, betas.1",
                "    fix:     schedule one of its numbers (betas.0)",
            ],
        ),
        (
            {"momentum": UP, "betas.0": UP},
            [
                "schedule.betas.0: betas.0 and momentum are the same number of torch.optim.AdamW: betas.0",
                "    fix:     keep one of them (schedule.betas.0=null removes this one)",
            ],
        ),
        (
            {"betas.0": {**UP, "final_value": 1.5}},
            [
                "schedule.betas.0: it takes betas.0 to 1.44, which torch.optim.AdamW refuses: "
                "Invalid beta parameter at index 0: 1.44",
                "    given:   from 0.9",
                "    fix:     change where the schedule goes",
            ],
        ),
    ],
)
def test_what_can_not_move_is_refused(schedule: dict[str, Any], text: list[str]) -> None:
    with pytest.raises(lo.PlanError) as refused:
        lo.make_plan(_model(), {"optimizer": ADAMW, "schedule": schedule}, RUN)
    assert str(refused.value).splitlines() == text
