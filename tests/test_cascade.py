from typing import Any

import pytest
import torch

import lit_optim as lo
from lit_optim.cascade import Cascade, Settled
from lit_optim.classes import tuples
from lit_optim.errors import Mistake

COSINE = {"_target_": "lit_optim.schedules.Cosine"}
LINEAR = {"_target_": "lit_optim.schedules.Linear"}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}


def settled(
    *rules: dict[str, Any], optimizer: dict[str, Any] | None = None, schedule: dict[str, Any] | None = None
) -> Settled:
    ends, mistakes = attempted(*rules, optimizer=optimizer, schedule=schedule)
    assert mistakes == []
    return ends


def attempted(
    *rules: dict[str, Any], optimizer: dict[str, Any] | None = None, schedule: dict[str, Any] | None = None
) -> tuple[Settled, list[Mistake]]:
    config = {
        "optimizer": optimizer or SGD,
        "rules": {f"r{index}": {"match": "*", **rule} for index, rule in enumerate(rules)},
        "schedule": schedule or {},
    }
    mistakes: list[Mistake] = []
    recipe = lo.Recipe.from_config(config)
    ends = Cascade(recipe, mistakes).settle(recipe.rules)
    assert ends is not None
    return ends, mistakes


def test_without_rules_it_is_the_top_over_the_class() -> None:
    ends = settled()
    assert ends.traits.optimizer is torch.optim.SGD
    assert ends.hyperparameters == {
        "lr": 0.1,
        "momentum": 0.9,
        "dampening": 0,
        "weight_decay": 0,
        "nesterov": False,
        "maximize": False,
    }
    assert ends.origins == {"lr": "optimizer.lr", "momentum": "optimizer.momentum"}
    assert ends.shaped_by == frozenset()


def test_a_later_rule_wins() -> None:
    ends = settled({"lr": 0.2, "momentum": 0.5}, {"lr": 0.3})
    assert (ends.hyperparameters["lr"], ends.hyperparameters["momentum"]) == (0.3, 0.5)
    assert ends.origins == {"lr": "rules.r1.lr", "momentum": "rules.r0.momentum"}
    assert ends.shaped_by == {"r0", "r1"}


def test_a_rule_that_is_wholly_overridden_had_no_say() -> None:
    assert settled({"lr": 0.2}, {"lr": 0.3}).shaped_by == {"r1"}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_factors_come_after_all_values_whatever_their_place(position: int) -> None:
    rules: list[dict[str, Any]] = [{"lr": 0.2}, {"lr": 0.4}]
    rules.insert(position, {"multiply": {"lr": 0.5}})
    assert settled(*rules).hyperparameters["lr"] == 0.2


def test_factors_of_all_rules_apply() -> None:
    ends = settled({"multiply": {"lr": 0.5}}, {"lr": 0.8, "multiply": {"lr": 0.25}})
    assert ends.hyperparameters["lr"] == 0.1
    assert ends.shaped_by == {"r0", "r1"}


