"""The classes that a recipe names, and what is said for all of their groups."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

import lit_optim as lo
from lit_optim.classes import DEFAULT, Argument, Classes
from lit_optim.errors import Mistake

SAM = {"_target_": "pytorch_optimizer.SAM", "base_optimizer": "torch.optim.SGD", "lr": 0.1, "rho": 0.2}


def classes(optimizer: Any, **rules: Any) -> tuple[Classes, list[Mistake]]:
    mistakes: list[Mistake] = []
    found = {name: {"match": "*", "optimizer": node} for name, node in rules.items()}
    recipe = lo.Recipe.from_config({"optimizer": optimizer, "rules": found})
    return Classes(recipe, mistakes), mistakes


def lines(mistakes: list[Mistake]) -> list[str]:
    return str(lo.PlanError(*mistakes)).splitlines()


def test_traits_by_rule() -> None:
    found, mistakes = classes({"_target_": "torch.optim.SGD"}, a={"_target_": "torch.optim.Muon"}, b=SAM)
    assert not mistakes
    assert [traits.optimizer.__name__ for traits in found.traits.values()] == ["SGD", "Muon", "SAM"]
    assert [*found.traits] == [DEFAULT, "a", "b"]
    assert found.traits["b"].defaults.keys() >= {"rho", "adaptive", "lr", "momentum"}


def test_what_is_for_all_groups_is_told_from_hyperparameters() -> None:
    node = {"_target_": "pytorch_optimizer.AdaHessian", "lr": 0.1, "update_period": 2, "foreach": False}
    found, _ = classes(node)
    traits = found.traits[DEFAULT]
    said = {"update_period": Argument(2, "optimizer.update_period")}
    assert found.arguments(traits) in ({**said, "foreach": Argument(False, "optimizer.foreach")}, said)
    assert found.of_groups(DEFAULT, {"lr": 0.1, "update_period": 2, "foreach": False}) == {"lr": 0.1}


def test_lists_become_tuples() -> None:
    found, _ = classes({"_target_": "pytorch_optimizer.AdaFactor", "clip_threshold": [1.0]})
    assert found.arguments(found.traits[DEFAULT])["clip_threshold"].value == (1.0,)


def test_two_rules_of_one_class_say_the_same() -> None:
    one = {"_target_": "torch.optim.AdamW", "fused": True}
    _, mistakes = classes({"_target_": "torch.optim.SGD"}, a=one, b={**one, "fused": False})
    assert lines(mistakes) == [
        "rules.b.optimizer.fused: rules.a.optimizer.fused says True, and all groups of torch.optim.AdamW share it",
        "    given:   False",
        "    fix:     say the same, or say it once",
    ]
    assert not classes({"_target_": "torch.optim.SGD"}, a=one, b={"_target_": "torch.optim.AdamW"})[1]


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            {"_target_": "pytorch_optimizer.SAM"},
            [
                "optimizer.base_optimizer: pytorch_optimizer.SAM can't be constructed without 'base_optimizer'",
                "    fix:     name the class that it works around: optimizer.base_optimizer=torch.optim.AdamW",
            ],
        ),
        (
            {"_target_": "pytorch_optimizer.Ranger21"},
            [
                "optimizer.num_iterations: pytorch_optimizer.Ranger21 can't be constructed without 'num_iterations'",
                "    fix:     set optimizer.num_iterations",
            ],
        ),
        (
            {**SAM, "base_optimizer": "torch.optim.SDG"},
            [
                "optimizer.base_optimizer: torch.optim has no 'SDG'",
                "    given:   torch.optim.SDG",
                "    allowed: ASGD, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, LBFGS, Muon, NAdam, RAdam, "
                "RMSprop … (3 more)",
                "    nearest: SGD",
                "    fix:     correct the name",
            ],
        ),
        (
            {**SAM, "base_optimizer": "os.system"},
            [
                "optimizer.base_optimizer: os.system is not a torch Optimizer, so a config may not call it",
                "    given:   os.system",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
        ),
        (
            {"_target_": "pytorch_optimizer.LOMO"},
            [
                "optimizer._target_: pytorch_optimizer.LOMO needs a backward pass of its own (fused_backward), which "
                "automatic optimization never calls",
                "    given:   pytorch_optimizer.LOMO",
                "    fix:     choose another class",
            ],
        ),
        (
            {"_target_": "pytorch_optimizer.Ranger21", "num_iterations": "x"},
            [
                "optimizer._target_: pytorch_optimizer.Ranger21 can't be constructed: unsupported operand type(s) "
                "for /: 'int' and 'str'",
                "    given:   pytorch_optimizer.Ranger21",
                "    fix:     give it what it asks for, or choose another class",
            ],
        ),
    ],
)
def test_what_can_not_be_constructed_says_why(node: dict[str, Any], told: list[str]) -> None:
    found, mistakes = classes(node)
    assert lines(mistakes) == told
    assert found.traits == {}


def test_the_nearest_class_stands_in_for_a_misspelled_one() -> None:
    found, mistakes = classes({"_target_": "torch.optim.Adamm", "lr": 0.1})
    assert [mistake.key for mistake in mistakes] == ["optimizer._target_"]
    assert found.traits[DEFAULT].optimizer.__name__ == "Adam"


def test_an_optimizer_with_modes_is_not_put_inside_of_another() -> None:
    _, mistakes = classes({**SAM, "base_optimizer": "pytorch_optimizer.ScheduleFreeSGD"})
    assert lines(mistakes) == [
        "optimizer.base_optimizer: pytorch_optimizer.ScheduleFreeSGD has modes, which pytorch_optimizer.SAM doesn't "
        "switch",
        "    given:   pytorch_optimizer.ScheduleFreeSGD",
        "    fix:     let it work around another class",
    ]


@pytest.mark.parametrize("base", ["torch.optim.AdamW", "torch.optim.Adam", "pytorch_optimizer.Lion"])
@pytest.mark.parametrize("name", ["SAM", "WSAM", "LookSAM", "FriendlySAM"])
def test_any_class_may_be_the_base(name: str, base: str) -> None:
    node = {"_target_": f"pytorch_optimizer.{name}", "base_optimizer": base, "lr": 0.1, "betas": [0.8, 0.9]}
    recipe = lo.Recipe.from_config({"optimizer": node})
    model = nn.Linear(3, 2)
    optimizer, _ = lo.build(model, lo.make_plan(model, recipe, lo.Horizon(3)))
    assert optimizer.base_optimizer.param_groups[0]["betas"] == (0.8, 0.9)  # type: ignore[attr-defined]


class Demands(SGD):
    """A learning rate that can't be left out, as older classes have it."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.0) -> None:
        super().__init__(params, lr, momentum)


