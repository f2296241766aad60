import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

import lit_optim as lo
from lit_optim.grouping import _unique
from lit_optim.models import MLP

RUN = lo.Horizon(total_steps=1000, steps_per_epoch=100)


def sgd(arguments: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    return {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, **(arguments or {})}, **parts}


def adamw(arguments: dict[str, Any] | None = None, **parts: Any) -> dict[str, Any]:
    return {"optimizer": {"_target_": "torch.optim.AdamW", **(arguments or {})}, **parts}


def rule(**parts: Any) -> dict[str, Any]:
    return {"a": {"match": "layer.0", **parts}}


def scheduled(hyperparameter: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {hyperparameter: {"_target_": f"lit_optim.schedules.{name}", **arguments}}


def planned(config: dict[str, Any], model: nn.Module | None = None, horizon: lo.Horizon = RUN) -> lo.Plan:
    return lo.make_plan(MLP(4, (3, 3), 2) if model is None else model, lo.Recipe.from_config(config), horizon)


DESIGN = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.05},
    "rules": {
        "no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0},
        "backbone": {"match": "layer.[02]", "multiply": {"lr": 0.1}},
        "head": {"match": "layer.4", "lr": 1e-2},
    },
    "schedule": {
        **scheduled("lr", "WarmupCosine", warmup="5%", final_factor=0.0),
        **scheduled("weight_decay", "Linear", final_value=0.2),
    },
}


def test_the_recipe_of_the_design_gives_these_groups() -> None:
    plan = planned(DESIGN, MLP(784, (300, 200), 10))
    found = [
        (
            group.name,
            group.rules,
            group.hyperparameters["lr"],
            group.hyperparameters["weight_decay"],
            group.parameters,
            group.numel,
        )
        for group in plan.groups
    ]
    assert found == [
        ("backbone", ("backbone",), 1e-4, 0.05, ("layer.0.weight", "layer.2.weight"), 784 * 300 + 300 * 200),
        ("backbone.no_decay", ("no_decay", "backbone"), 1e-4, 0.0, ("layer.0.bias", "layer.2.bias"), 500),
        ("head", ("head",), 1e-2, 0.05, ("layer.4.weight",), 2000),
        ("head.no_decay", ("no_decay", "head"), 1e-2, 0.0, ("layer.4.bias",), 10),
    ]
    assert {group.optimizer for group in plan.groups} == {"torch.optim.AdamW"}
    assert all(group.schedules == DESIGN["schedule"] for group in plan.groups)
    assert all(
        group.hyperparameters
        == {
            "lr": group.hyperparameters["lr"],
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": group.hyperparameters["weight_decay"],
            "amsgrad": False,
            "maximize": False,
            "decoupled_weight_decay": True,
        }
        for group in plan.groups
    )
    assert plan.rules == {
        "no_decay": ("backbone.no_decay", "head.no_decay"),
        "backbone": ("backbone", "backbone.no_decay"),
        "head": ("head", "head.no_decay"),
    }
    assert plan.numel == 784 * 300 + 300 * 200 + 2000 + 510
    assert plan.horizon == RUN


def test_the_class_is_named_in_its_shortest_form() -> None:
    long = {"optimizer": {"_target_": "torch.optim.adamw.AdamW"}}
    assert planned(long).groups[0].optimizer == "torch.optim.AdamW"
    assert planned(long).hash == planned(adamw()).hash


def test_equal_settings_become_one_group() -> None:
    config = sgd(rules={"a": {"match": "layer.0", "lr": 0.2}, "b": {"match": "layer.4", "multiply": {"lr": 2.0}}})
    plan = planned(config)
    assert [(group.name, group.rules, len(group.parameters)) for group in plan.groups] == [
        ("a.b", ("a", "b"), 4),
        ("default", (), 2),
    ]
    assert plan.rules == {"a": ("a.b",), "b": ("a.b",)}
    assert plan.groups[0].parameters == ("layer.0.weight", "layer.0.bias", "layer.4.weight", "layer.4.bias")


def test_other_schedules_make_another_group() -> None:
    config = sgd(schedule=scheduled("lr", "Cosine"), rules=rule(schedule={"lr": None}))
    assert [(group.name, dict(group.schedules)) for group in planned(config).groups] == [
        ("a", {}),
        ("default", scheduled("lr", "Cosine")),
    ]


def test_names_of_groups_are_unique() -> None:
    two_shapes = sgd(
        rules={
            "a": {"match": "layer.0", "lr": 0.2},
            "b": {"match": "layer.2", "lr": 0.2},
            "both": {"match": ["layer.0.bias", "layer.2.weight"], "momentum": 0.5},
        }
    )
    names = [group.name for group in planned(two_shapes).groups]
    assert len({*names}) == len(names)