def test_a_rule_changes_the_class_and_nothing_of_the_top_crosses() -> None:
    ends = settled({"optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.3}})
    assert ends.traits.optimizer is torch.optim.AdamW
    assert (ends.hyperparameters["lr"], ends.hyperparameters["weight_decay"]) == (1e-3, 0.3)
    assert "momentum" not in ends.hyperparameters
    assert ends.origins == {"weight_decay": "rules.r0.optimizer.weight_decay"}


def test_the_last_class_wins() -> None:
    ends = settled(
        {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.5}}, {"optimizer": {"_target_": "torch.optim.RMSprop"}}
    )
    assert ends.traits.optimizer is torch.optim.RMSprop
    assert ends.hyperparameters["lr"] == 0.5


def test_a_default_that_follows_another_value_follows_it() -> None:
    lbfgs = {"_target_": "torch.optim.LBFGS", "max_iter": 4}
    assert settled(optimizer=lbfgs).hyperparameters["max_eval"] == 5
    assert settled({"max_iter": 40}, optimizer=lbfgs).hyperparameters["max_eval"] == 50
    assert settled({"max_eval": 7}, optimizer=lbfgs).hyperparameters["max_eval"] == 7


def test_the_same_class_keeps_the_top() -> None:
    ends = settled({"optimizer": {"_target_": "torch.optim.sgd.SGD", "lr": 0.5}})
    assert (ends.hyperparameters["lr"], ends.hyperparameters["momentum"]) == (0.5, 0.9)


def test_a_value_for_the_class_that_another_rule_chose() -> None:
    ends = settled({"betas": [0.8, 0.9]}, {"optimizer": {"_target_": "torch.optim.AdamW"}})
    assert ends.hyperparameters["betas"] == (0.8, 0.9)
    _, mistakes = attempted({"betas": [0.8, 0.9]})
    assert [mistake.key for mistake in mistakes] == ["rules.r0.betas"]


def test_schedules_of_the_top_reach_who_has_the_hyperparameter() -> None:
    both = {"lr": COSINE, "betas1": LINEAR}
    ends = settled(schedule=both)
    assert ends.schedules == {"lr": COSINE}
    assert ends.schedule_origins == {"lr": "schedule.lr"}
    assert ends.shaped_by == frozenset()


def test_a_rules_schedule_replaces_adds_and_removes() -> None:
    top = {"lr": COSINE, "momentum": COSINE}
    ends = settled({"schedule": {"lr": LINEAR, "momentum": None, "weight_decay": LINEAR}}, schedule=top)
    assert ends.schedules == {"lr": LINEAR, "weight_decay": LINEAR}
    assert ends.schedule_origins["lr"] == "rules.r0.schedule.lr"
    assert ends.shaped_by == {"r0"}
    assert settled({"schedule": {"lr": None}}, {"schedule": {"lr": LINEAR}}).schedules == {"lr": LINEAR}
    assert settled({"schedule": {"lr": LINEAR}}, {"schedule": {"lr": None}}).schedules == {}


def test_mistakes_do_not_stop_it() -> None:
    ends, mistakes = attempted(
        {"lr": -1, "momentum": 0.5, "multiply": {"x": 2, "nesterov": 2}}, {"momentm": 1, "schedule": {"y": COSINE}}
    )
    assert [mistake.key for mistake in mistakes] == [
        "rules.r0.lr",
        "rules.r1.momentm",
        "rules.r0.multiply.x",
        "rules.r0.multiply.nesterov",
        "rules.r1.schedule.y",
    ]
    assert (ends.hyperparameters["lr"], ends.hyperparameters["momentum"]) == (0.1, 0.5)


@pytest.mark.parametrize(
    ("rules", "wrong"),
    [
        (({"nesterov": True, "lr": -1},), ["rules.r0.lr"]),
        (({"nesterov": True}, {"momentum": 0.5}), []),
        (({"nesterov": True, "dampening": 0.1},), ["rules.r0.nesterov"]),
        (({"momentum": -1, "nesterov": True},), ["rules.r0.momentum"]),
    ],
)
def test_values_that_need_each_other_are_asked_for_together(
    rules: tuple[dict[str, Any], ...], wrong: list[str]
) -> None:
    _, mistakes = attempted(*rules)
    assert [mistake.key for mistake in mistakes] == wrong


def test_a_class_that_can_not_be_used_is_told_and_left_out() -> None:
    ends, mistakes = attempted({"optimizer": {"_target_": "torch.optim.AdmW"}}, {"lr": 0.3})
    assert [mistake.key for mistake in mistakes] == ["rules.r0.optimizer._target_"]
    assert ends.hyperparameters["lr"] == 0.3


@pytest.mark.parametrize(
    ("rule", "same"),
    [({"lr": 0.1}, True), ({"multiply": {"lr": 1}}, True), ({"lr": 0.2}, False), ({"schedule": {"lr": COSINE}}, False)],
)
def test_what_can_share_a_group(rule: dict[str, Any], same: bool) -> None:
    assert (settled(rule).identity == settled().identity) is same


def test_another_class_is_not_the_same_but_another_spelling_of_a_number_is() -> None:
    adam, adamw = (
        {"optimizer": {"_target_": f"torch.optim.{name}", "weight_decay": 0.01}} for name in ("Adam", "AdamW")
    )
    assert settled(adam).identity != settled(adamw).identity
    assert settled({"lr": 1}).identity == settled({"lr": 1.0}).identity
    assert settled({"maximize": True}).identity != settled({"maximize": False}).identity


def test_lists_become_tuples_all_the_way_down() -> None:
    assert tuples({"a": [1, [2, {"b": [3]}]], "c": "xy"}) == {"a": (1, (2, {"b": (3,)})), "c": "xy"}


# --- clipping ---


def test_the_last_word_on_a_norm_stands() -> None:
    ends = settled({"clip_norm": 1.0}, {"clip_norm": 0.5})
    assert ends.clip_norm == 0.5
    assert ends.clip is not None
    assert ends.clip.key == "rules.r1"
    assert ends.shaped_by == {"r1"}


def test_infinity_takes_a_norm_back() -> None:
    ends = settled({"clip_norm": 1.0}, {"clip_norm": float("inf")})
    assert ends.clip_norm is None
    assert ends.identity == settled().identity


def test_a_norm_sets_groups_apart() -> None:
    assert settled({"clip_norm": 1}).identity == settled({"clip_norm": 1.0}).identity != settled().identity


def test_infinity_alone_shapes_nothing() -> None:
    assert settled({"clip_norm": float("inf")}).shaped_by == frozenset()
    assert settled({"clip_norm": 1.0}, {"clip_norm": float("inf")}).shaped_by == {"r1"}


def test_a_norm_at_the_top_belongs_in_a_rule() -> None:
    _, mistakes = attempted(optimizer={**SGD, "clip_norm": 1.0})
    assert [mistake.remedy for mistake in mistakes] == ["write it in a rule: rules.NAME.clip_norm"]
