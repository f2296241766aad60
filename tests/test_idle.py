"""Rules, or settings of a rule, that have no effect are told, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lit_optim as lo
from lit_optim.models import MLP

RUN = lo.Horizon(total_steps=100, steps_per_epoch=10)
ADAMW: dict[str, Any] = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.1}
COSINE = {"_target_": "lit_optim.schedules.Cosine"}


def planned(rules: dict[str, Any], **parts: Any) -> lo.Plan:
    return lo.make_plan(MLP(4, (3, 3), 2), {"optimizer": ADAMW, "rules": rules, **parts}, RUN)


def overridden(name: str) -> str:
    why = "later rules override all that it sets"
    return f"rules.{name}: it changes nothing, since {why}; remove it (rules.{name}=null), or move it down"


def repeated(name: str) -> str:
    why = "all that it sets stands without it"
    return f"rules.{name}: it changes nothing, since {why}; remove it (rules.{name}=null), or correct what it sets"


@pytest.mark.parametrize(
    "says",
    [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.1},
        {"betas": [0.9, 0.999]},  # the class's own default
        {"multiply": {"lr": 1.0}},
        {"lr": 0.2, "multiply": {"lr": 0.5}},
        {"layer_decay": 1.0},
        {"optimizer": ADAMW},
        {"schedule": {"lr": COSINE}},
        {"schedule": {"weight_decay": None}},
        {"freeze": False},
        {"freeze_until": 0},
        {"clip_norm": float("inf")},
        {"amsgrad": False, "lr": 0.1},
    ],
)
def test_a_rule_that_sets_what_stands_without_it_is_told(says: dict[str, Any]) -> None:
    plan = planned({"a": {"match": "layer.0", **says}}, schedule={"lr": COSINE})
    assert plan.warnings == (repeated("a"),)


@pytest.mark.parametrize(
    "says",
    [
        {"lr": 0.2},
        {"lr": 0.1, "weight_decay": 0.2},
        {"multiply": {"lr": 0.5}},
        {"layer_decay": 0.5},
        {"optimizer": {**ADAMW, "_target_": "torch.optim.Adam"}},
        {"optimizer": {**ADAMW, "fused": False}},  # of all groups of the class
        {"schedule": {"lr": None}},
        {"schedule": {"weight_decay": COSINE}},
        {"freeze_until": 5},
        {"freeze": True},
        {"clip_norm": 1.0},
        {"weight_decay": 0.0},
    ],
)
def test_a_rule_that_changes_something_is_not(says: dict[str, Any]) -> None:
    assert planned({"a": {"match": "layer.0", **says}}, schedule={"lr": COSINE}).warnings == ()


def test_a_rule_that_switches_off_what_is_off_is_a_guard() -> None:
    without = {"_target_": "torch.optim.SGD", "lr": 0.1}
    no_decay = {"match": {"ndim": "<=1"}, "weight_decay": 0.0}
    assert planned({"no_decay": no_decay}, optimizer=without).warnings == ()
    assert planned({"a": {**no_decay, "multiply": {"lr": 1.0}}}, optimizer=without).warnings == (repeated("a"),)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"a": {"match": "layer.0", "lr": 0.2}, "b": {"match": "layer", "lr": 0.3}}, [overridden("a")]),
        ({"a": {"match": "layer.0", "lr": 0.2}, "b": {"match": "layer.0", "lr": 0.2}}, [overridden("a")]),
        ({"a": {"match": "layer", "lr": 0.2}, "b": {"match": "layer.0", "lr": 0.2}}, [repeated("b")]),
        ({"a": {"match": "layer", "lr": 0.2}, "back": {"match": "layer.0", "lr": 0.1}}, []),
        ({"a": {"match": "layer.0", "multiply": {"lr": 2.0}}, "b": {"match": "layer.0", "multiply": {"lr": 0.5}}}, []),
    ],
)
def test_of_rules_that_say_the_same_all_that_are_told_can_go_together(rules: dict[str, Any], told: list[str]) -> None:
    assert [*planned(rules).warnings] == told


CHANGES = st.fixed_dictionaries(
    {"match": st.sampled_from(["layer.0", "layer.2", "*.bias", "layer.[02]"])},
    optional={
        "lr": st.sampled_from([0.1, 0.2]),
        "weight_decay": st.sampled_from([0.1, 0.2]),
        "multiply": st.fixed_dictionaries({"lr": st.sampled_from([1.0, 3.0])}),
        "freeze_until": st.sampled_from([0, 5]),
    },
).filter(lambda rule: len(rule) > 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=4))
def test_without_the_rules_that_are_told_every_parameter_trains_as_with_them(rules: list[dict[str, Any]]) -> None:
    def trained(plan: lo.Plan) -> dict[str, Any]:
        return {name: (one.hyperparameters, one.freeze_until) for one in plan.groups for name in one.parameters}

    named = {f"r{number}": rule for number, rule in enumerate(rules)}
    whole = planned(named)
    told = {warning.partition(":")[0].removeprefix("rules.") for warning in whole.warnings if "nothing" in warning}
    fewer = planned({name: rule for name, rule in named.items() if name not in told})
    assert trained(fewer) == trained(whole)
    assert fewer.warnings == ()


# --- beside freeze: true ---


def test_what_stands_beside_a_freeze_that_holds_is_told() -> None:
    rule = {"match": "layer.0", "freeze": True, "lr": 0.2, "multiply": {"weight_decay": 0.5}}
    assert planned({"a": rule}).warnings == (
        "rules.a.freeze: it freezes all that the rule matches, so lr, multiply beside it change nothing; remove what "
        "stands beside it, or freeze for a time (freeze_until)",
    )
    assert planned({"a": {"match": "layer.0", "freeze": True, "lr": 0.2}}).warnings[0].partition("; ")[0] == (
        "rules.a.freeze: it freezes all that the rule matches, so lr beside it changes nothing"
    )


def test_beside_a_freeze_that_a_later_rule_takes_back_the_rest_counts() -> None:
    rules = {"a": {"match": "layer", "freeze": True, "lr": 0.2}, "b": {"match": "layer.4", "freeze": False}}
    plan = planned(rules)
    assert plan.warnings == ()
    assert [group.hyperparameters["lr"] for group in plan.groups] == [0.2]