def test_a_name_that_is_taken_gets_the_first_free_number() -> None:
    taken: list[str] = []
    for _ in range(4):
        taken.append(_unique("a.b", taken))
    assert taken == ["a.b", "a.b.2", "a.b.3", "a.b.4"]


def test_a_removed_rule_leaves_no_trace() -> None:
    without = planned(sgd())
    assert planned(sgd(rules={"a": None})).to_json() == without.to_json()


def test_a_tied_parameter_stands_once() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(7, 3), "head": nn.Linear(3, 7)})
    model["head"].weight = model["embed"].weight
    plan = planned(sgd(rules={"a": {"match": "head", "lr": 0.2}}), model)
    assert [(group.name, group.parameters, group.numel) for group in plan.groups] == [
        ("a", ("embed.weight", "head.bias"), 28)
    ]
    assert plan.tied == {"head.weight": "embed.weight"}


def test_the_frozen_are_listed_and_not_planned() -> None:
    model = MLP(4, (3, 3), 2)
    model.layer[0].requires_grad_(False)
    plan = planned(sgd(), model)
    assert plan.frozen == ("layer.0.weight", "layer.0.bias")
    assert plan.frozen_numel == 15
    assert plan.groups[0].parameters == ("layer.2.weight", "layer.2.bias", "layer.4.weight", "layer.4.bias")


