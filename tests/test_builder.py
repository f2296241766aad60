import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

import lit_optim as lo
from lit_optim.models import MLP

RUN = lo.Horizon(total_steps=100, steps_per_epoch=10)


def made(config: dict[str, Any], model: nn.Module | None = None) -> tuple[torch.optim.Optimizer, LRScheduler, lo.Plan]:
    model = MLP(4, (3,), 2) if model is None else model
    plan = lo.make_plan(model, lo.Recipe.from_config(config), RUN)
    return *lo.build(model, plan), plan


def recipe(name: str, rules: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    return {"optimizer": {"_target_": f"torch.optim.{name}", **values}, "rules": rules or {}}


MATRICES_AND_MORE = [
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam", "RAdam", "RMSprop",
    "Rprop", "SGD",
]  # fmt: skip


@pytest.mark.parametrize("name", MATRICES_AND_MORE)
def test_it_is_of_the_very_class(name: str) -> None:
    optimizer, scheduler, _ = made(recipe(name, lr=0.1))
    assert type(optimizer) is getattr(torch.optim, name)
    assert isinstance(scheduler, LRScheduler)
    assert scheduler.optimizer is optimizer
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_matrix_optimizer_on_matrices() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False))
    muon = {"_target_": "torch.optim.Muon", "lr": 0.1}
    config = {"rules": {"a": {"match": ["0", "1"], "optimizer": muon}}}  # named: one of them is the output head
    optimizer, _, _ = made(config, model)
    assert type(optimizer) is torch.optim.Muon
    assert optimizer.param_groups[0]["ns_coefficients"] == (3.4445, -4.775, 2.0315)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad"])
def test_the_fused_kernel_is_chosen_where_there_is_one(name: str) -> None:
    optimizer, _, plan = made(recipe(name))
    assert optimizer.defaults["fused"] is True
    assert all(group["fused"] is True for group in optimizer.param_groups)
    assert optimizer._step_supports_amp_scaling is False  # type: ignore[attr-defined]
    assert plan.execution == {f"torch.optim.{name}": {"fused": True}}


def test_and_not_where_there_is_none() -> None:
    optimizer, _, _ = made(recipe("RMSprop"))
    assert "fused" not in optimizer.defaults
    assert not hasattr(optimizer, "_step_supports_amp_scaling")


def test_nor_for_parameters_that_it_does_not_take() -> None:
    model = nn.ParameterList([torch.zeros(2, dtype=torch.complex64)])
    assert not made(recipe("AdamW"), model)[0].defaults["fused"]


@pytest.mark.parametrize(
    ("said", "fused", "foreach"),
    [
        ({"fused": False}, False, None),
        ({"foreach": True}, None, True),
        ({"foreach": False}, None, False),
        ({"fused": True}, True, None),
        ({"fused": False, "foreach": True}, False, True),
        ({"differentiable": True}, None, None),
    ],
)
def test_what_the_user_says_of_execution_holds(said: dict[str, Any], fused: bool | None, foreach: bool | None) -> None:
    optimizer, _, plan = made(recipe("AdamW", **said))
    assert plan.execution == {"torch.optim.AdamW": said}
    for where in (optimizer.defaults, optimizer.param_groups[0]):
        assert (where["fused"], where["foreach"]) == (fused, foreach)
        assert where["differentiable"] is said.get("differentiable", False)
    assert hasattr(optimizer, "_step_supports_amp_scaling") is bool(fused)


RULES = {
    "bias": {"match": "*.bias", "lr": 0.5, "weight_decay": 0.0},
    "top": {"match": "layer.2", "multiply": {"lr": 3.0}},
}


def test_groups_carry_names_and_values_in_the_order_of_the_plan() -> None:
    model = MLP(4, (3,), 2)
    optimizer, _, plan = made(recipe("AdamW", RULES, lr=0.1), model)
    tensors = dict(model.named_parameters())
    assert [group["name"] for group in optimizer.param_groups] == ["default", "bias", "top", "bias.top"]
    assert [tuple(group["param_names"]) for group in optimizer.param_groups] == [g.parameters for g in plan.groups]
    for real, planned in zip(optimizer.param_groups, plan.groups, strict=True):
        assert all(p is tensors[name] for p, name in zip(real["params"], planned.parameters, strict=True))
        assert {name: real[name] for name in planned.hyperparameters} == planned.hyperparameters
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5, 0.1 * 3.0, 0.5 * 3.0]


def test_defaults_hold_every_hyperparameter_and_are_true_of_the_first_group() -> None:
    optimizer, _, plan = made(recipe("AdamW", RULES, lr=0.1, betas=[0.8, 0.9]))
    assert {name: optimizer.defaults[name] for name in plan.groups[0].hyperparameters} == plan.groups[0].hyperparameters