def test_a_hyperparameter_without_a_default_is_one_all_the_same() -> None:
    target = f"{__name__}.Demands"
    sys.modules.setdefault(__name__, sys.modules[Demands.__module__])
    rules = {
        "bias": {"match": "bias", "lr": 0.5},
        "weight": {"match": "weight", "optimizer": {"_target_": target}, "lr": 2},
    }
    model = nn.Linear(3, 2)
    recipe = lo.Recipe.from_config({"optimizer": {"_target_": target, "lr": 0.1}, "rules": rules})
    plan = lo.make_plan(model, recipe, lo.Horizon(3))
    assert {group.name: group.hyperparameters["lr"] for group in plan.groups} == {"weight": 2, "bias": 0.5}
    assert plan.arguments == {}
    optimizer, _ = lo.build(model, plan)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.5, 2]
    with pytest.raises(lo.PlanError, match=r"optimizer\.lr: .*Demands can't be constructed without 'lr'"):
        lo.make_plan(model, lo.Recipe.from_config({"optimizer": {"_target_": target}}), lo.Horizon(3))


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            {**SAM, "base_optimizer": "pytorch_optimizer.Lookahead"},
            "optimizer.base_optimizer: pytorch_optimizer.Lookahead works around another optimizer as "
            "pytorch_optimizer.SAM does",
        ),
        (
            {**SAM, "base_optimizer": None},
            "optimizer.base_optimizer: pytorch_optimizer.SAM can't be constructed without 'base_optimizer'",
        ),
        (
            {"_target_": "pytorch_optimizer.GSAM", "base_optimizer": "torch.optim.SGD", "rho_scheduler": 1},
            "optimizer._target_: pytorch_optimizer.GSAM can't be constructed: 'int' object has no attribute 'step'",
        ),
    ],
)
def test_what_an_optimizer_can_not_work_around(node: dict[str, Any], told: str) -> None:
    assert lines(classes(node)[1])[0] == told


def test_a_package_that_an_extra_brings_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    told = lines(classes({"_target_": "pytorch_optimizer.Lion"})[1])
    assert told[-1] == '    fix:     pip install "lit-optim[optimizers]"'