def test_planning_changes_nothing() -> None:
    torch.manual_seed(0)
    model = MLP(4, (3, 3), 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = repr(DESIGN)
    random_state = torch.get_rng_state()
    planned(DESIGN, model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert repr(DESIGN) == config
    assert torch.equal(random_state, torch.get_rng_state())


def test_execution_is_kept_apart_and_outside_of_the_hash() -> None:
    plan = planned(sgd({"fused": False, "foreach": True}))
    assert plan.execution == {"torch.optim.SGD": {"fused": False, "foreach": True}}
    assert not {"fused", "foreach"} & plan.groups[0].hyperparameters.keys()
    assert plan.hash == planned(sgd()).hash


@pytest.mark.parametrize(
    "config",
    [
        sgd({"nesterov": True, "momentum": 0.9}),
        sgd({"nesterov": True, "momentum": 0.9}, rules={"all": {"match": "*", "momentum": 0.8}}),
        sgd({"momentum": 0.9}, rules=rule(nesterov=True)),
        sgd(rules=rule(nesterov=True, momentum=0.9)),
        sgd(rules={"all": {"match": "*", "nesterov": True}, "after": {"match": "*", "momentum": 0.9}}),
        adamw({"betas": [0.0, 0.5], "eps": 1}),
        adamw(
            rules={"all": {"match": "*", "optimizer": {"_target_": "torch.optim.SGD"}}, "b": rule(momentum=0.9)["a"]}
        ),
        sgd(schedule=scheduled("momentum", "Linear", final_value=0.5)),
        sgd(rules={"a": {"match": "*", "schedule": scheduled("lr", "Cosine")}}),
        {"optimizer": {"_target_": "torch.optim.LBFGS"}},
    ],
    ids=repr,
)
def test_what_the_class_takes_is_planned_without_a_word(config: dict[str, Any]) -> None:
    assert planned(config).warnings == ()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        pytest.param(
            {"optimizer": {"_target_": "os.system"}},
            [
                "optimizer._target_: os.system is not a torch Optimizer, so a config may not call it",
                "    given:   os.system",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
            id="target os.system",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.load"}},
            [
                "optimizer._target_: torch.load is not a torch Optimizer, so a config may not call it",
                "    given:   torch.load",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
            id="target torch.load",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim.SGD.step"}},
            [
                "optimizer._target_: torch.optim.SGD.step is not a torch Optimizer, so a config may not call it",
                "    given:   torch.optim.SGD.step",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
            id="target torch.optim.SGD.step",
        ),
        pytest.param(
            {"optimizer": {"_target_": "functools.partial"}},
            [
                "optimizer._target_: functools.partial is not a torch Optimizer, so a config may not call it",
                "    given:   functools.partial",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
            id="target functools.partial",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim.AdmaW"}},
            [
                "optimizer._target_: torch.optim has no 'AdmaW'",
                "    given:   torch.optim.AdmaW",
                "    allowed: "
                "ASGD, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, LBFGS, Muon, NAdam, RAdam, "
                "RMSprop … (3 more)",
                "    nearest: AdamW, Adamax, Adam",
                "    fix:     correct the name",
            ],
            id="target torch.optim.AdmaW",
        ),
        pytest.param(
            {"optimizer": {"_target_": "nopackage.SGD"}},
            [
                "optimizer._target_: there is no module 'nopackage'",
                "    given:   nopackage.SGD",
                "    fix:     install it, or start in the folder that holds it; a name starts with its package",
            ],
            id="target nopackage.SGD",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim"}},
            [
                "optimizer._target_: torch.optim is not a torch Optimizer, so a config may not call it",
                "    given:   torch.optim",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
            id="target torch.optim",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch optim"}},
            [
                "optimizer._target_: the dotted name of a class is needed",
                "    given:   'torch optim'",
                "    fix:     name a torch Optimizer",
            ],
            id="target torch optim",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim.Optimizer"}},
            [
                "optimizer.defaults: torch.optim.Optimizer can't be constructed without 'defaults'",
                "    fix:     set optimizer.defaults",
            ],
            id="target torch.optim.Optimizer",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim.lr_scheduler.StepLR"}},
            [
                "optimizer._target_: torch.optim.lr_scheduler.StepLR is not a torch Optimizer, so a config "
                "may not call it",
                "    given:   torch.optim.lr_scheduler.StepLR",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
            id="target torch.optim.lr_scheduler.StepLR",
        ),
        pytest.param(
            sgd(rules=rule(optimizer={"_target_": "torch.optim.SDG"})),
            [
                "rules.a.optimizer._target_: torch.optim has no 'SDG'",
                "    given:   torch.optim.SDG",
                "    allowed: "
                "ASGD, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, LBFGS, Muon, NAdam, RAdam, "
                "RMSprop … (3 more)",
                "    nearest: SGD",
                "    fix:     correct the name",
            ],
            id="target in a rule",
        ),
        pytest.param(
            sgd({"wieght_decay": 0.1}),
            [
                "optimizer.wieght_decay: torch.optim.SGD has no hyperparameter 'wieght_decay'",
                "    given:   0.1",
                "    allowed: lr, momentum, dampening, weight_decay, nesterov, maximize",
                "    nearest: weight_decay",
                "    fix:     correct the name or remove it",
            ],
            id="misspelled",
        ),
        pytest.param(
            sgd(rules=rule(wieght_decay=0.1)),
            [
                "rules.a.wieght_decay: torch.optim.SGD has no hyperparameter 'wieght_decay'",
                "    given:   0.1",
                "    allowed: lr, momentum, dampening, weight_decay, nesterov, maximize",
                "    nearest: weight_decay",
                "    fix:     correct the name or remove it",
            ],
            id="misspelled in a rule",
        ),
        pytest.param(
            sgd(rules=rule(multiply={"lrr": 0.1})),
            [
                "rules.a.multiply.lrr: torch.optim.SGD has no hyperparameter 'lrr'",
                "    given:   0.1",
                "    allowed: lr, momentum, dampening, weight_decay, nesterov, maximize",
                "    nearest: lr",
                "    fix:     correct the name or remove it",
            ],
            id="misspelled in multiply",
        ),
        pytest.param(
            sgd(rules=rule(fused=True)),
            [
                "rules.a.fused: 'fused' is for all groups of torch.optim.SGD at once",
                "    given:   True",
                "    allowed: lr, momentum, dampening, weight_decay, nesterov, maximize",
                "    fix:     write it under the optimizer that names the class",
            ],
            id="fused in a rule",
        ),
        pytest.param(
            sgd({"lr": -1.0}),
            [
                "optimizer.lr: torch.optim.SGD refuses this: Invalid learning rate: -1.0",
                "    given:   -1.0",
                "    fix:     correct the value",
            ],
            id="negative",
        ),
        pytest.param(
            sgd({"lr": "abc"}),
            [
                "optimizer.lr: torch.optim.SGD refuses this: a number is needed",
                "    given:   'abc'",
                "    fix:     correct the value",
            ],
            id="text",
        ),
        pytest.param(
            sgd({"lr": "1e-3"}),
            [
                "optimizer.lr: torch.optim.SGD refuses this: a number is needed",
                "    given:   '1e-3'",
                "    fix:     drop the quotes, and write 1.0e-3 for 1e-3",
            ],
            id="number as text",
        ),
        pytest.param(
            sgd({"lr": math.nan}),
            [
                "optimizer.lr: torch.optim.SGD refuses this: a finite number is needed",
                "    given:   nan",
                "    fix:     correct the value",
            ],
            id="nan",
        ),
        pytest.param(
            sgd({"lr": math.inf}),
            [
                "optimizer.lr: torch.optim.SGD refuses this: a finite number is needed",
                "    given:   inf",
                "    fix:     correct the value",
            ],
            id="infinite",
        ),
        pytest.param(
            sgd({"lr": True}),
            [
                "optimizer.lr: torch.optim.SGD refuses this: a number is needed",
                "    given:   True",
                "    fix:     correct the value",
            ],
            id="truth",
        ),
        pytest.param(
            sgd({"nesterov": 1, "momentum": 0.9}),
            [
                "optimizer.nesterov: torch.optim.SGD refuses this: true or false is needed",
                "    given:   1",
                "    fix:     correct the value",
            ],
            id="number for truth",
        ),
        pytest.param(
            sgd({"lr": None}),
            [
                "optimizer.lr: torch.optim.SGD refuses this: a number is needed",
                "    given:   None",
                "    fix:     correct the value",
            ],
            id="null",
        ),
        pytest.param(
            adamw({"betas": [0.9]}),
            [
                "optimizer.betas: torch.optim.AdamW refuses this: a list of 2 is needed",
                "    given:   [0.9]",
                "    fix:     correct the value",
            ],
            id="one of two betas",
        ),
        pytest.param(
            adamw({"betas": 0.9}),
            [
                "optimizer.betas: torch.optim.AdamW refuses this: a list of 2 is needed",
                "    given:   0.9",
                "    fix:     correct the value",
            ],
            id="a number for betas",
        ),
        pytest.param(
            adamw({"betas": [0.9, 1.5]}),
            [
                "optimizer.betas: torch.optim.AdamW refuses this: Invalid beta parameter at index 1: 1.5",
                "    given:   [0.9, 1.5]",
                "    fix:     correct the value",
            ],
            id="betas out of range",
        ),
        pytest.param(
            adamw({"betas": [0.9, "x"]}),
            [
                "optimizer.betas: torch.optim.AdamW refuses this: a number is needed",
                "    given:   [0.9, 'x']",
                "    fix:     correct the value",
            ],
            id="text among betas",
        ),
        pytest.param(
            sgd(rules=rule(lr=-1)),
            [
                "rules.a.lr: torch.optim.SGD refuses this: Invalid learning rate: -1",
                "    given:   -1",
                "    fix:     correct the value",
            ],
            id="negative in a rule",
        ),
        pytest.param(
            sgd(rules=rule(multiply={"lr": -1})),
            [
                "rules.a.multiply.lr: torch.optim.SGD refuses 0.1 × -1: Invalid learning rate: -0.1",
                "    given:   -1",
                "    fix:     correct the factor",
            ],
            id="negative factor",
        ),
        pytest.param(
            sgd(rules=rule(multiply={"lr": math.nan})),
            [
                "rules.a.multiply.lr: torch.optim.SGD refuses 0.1 × nan: a finite number is needed",
                "    given:   nan",
                "    fix:     correct the factor",
            ],
            id="factor nan",
        ),
        pytest.param(
            sgd(rules=rule(multiply={"nesterov": 2})),
            [
                "rules.a.multiply.nesterov: nesterov is not one number here",
                "    given:   False",
                "    fix:     set it in the rule instead",
            ],
            id="multiplied truth",
        ),
        pytest.param(
            adamw(rules=rule(multiply={"betas": 2})),
            [
                "rules.a.multiply.betas: betas is not one number here",
                "    given:   (0.9, 0.999)",
                "    fix:     set it in the rule instead",
            ],
            id="multiplied pair",
        ),
        pytest.param(
            sgd({"nesterov": True}),
            [
                "optimizer.nesterov: torch.optim.SGD refuses this: Nesterov momentum requires a momentum "
                "and zero dampening",
                "    given:   True",
                "    fix:     correct the value",
            ],
            id="nesterov alone",
        ),
        pytest.param(
            sgd({"nesterov": True, "momentum": 0.9}, rules=rule(momentum=0.0)),
            [
                "rules.a.momentum: torch.optim.SGD refuses this for layer.0.weight, layer.0.bias: Nesterov "
                "momentum requires a momentum and zero dampening",
                "    given:   optimizer.lr=0.1, optimizer.nesterov=True, rules.a.momentum=0.0",
                "    fix:     change the values, or what the rules match",
            ],
            id="together refused",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim.RMSprop", "fused": True}},
            [
                "optimizer.fused: torch.optim.RMSprop has no argument 'fused'",
                "    given:   True",
                "    allowed: foreach, capturable, differentiable",
                "    fix:     remove it",
            ],
            id="fused where there is none",
        ),
        pytest.param(
            sgd({"fused": True, "foreach": True}),
            [
                "optimizer: torch.optim.SGD refuses this: `fused` and `foreach` cannot be `True` together.",
                "    given:   fused=True, foreach=True",
                "    fix:     keep one of fused, foreach",
            ],
            id="fused and foreach",
        ),
        pytest.param(
            sgd({"fused": "yes"}),
            [
                "optimizer.fused: true or false is needed",
                "    given:   'yes'",
                "    fix:     correct it",
            ],
            id="fused as text",
        ),
        pytest.param(
            sgd(schedule=scheduled("betas1", "Cosine")),
            [
                "schedule.betas1: torch.optim.SGD has no hyperparameter 'betas1'",
                "    given:   'lit_optim.schedules.Cosine'",
                "    allowed: lr, momentum, dampening, weight_decay",
                "    fix:     correct the name or remove it",
            ],
            id="schedule of nothing",
        ),
        pytest.param(
            sgd(rules=rule(schedule=scheduled("momentun", "Cosine"))),
            [
                "rules.a.schedule.momentun: torch.optim.SGD has no hyperparameter 'momentun'",
                "    given:   'lit_optim.schedules.Cosine'",
                "    allowed: lr, momentum, dampening, weight_decay",
                "    nearest: momentum",
                "    fix:     correct the name or remove it",
            ],
            id="schedule of nothing in a rule",
        ),
        pytest.param(
            adamw(schedule=scheduled("betas", "Cosine")),
            [
                "schedule.betas: betas is not one number, so it can't be scheduled",
                "    given:   (0.9, 0.999)",
                "    allowed: betas.0, betas.1",
                "    fix:     schedule one of its numbers (betas.0)",
            ],
            id="schedule of a pair",
        ),
        pytest.param(
            sgd(schedule=scheduled("nesterov", "Cosine")),
            [
                "schedule.nesterov: nesterov is not one number, so it can't be scheduled",
                "    given:   False",
                "    fix:     schedule a number",
            ],
            id="schedule of truth",
        ),
        pytest.param(
            sgd(schedule=scheduled("lr", "WarmupCosine", warm_up="5%")),
            [
                "schedule.lr.warm_up: lit_optim.schedules.WarmupCosine has no argument 'warm_up'",
                "    given:   '5%'",
                "    allowed: final_factor, final_value, duration, warmup, start_factor",
                "    nearest: warmup",
                "    fix:     rename or remove it",
            ],
            id="schedule's argument",
        ),
        pytest.param(
            sgd(schedule=scheduled("lr", "Cosin")),
            [
                "schedule.lr._target_: lit_optim.schedules has no 'Cosin'",
                "    given:   lit_optim.schedules.Cosin",
                "    allowed: Constant, Cosine, CosineRestarts, Exponential, InverseSquareRoot, Joined, Linear, "
                "Milestones, OneCycle, Piecewise, Plateau, Polynomial … (3 more)",
                "    nearest: Cosine",
                "    fix:     correct the name",
            ],
            id="schedule's class",
        ),
        pytest.param(
            sgd(schedule=scheduled("lr", "Schedule")),
            [
                "schedule.lr._target_: lit_optim.schedules.Schedule doesn't implement curve",
                "    given:   lit_optim.schedules.Schedule",
                "    fix:     name a subclass that implements it, or implement it",
            ],
            id="schedule's base",
        ),
        pytest.param(
            sgd(schedule={"lr": {"_target_": "torch.optim.SGD"}}),
            [
                "schedule.lr._target_: torch.optim.SGD is not a lit_optim Schedule or torch LRScheduler, so a config "
                "may not call it",
                "    given:   torch.optim.SGD",
                "    fix:     name a class of that kind; a function or a method is never called from a config",
            ],
            id="schedule of another kind",
        ),
        pytest.param(
            sgd(schedule=scheduled("lr", "WarmupCosine", warmup="4000epochs")),
            [
                "schedule.lr.warmup: '4000epochs' is 400000 steps, past the end of a run of 1000",
                "    given:   '4000epochs'",
                "    allowed: 0% to 100%, 0 to 1000 steps",
                "    fix:     shorten it, write it as a percentage, or lengthen the run (trainer.max_epochs)",
            ],
            id="warm-up longer than the run",
        ),
        pytest.param(
            sgd(rules=rule(schedule=scheduled("lr", "Milestones", at=[1]))),
            [
                "rules.a.schedule.lr.values: either `values` or `factors` is needed, not neither",
                "    fix:     values: [0.01, 0.001] re-assigns, factors: [0.1, 0.01] keeps the ratios between groups",
            ],
            id="milestones",
        ),
        pytest.param(
            sgd(schedule=scheduled("lr", "Linear", final_value=-0.1)),
            [
                "schedule.lr: it takes lr to -0.0998, which torch.optim.SGD refuses: Invalid learning rate: -0.0998",
                "    given:   from 0.1",
                "    fix:     change where the schedule goes",
            ],
            id="schedule to below zero",
        ),
        pytest.param(
            adamw({"eps": 1.0}, rules=rule(schedule=scheduled("eps", "Linear", final_value=-1))),
            [
                "rules.a.schedule.eps: it takes eps to -0.998, which torch.optim.AdamW refuses: Invalid "
                "epsilon value: -0.998",
                "    given:   from 1",
                "    fix:     change where the schedule goes",
            ],
            id="schedule in a rule out of range",
        ),
        pytest.param(
            sgd(schedule=scheduled("lr", "Exponential", rate=1e300, every=1)),
            [
                "schedule.lr: it can't be evaluated: OverflowError: (34, 'Numerical result out of range')",
                "    given:   {'_target_': 'lit_optim.schedules.Exponential', 'rate': 1e+300, 'every': 1}",
                "    fix:     mend its arguments, or what its curve() returns: a function of the step",
            ],
            id="schedule that overflows",
        ),
        pytest.param(
            adamw(rules={"a": {"match": "^layer.0", "optimizer": {"_target_": "torch.optim.LBFGS"}}}),
            [
                "rules: torch.optim.LBFGS evaluates the model several times a step, so it can't share a run with "
                "torch.optim.AdamW",
                "    given:   torch.optim.LBFGS",
                "    fix:     give every parameter to torch.optim.LBFGS, or none",
            ],
            id="a closure beside another class",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim.LBFGS"}, "rules": rule(lr=0.1)},
            [
                "rules: torch.optim.LBFGS holds one param group, this recipe makes 2: LBFGS doesn't support"
                " per-parameter options (parameter groups)",
                "    fix:     remove the rules (rules=none), or choose another class",
            ],
            id="several groups of LBFGS",
        ),
        pytest.param(
            {"optimizer": {"_target_": "torch.optim.Muon"}},
            [
                "optimizer: torch.optim.Muon takes matrices alone, and here it gets layer.0.bias, layer.2.bias",
                "    given:   layer.0.bias [3], layer.2.bias [3]",
                "    allowed: parameters with ndim 2",
                "    fix:     choose it in a rule with match {module: linear, ndim: 2, not: {module: [embedding, "
                "head]}}, and another class, such as torch.optim.AdamW, under optimizer",
            ],
            id="a matrix optimizer on vectors",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "layr.0", "lr": 0.1}}),
            [
                "rules.a.match: no parameter matches",
                "    given:   'layr.0'",
                "    allowed: layer.0, layer.2, layer.4, layer.0.weight, layer.0.bias, layer.2.weight, layer.2.bias, "
                "layer.4.weight, layer.4.bias",
                "    nearest: layer.0, layer.4, layer.2",
                "    fix:     correct the match, or remove the rule (rules.a=null)",
            ],
            id="nothing matches",
        ),
        pytest.param(
            sgd(rules={"a": {"match": {"ndim": 7}, "lr": 0.1}}),
            [
                "rules.a.match: no parameter is all that this asks for",
                "    given:   {'ndim': 7}",
                "    fix:     correct the match, or remove the rule (rules.a=null)",
            ],
            id="nothing matches a mapping",
        ),
        pytest.param(
            sgd(rules={"a": {"match": "layer.4", "lr": 0.1}}),
            [
                "rules.a.match: only frozen parameters match (requires_grad=False)",
                "    given:   'layer.4'",
                "    allowed: layer.0.weight, layer.0.bias, layer.2.weight, layer.2.bias",
                "    fix:     correct the match, or remove the rule (rules.a=null)",
            ],
            id="only the frozen match",
        ),
        pytest.param(
            sgd(
                {"lr": -1, "wd": 3},
                rules={
                    "a": {"match": "nope", "lrr": 0.1},
                    "b": {"match": "layer.0", "momentm": 1, "multiply": {"weight_decay": -1}},
                },
                schedule={**scheduled("foo", "Cosine"), **scheduled("lr", "Linear", duration="200%")},
            ),
            [
                "rules.a.match: no parameter matches",
                "    given:   'nope'",
                "    allowed: layer.0, layer.2, layer.4, layer.0.weight, layer.0.bias, layer.2.weight, layer.2.bias, "
                "layer.4.weight, layer.4.bias",
                "    fix:     correct the match, or remove the rule (rules.a=null)",
                "optimizer.lr: torch.optim.SGD refuses this: Invalid learning rate: -1",
                "    given:   -1",
                "    fix:     correct the value",
                "optimizer.wd: torch.optim.SGD has no hyperparameter 'wd'",
                "    given:   3",
                "    allowed: lr, momentum, dampening, weight_decay, nesterov, maximize",
                "    nearest: weight_decay",
                "    fix:     correct the name or remove it",
                "rules.b.momentm: torch.optim.SGD has no hyperparameter 'momentm'",
                "    given:   1",
                "    allowed: lr, momentum, dampening, weight_decay, nesterov, maximize",
                "    nearest: momentum",
                "    fix:     correct the name or remove it",
                "rules.a.lrr: torch.optim.SGD has no hyperparameter 'lrr'",
                "    given:   0.1",
                "    allowed: lr, momentum, dampening, weight_decay, nesterov, maximize",
                "    nearest: lr",
                "    fix:     correct the name or remove it",
                "schedule.lr.duration: '200%' is 2000 steps, past the end of a run of 1000",
                "    given:   '200%'",
                "    allowed: 0% to 100%, 0 to 1000 steps",
                "    fix:     shorten it, write it as a percentage, or lengthen the run (trainer.max_epochs)",
                "schedule.foo: torch.optim.SGD has no hyperparameter 'foo'",
                "    given:   'lit_optim.schedules.Cosine'",
                "    allowed: lr, momentum, dampening, weight_decay",
                "    fix:     correct the name or remove it",
            ],
            id="all at once",
        ),
    ],
)
def test_a_refusal_reads_like_this(config: dict[str, Any], text: list[str]) -> None:
    model = MLP(4, (3, 3), 2)
    model.layer[4].requires_grad_(False)
    with pytest.raises(lo.PlanError) as refused:
        planned(config, model)
    assert str(refused.value).splitlines() == text


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (nn.ReLU(), ["model: nothing to train: the model has no parameters"]),
        (
            MLP(2, (), 2).requires_grad_(False),
            ["model: nothing to train: every parameter is frozen (requires_grad=False)"],
        ),
    ],
)
def test_nothing_to_train_is_refused(model: nn.Module, text: list[str]) -> None:
    with pytest.raises(lo.PlanError) as refused:
        planned(sgd(), model)
    assert str(refused.value).splitlines() == [*text, "    fix:     give a model with trainable parameters"]


def test_a_lazy_module_is_refused() -> None:
    with pytest.raises(lo.PlanError) as refused:
        planned(sgd(rules={"a": {"match": {"module": "Linear"}, "lr": 1}}), nn.Sequential(nn.LazyLinear(3)))
    assert str(refused.value).splitlines() == [
        "model: 0.weight has no shape yet (a lazy module)",
        "    fix:     run one batch through the model before it is planned",
        "model: 0.bias has no shape yet (a lazy module)",
        "    fix:     run one batch through the model before it is planned",
    ]


@pytest.mark.parametrize(
    ("schedule", "horizon", "text"),
    [
        (
            scheduled("lr", "WarmupCosine", warmup="2epochs"),
            lo.Horizon(1000),
            [
                "schedule.lr.warmup: '2epochs' can't be measured: nobody knows how long an epoch is",
                "    given:   '2epochs'",
                "    fix:     write it in steps, or set trainer.limit_train_batches to a number of batches",
            ],
        ),
        (
            scheduled("lr", "Linear"),
            lo.Horizon(-1),
            [
                "schedule.lr.duration: '100%' can't be measured: nobody knows how long the run is",
                "    given:   '100%'",
                "    fix:     set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too",
            ],
        ),
        (
            scheduled("lr", "WarmupCosine", warmup=10),
            lo.Horizon(math.inf),
            [
                "schedule.lr.duration: '100%' can't be measured: nobody knows how long the run is",
                "    given:   '100%'",
                "    fix:     set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too",
            ],
        ),
    ],
)
def test_what_this_run_can_not_measure_is_refused(
    schedule: dict[str, Any], horizon: lo.Horizon, text: list[str]
) -> None:
    with pytest.raises(lo.PlanError) as refused:
        planned(sgd(schedule=schedule), horizon=horizon)
    assert str(refused.value).splitlines() == text


def test_a_run_without_an_end_is_planned_where_nothing_depends_on_it() -> None:
    plan = planned(sgd(schedule=scheduled("lr", "Linear", duration=10)), horizon=lo.Horizon(-1))
    assert not plan.horizon.is_bounded


def test_a_schedule_that_lifts_a_zero_that_a_rule_sets_is_named() -> None:
    no_decay = {"no_decay": {"match": "*.bias", "weight_decay": 0.0}}
    rising = scheduled("weight_decay", "Linear", final_value=0.2)
    assert planned(adamw(rules=no_decay, schedule=rising)).warnings == (
        "schedule.weight_decay: it takes weight_decay of layer.0.bias, layer.2.bias, layer.4.bias from the 0 that "
        "rules.no_decay.weight_decay sets to 0.1998; final_factor in place of final_value, or a schedule of null in "
        "the rule, keeps it 0",
    )
    no_decay["no_decay"]["schedule"] = {"weight_decay": None}
    assert planned(adamw(rules=no_decay, schedule=rising)).warnings == ()
    assert planned(sgd(schedule=scheduled("momentum", "Linear", final_value=0.9))).warnings == ()


# --- laws, over random models and rules ---

ACTS = {"lr": 0.3, "momentum": 0.5, "weight_decay": 0.01}
matches = st.sampled_from(
    ["*", "*.bias", "*.weight", "0", "1", "^0.weight", {"ndim": 1}, {"numel": ">6"}, {"module": "Linear", "not": "0"}]
)
effects = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.sampled_from([0.1, 0.2, 0.3]),
        "momentum": st.sampled_from([0.0, 0.5]),
        "weight_decay": st.sampled_from([0, 0.01]),
        "multiply": st.dictionaries(st.sampled_from(sorted(ACTS)), st.sampled_from([0.5, 1.0, 2.0]), min_size=1),
        "schedule": st.dictionaries(
            st.sampled_from(sorted(ACTS)),
            st.sampled_from([None, *scheduled("lr", "Cosine").values(), *scheduled("lr", "Linear").values()]),
            min_size=1,
        ),
    },
).filter(bool)


