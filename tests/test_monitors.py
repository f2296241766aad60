from __future__ import annotations

from types import SimpleNamespace

import pytest
from torch import nn

import lit_optim as lo
from lit_optim.models import MLP
from lit_optim.monitors import monitors_in, never_logged
from lit_optim.names import dotted_name
from lit_optim.schedules.plateau import Plateau

PLATEAU = {"_target_": dotted_name(Plateau), "monitor": "val/los"}
COSINE = {"_target_": "lit_optim.schedules.Cosine"}
RECIPE = lo.Recipe.from_config(
    {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
        "rules": {
            "head": {"match": "layer.2", "schedule": {"lr": {**PLATEAU, "monitor": "test/acc"}, "momentum": None}}
        },
        "schedule": {"lr": PLATEAU, "weight_decay": COSINE},
    }
)


def test_what_the_schedules_of_a_recipe_follow() -> None:
    assert monitors_in(RECIPE) == {"schedule.lr.monitor": "val/los", "rules.head.schedule.lr.monitor": "test/acc"}


def test_a_module_that_says_what_it_logs_is_held_to_it() -> None:
    module = SimpleNamespace(logged=("val/loss", "val/acc", "test/acc"))
    assert [mistake.key for mistake in never_logged(module, {"a": "val/loss", "b": "test/acc", "c": "x"})] == ["b", "c"]
    assert never_logged(nn.Linear(1, 1), {"a": "x"}) == []


def test_the_plan_refuses_a_metric_that_never_comes() -> None:
    module = lo.LitClassifier(MLP(4, (3,), 2), RECIPE)
    with pytest.raises(lo.PlanError) as refused:
        lo.make_plan(module, RECIPE, lo.Horizon(10))
    assert str(refused.value).splitlines() == [
        "schedule.lr.monitor: LitClassifier never logs this while it trains",
        "    given:   'val/los'",
        "    allowed: val/loss, val/acc",
        "    nearest: val/loss",
        "    fix:     monitor one of these",
        "rules.head.schedule.lr.monitor: LitClassifier never logs this while it trains",
        "    given:   'test/acc'",
        "    allowed: val/loss, val/acc",
        "    fix:     monitor one of these",
    ]
    assert len(lo.make_plan(MLP(4, (3,), 2), RECIPE, lo.Horizon(10)).groups) == 2
