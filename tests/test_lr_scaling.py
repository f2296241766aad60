"""Learning rates that follow the batch size: from the recipe to the plan, its words and its refusals."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lit_optim as lo
from lit_optim.explain import explain
from lit_optim.lr_scaling import LrScaling
from lit_optim.models import MLP

RUN = lo.Horizon(total_steps=100, steps_per_epoch=10, global_batch=1024)
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
RULES = {
    "low": {"match": "layer.0", "multiply": {"lr": 0.5}},
    "layers": {"match": "layer.2", "layer_decay": 0.25},
    "muon": {"match": "layer.4.weight", "optimizer": {"_target_": "torch.optim.Muon", "lr": 0.02}},
    "own": {"match": "layer.4.bias", "optimizer": {"_target_": "torch.optim.Adam"}},
}


class Rateless(torch.optim.Optimizer):
    """Goes one tenth of the way to zero at each step."""

    def __init__(self, params: Any, share: float = 0.1) -> None:
        super().__init__(params, {"share": share})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.mul_(1 - group["share"])


def planned(horizon: lo.Horizon = RUN, **parts: Any) -> lo.Plan:
    return lo.make_plan(MLP(4, (3, 3), 2), lo.Recipe.from_config({"optimizer": SGD, **parts}), horizon)


def rates(plan: lo.Plan) -> dict[str, float]:
    return {name: group.hyperparameters["lr"] for group in plan.groups for name in group.parameters}


# --- what is scaled ---


@pytest.mark.parametrize(("more", "factor"), [({}, 4.0), ({"lr_batch_scaling": "sqrt"}, 2.0)])
def test_the_learning_rate_of_every_group_is_scaled_and_nothing_else(more: dict[str, str], factor: float) -> None:
    before, after = planned(rules=RULES), planned(rules=RULES, lr_batch_size=256, **more)
    assert len({*rates(before).values()}) == 4
    assert rates(after) == {name: pytest.approx(factor * rate, rel=1e-15) for name, rate in rates(before).items()}
    unscaled = [
        replace(group, hyperparameters={**group.hyperparameters, "lr": 0.0}) for plan in (before, after)
        for group in plan.groups
    ]  # fmt: skip
    assert unscaled[: len(before.groups)] == unscaled[len(before.groups) :]


def test_schedules_move_what_was_scaled() -> None:
    schedule = {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "20%", "final_factor": 0.1}}
    before, after = planned(schedule=schedule), planned(schedule=schedule, lr_batch_size=128)
    assert after.curve("default", "lr") == pytest.approx(8 * before.curve("default", "lr"), rel=1e-12)
    assert after.warnings == ()


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_factors_of_two_changes_of_the_batch_are_that_of_both(first: int, second: int, third: int) -> None:
    for way in ("linear", "sqrt"):
        both = LrScaling(first, way).factor(second) * LrScaling(second, way).factor(third)
        assert math.isclose(LrScaling(first, way).factor(third), both, rel_tol=1e-12)
    assert LrScaling(first).factor(second) == second / first


# --- what is told ---


def test_the_plan_shows_holds_and_compares_it() -> None:
    before, after = planned(), planned(lr_batch_size=256)
    assert "learning rates × 4: global batch 1,024 / lr_batch_size 256 (linear)" in str(after).splitlines()
    assert "learning rates" not in str(before)
    assert json.loads(after.to_json())["lr_scaling"] == {"batch_size": 256, "way": "linear"}
    assert "lr_scaling" not in json.loads(before.to_json())
    assert lo.Plan.from_json(after.to_json()) == after
    assert before.diff(after) == [
        "learning rates: scaled none → × 4: global batch 1,024 / lr_batch_size 256 (linear)",
        "default: lr 0.1 → 0.4",
    ]
    smaller = planned(replace(RUN, global_batch=512), lr_batch_size=256, lr_batch_scaling="sqrt")
    assert after.diff(smaller) == [
        "horizon: global_batch 1,024 → 512",
        "learning rates: scaled × 4: global batch 1,024 / lr_batch_size 256 (linear) → "
        "× 1.41421: global batch 512 / lr_batch_size 256 (sqrt)",
        "default: lr 0.4 → 0.141421",
    ]
    same = planned(replace(RUN, global_batch=256), lr_batch_size=256)
    assert rates(same) == rates(before)
    assert same.hash != planned(replace(RUN, global_batch=256)).hash


def test_explain_tells_it_of_a_parameter() -> None:
    recipe = lo.Recipe.from_config({"optimizer": SGD, "rules": RULES, "lr_batch_size": 256})
    lines = [line.split() for line in explain(MLP(4, (3, 3), 2), recipe, RUN, "layer.0.bias").splitlines()]
    told = "lr_batch_size = 256 stands: lr × 4: global batch 1,024 / lr_batch_size 256 (linear)"
    assert told.split() in lines
    assert ["lr", "=", "0.2", "optimizer.lr", "×", "rules.low.multiply.lr", "×", "lr_batch_size"] in lines


@pytest.mark.parametrize(
    ("schedule", "warns"),
    [
        ({"_target_": "lit_optim.schedules.Linear", "final_value": 0.01}, True),
        ({"_target_": "lit_optim.schedules.Milestones", "at": [10], "values": [0.01]}, True),
        ({"_target_": "lit_optim.schedules.Milestones", "at": [10], "factors": [0.5]}, False),
        ({"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.3}, False),
        ({"_target_": "lit_optim.schedules.Exponential", "rate": 0.9, "every": 7}, False),
    ],
)
def test_a_value_of_a_schedule_s_own_stays_and_is_warned_of(schedule: dict[str, Any], warns: bool) -> None:
    plan = planned(schedule={"lr": schedule}, lr_batch_size=256)
    told = (
        "schedule.lr: it takes lr to values of its own, which lr_batch_size (× 4) doesn't scale; final_factor in place "
        "of final_value, or factors in place of values, moves with the rest"
    )
    assert plan.warnings == (told,) * warns
    if warns:
        assert plan.curve("default", "lr")[-1] == pytest.approx(0.01, rel=0.5)
    assert planned(replace(RUN, global_batch=256), schedule={"lr": schedule}, lr_batch_size=256).warnings == ()


# --- what a recipe may say ---


def test_a_recipe_is_written_as_it_is_read() -> None:
    config = {"optimizer": SGD, "lr_batch_size": 256, "lr_batch_scaling": "sqrt"}
    recipe = lo.Recipe.from_config(config)
    assert recipe.lr_scaling == LrScaling(256, "sqrt")
    assert lo.Recipe.from_config(recipe.to_config()) == recipe


@pytest.mark.parametrize(
    "nothing", [{}, {"lr_batch_size": None, "lr_batch_scaling": "linear"}, {"lr_batch_scaling": None}]
)
def test_without_a_size_nothing_is_scaled(nothing: dict[str, Any]) -> None:
    recipe = lo.Recipe.from_config({"optimizer": SGD, **nothing})
    assert recipe.lr_scaling is None
    assert "lr_batch_size" not in recipe.to_config()


@pytest.mark.parametrize("size", [0, -256, True, 2.5, 256.0, "256", [256]])
def test_what_is_no_number_of_samples_is_refused(size: Any) -> None:
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config({"optimizer": SGD, "lr_batch_size": size})
    assert str(refused.value).splitlines() == [
        "lr_batch_size: this is no number of samples",
        f"    given:   {size!r}",
        "    allowed: an integer of at least 1, null to scale nothing",
        "    fix:     write the global batch that the learning rates were written for, for example 256",
    ]


def test_a_misspelt_way_is_refused_with_the_nearest() -> None:
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config({"optimizer": SGD, "lr_batch_size": 256, "lr_batch_scaling": "squrt"})
    assert str(refused.value).splitlines() == [
        "lr_batch_scaling: no such way of scaling",
        "    given:   'squrt'",
        "    allowed: linear, sqrt",
        "    nearest: sqrt",
        "    fix:     linear suits SGD, sqrt suits Adam and its kin",
    ]


@pytest.mark.parametrize("alone", [{"lr_batch_scaling": "linear"}, {"lr_batch_size": None, "lr_batch_scaling": "sqrt"}])
def test_a_way_without_a_size_is_refused(alone: dict[str, Any]) -> None:
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config({"optimizer": SGD, **alone})
    assert str(refused.value).splitlines() == [
        "lr_batch_scaling: there is nothing to scale by: no batch size is given that the learning rates were written "
        "for",
        f"    given:   {alone['lr_batch_scaling']!r}",
        "    fix:     set lr_batch_size as well, for example lr_batch_size=256",
    ]


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config({"lr_batch_size": 0, "lr_batch_scaling": 3, "lr_batch_sise": 1})
    keys = [mistake.key for mistake in refused.value.mistakes]
    assert keys == ["lr_batch_sise", "optimizer._target_", "lr_batch_size", "lr_batch_scaling"]
    assert refused.value.mistakes[0].nearest[0] == "lr_batch_size"


# --- where it can't be done ---


def test_a_batch_that_nobody_knows_is_refused_with_the_way_out() -> None:
    with pytest.raises(lo.PlanError) as refused:
        planned(replace(RUN, global_batch=None), lr_batch_size=256)
    assert str(refused.value).splitlines() == [
        "lr_batch_size: how large the batches of this run are, nobody knows (or gradient accumulation changes it)",
        "    given:   256",
        "    fix:     load data with a batch_size and keep trainer.accumulate_grad_batches the same all along (in "
        "Python: Horizon(…, global_batch=512)), or scale nothing (lr_batch_size=null)",
    ]


def test_where_no_group_has_a_learning_rate_there_is_nothing_to_scale() -> None:
    with pytest.raises(lo.PlanError) as refused:
        planned(optimizer={"_target_": f"{__name__}.Rateless"}, lr_batch_size=256)
    assert str(refused.value).splitlines() == [
        "lr_batch_size: no group has a learning rate to scale",
        "    fix:     leave it out (lr_batch_size=null)",
    ]