@st.composite
def models(draw: st.DrawFn) -> nn.Module:
    widths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    model = nn.Sequential(
        *(nn.Linear(a, b, bias=draw(st.booleans())) for a, b in pairwise(widths)),
        nn.LayerNorm(widths[-1]),
    )
    if draw(st.booleans()):
        model.append(model[draw(st.integers(0, len(model) - 1))])  # tied
    for parameter in model.parameters():
        parameter.requires_grad_(draw(st.sampled_from([True, True, True, False])))
    return model


@st.composite
def plans(draw: st.DrawFn) -> tuple[nn.Module, dict[str, Any], lo.Plan]:
    model = draw(models())
    bodies = draw(st.lists(st.tuples(matches, effects), max_size=4))
    config = sgd(
        rules={f"r{index}": {"match": match, **effect} for index, (match, effect) in enumerate(bodies)},
        schedule=draw(st.sampled_from([{}, scheduled("lr", "WarmupCosine")])),
    )
    try:
        return model, config, planned(config, model)
    except lo.PlanError as error:
        if not all(m.key == "model" or ".match" in m.key for m in error.mistakes):
            raise
        reject()


@given(plans())
def test_groups_partition_the_trainable_parameters(made: tuple[nn.Module, dict[str, Any], lo.Plan]) -> None:
    model, _, plan = made
    held = [name for group in plan.groups for name in group.parameters]
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(held) == sorted(trainable)
    assert sorted(plan.frozen) == sorted({name for name, _ in model.named_parameters()} - {*held})
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert [group.numel for group in plan.groups] == [
        sum(sizes[name] for name in group.parameters) for group in plan.groups
    ]
    assert plan.numel + plan.frozen_numel == sum(sizes.values())
    assert [trainable.index(group.parameters[0]) for group in plan.groups] == sorted(
        trainable.index(group.parameters[0]) for group in plan.groups
    )
    assert all(list(group.parameters) == sorted(group.parameters, key=trainable.index) for group in plan.groups)