def test_values_that_need_each_other_may_differ_by_group() -> None:
    rules = {"a": {"match": "layer.0", "momentum": 0.5}}
    optimizer, _, _ = made(recipe("SGD", rules, nesterov=True, momentum=0.9))
    assert [(group["nesterov"], group["momentum"]) for group in optimizer.param_groups] == [(True, 0.5), (True, 0.9)]


def test_it_is_built_from_the_json_form_too() -> None:
    model = MLP(4, (3,), 2)
    config = {
        **recipe("AdamW", RULES, betas=[0.8, 0.9]),
        "schedule": {"lr": {"_target_": "lit_optim.schedules.Milestones", "at": [1, "5%"], "factors": [0.5, 0.1]}},
    }
    optimizer, _, plan = made(config, model)
    again, scheduler = lo.build(model, lo.Plan.from_json(plan.to_json()))
    assert again.state_dict() == optimizer.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler.step()
    assert again.param_groups[0]["lr"] == 0.5 * optimizer.param_groups[0]["lr"]


def test_a_tied_parameter_is_given_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    optimizer, _, _ = made(recipe("SGD"), model)
    assert [name for group in optimizer.param_groups for name in group["param_names"]] == [
        "0.weight",
        "0.bias",
        "1.bias",
    ]


def test_a_wrapped_model_is_the_same_model() -> None:
    model = MLP(4, (3,), 2)
    plan = lo.make_plan(model, lo.Recipe.from_config(recipe("SGD")), RUN)
    optimizer, _ = lo.build(nn.DataParallel(model), plan)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model.parameters()]


def frozen_first() -> nn.Module:
    model = MLP(4, (3,), 2)
    model.layer[0].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("model", "problem", "given"),
    [
        (MLP(4, (3, 3), 2), "trainable, but not in the plan", "layer.4.bias, layer.4.weight"),
        (MLP(4, (), 2), "planned, but not trainable parameters of this model", "layer.2.bias, layer.2.weight"),
        (frozen_first(), "planned, but not trainable parameters of this model", "layer.0.bias, layer.0.weight"),
        (
            MLP(4, (3,) * 5, 2),
            "trainable, but not in the plan",
            "layer.10.bias, layer.10.weight, layer.4.bias, layer.4.weight, layer.6.bias, layer.6.weight and 2 more",
        ),
    ],
)
def test_another_model_is_refused(model: nn.Module, problem: str, given: str) -> None:
    plan = lo.make_plan(MLP(4, (3,), 2), lo.Recipe.from_config(recipe("SGD")), RUN)
    with pytest.raises(lo.PlanError) as refused:
        lo.build(model, plan)
    assert str(refused.value).splitlines() == [
        f"model: {problem}",
        f"    given:   {given}",
        "    fix:     plan the model that you build for, as it is now",
    ]


def test_a_plan_can_not_call_what_a_recipe_can_not() -> None:
    model = MLP(4, (3,), 2)
    plan = lo.make_plan(model, lo.Recipe.from_config(recipe("SGD")), RUN)
    with pytest.raises(lo.PlanError, match="its hash is"):
        lo.Plan.from_json(plan.to_json().replace("torch.optim.SGD", "os.system"))
    forged = replace(plan, groups=tuple(replace(group, optimizer="os.system") for group in plan.groups))
    with pytest.raises(lo.ConfigError, match=r"os\.system is not a torch Optimizer, so a config may not call it"):
        lo.build(model, forged)


@pytest.mark.parametrize(("sparse", "fused"), [(True, False), (False, True)])
def test_no_fused_kernel_where_gradients_are_sparse(sparse: bool, fused: bool) -> None:
    model = nn.EmbeddingBag(8, 3, sparse=sparse)
    recipe = lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}})
    optimizer, scheduler = lo.build(model, lo.make_plan(model, recipe, lo.Horizon(2)))
    assert bool(optimizer.defaults["fused"]) is fused
    model(torch.tensor([[1, 2]])).sum().backward()
    optimizer.step()
    scheduler.step()


def test_capturable_steps_need_a_device_that_captures() -> None:
    model = nn.Linear(2, 1)
    recipe = lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.Adam", "capturable": True}})
    with pytest.raises(lo.PlanError, match=r"optimizer\.capturable: there is nothing to capture on the CPU"):
        lo.make_plan(model, recipe, lo.Horizon(2))


def test_loaded_execution_choices_give_way_to_the_plan_s() -> None:
    model = nn.Linear(2, 1)
    recipe = lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.Adam", "fused": False}})
    plan = lo.make_plan(model, recipe, lo.Horizon(2))
    optimizer, scheduler = lo.build(model, plan)
    state = optimizer.state_dict()
    state["param_groups"][0].update(fused=True, name="another")
    optimizer.load_state_dict(state)
    scheduler.load_state_dict({"last_epoch": 1})
    assert optimizer.param_groups[0]["fused"] is False
    assert optimizer.param_groups[0]["name"] == "default"