@given(plans())
def test_groups_differ_and_have_names_of_their_own(made: tuple[nn.Module, dict[str, Any], lo.Plan]) -> None:
    plan = made[2]
    settings = [repr((sorted(g.hyperparameters.items()), sorted(g.schedules.items()))) for g in plan.groups]
    assert len({*settings}) == len(settings)
    names = [group.name for group in plan.groups]
    assert len({*names}) == len(names)
    assert all(group in names for groups in plan.rules.values() for group in groups)


@given(plans())
def test_the_json_form_holds_the_whole_plan(made: tuple[nn.Module, dict[str, Any], lo.Plan]) -> None:
    model, config, plan = made
    again = lo.Plan.from_json(plan.to_json())
    assert again == plan
    assert again.hash == plan.hash
    assert again.to_json() == plan.to_json()
    assert plan.diff(again) == []
    assert planned(config, model).to_json() == plan.to_json()


@given(plans())
def test_what_is_built_is_what_was_planned(made: tuple[nn.Module, dict[str, Any], lo.Plan]) -> None:
    model, _, plan = made
    optimizer, _ = lo.build(model, plan)
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    for group, real in zip(plan.groups, optimizer.param_groups, strict=True):
        assert tuple(by_id[id(parameter)] for parameter in real["params"]) == group.parameters
        for name, value in group.hyperparameters.items():
            assert real[name] == (plan.bound(group)[name](0) if name in group.schedules else value)


@given(plans(), plans())
def test_two_plans_have_one_hash_just_where_nothing_differs(
    one: tuple[nn.Module, dict[str, Any], lo.Plan], other: tuple[nn.Module, dict[str, Any], lo.Plan]
) -> None:
    assert (one[2].diff(other[2]) == []) == (one[2].hash == other[2].hash)


def test_a_recipe_may_be_given_as_a_mapping() -> None:
    model = MLP(4, (3, 3), 2)
    assert lo.make_plan(model, sgd(), lo.Horizon(10)) == lo.make_plan(
        model, lo.Recipe.from_config(sgd()), lo.Horizon(10)
    )
