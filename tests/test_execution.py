"""How each class computes its steps, and what it is constructed with for all of its groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import lit_optim as lo
from lit_optim.models import MLP

RUN = lo.Horizon(10)
HIDDEN = {"match": {"module": "linear", "ndim": 2, "not": {"module": "head"}}}
MUON = {"_target_": "torch.optim.Muon", "lr": 0.02}


def planned(optimizer: Any, model: nn.Module | None = None, **rules: Any) -> lo.Plan:
    return lo.make_plan(
        model or MLP(4, (3, 3), 2), lo.Recipe.from_config({"optimizer": optimizer, "rules": rules}), RUN
    )


def refused(*args: Any, **rules: Any) -> list[str]:
    with pytest.raises(lo.PlanError) as error:
        planned(*args, **rules)
    return str(error.value).splitlines()


def test_every_class_that_can_be_is_fused_and_the_plan_says_so() -> None:
    plan = planned({"_target_": "torch.optim.AdamW"}, hidden={**HIDDEN, "optimizer": MUON})
    assert plan.execution == {"torch.optim.AdamW": {"fused": True}}
    assert "execution: AdamW fused True" in str(plan)
    optimizer, _ = lo.build(model := MLP(4, (3, 3), 2), plan)
    assert [child.defaults.get("fused") for child in optimizer.optimizers.values()] == [None, True]  # type: ignore[attr-defined]
    assert model.layer[0].weight.requires_grad


def test_what_the_top_says_of_execution_is_its_own_class_s() -> None:
    sgd = {"_target_": "torch.optim.SGD", "lr": 0.1}
    plan = planned({"_target_": "torch.optim.AdamW", "fused": False}, hidden={**HIDDEN, "optimizer": sgd})
    assert plan.execution == {"torch.optim.AdamW": {"fused": False}, "torch.optim.SGD": {"fused": True}}


def test_a_rule_says_it_for_its_class() -> None:
    sgd = {"_target_": "torch.optim.SGD", "lr": 0.1, "foreach": True}
    plan = planned({"_target_": "torch.optim.AdamW"}, hidden={**HIDDEN, "optimizer": sgd})
    assert plan.execution == {"torch.optim.SGD": {"foreach": True}, "torch.optim.AdamW": {"fused": True}}
    assert (
        plan.hash
        == planned({"_target_": "torch.optim.AdamW"}, hidden={**HIDDEN, "optimizer": {**sgd, "foreach": False}}).hash
    )


def test_no_kernel_takes_sparse_gradients() -> None:
    model = nn.Sequential(nn.Embedding(4, 3, sparse=True), nn.Linear(3, 2))
    plan = planned({"_target_": "torch.optim.SGD"}, model)
    assert plan.execution == {}
    assert planned({"_target_": "torch.optim.SGD"}, nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2))).execution


def test_what_a_class_is_made_with_is_part_of_the_plan() -> None:
    sam = {"_target_": "pytorch_optimizer.SAM", "base_optimizer": "torch.optim.SGD", "lr": 0.1}
    plan = planned(sam)
    assert plan.arguments == {"pytorch_optimizer.SAM": {"base_optimizer": "torch.optim.SGD"}}
    assert "made with: base_optimizer torch.optim.SGD" in str(plan)
    other = planned({**sam, "base_optimizer": "torch.optim.Adam"})
    assert plan.hash != other.hash
    assert "pytorch_optimizer.SAM: base_optimizer torch.optim.SGD → torch.optim.Adam" in plan.diff(other)
    assert lo.Plan.from_json(plan.to_json()) == plan


def test_it_reaches_the_optimizer() -> None:
    node = {"_target_": "pytorch_optimizer.AdaHessian", "update_period": 3, "num_samples": 2}
    optimizer, _ = lo.build(MLP(4, (3, 3), 2), planned(node))
    assert (optimizer.update_period, optimizer.num_samples) == (3, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            {"_target_": "pytorch_optimizer.Lookahead", "optimizer": "torch.optim.SGD", "k": 0},
            ["optimizer.k: pytorch_optimizer.Lookahead refuses this: k must be positive",
             "    given:   0", "    fix:     correct the value"],
        ),
        (
            {"_target_": "pytorch_optimizer.AdaHessian", "update_period": "often"},
            ["optimizer.update_period: pytorch_optimizer.AdaHessian refuses this: a number is needed",
             "    given:   'often'", "    fix:     correct the value"],
        ),
        (
            {"_target_": "torch.optim.RMSprop", "fused": True},
            ["optimizer.fused: torch.optim.RMSprop has no argument 'fused'", "    given:   True",
             "    allowed: foreach, capturable, differentiable", "    fix:     remove it"],
        ),
        (
            {"_target_": "torch.optim.AdamW", "fused": "yes"},
            ["optimizer.fused: true or false is needed", "    given:   'yes'", "    fix:     correct it"],
        ),
        (
            {"_target_": "torch.optim.AdamW", "fused": True, "foreach": True},
            ["optimizer: torch.optim.AdamW refuses this: `fused` and `foreach` cannot be `True` together.",
             "    given:   fused=True, foreach=True", "    fix:     keep one of fused, foreach"],
        ),
        (
            {"_target_": "torch.optim.AdamW", "capturable": True},
            ["optimizer.capturable: there is nothing to capture on the CPU", "    given:   True",
             "    fix:     remove it, or train on a device that captures steps (trainer=gpu)"],
        ),
    ],
)  # fmt: skip
def test_what_would_fail_when_it_is_built_is_refused(node: dict[str, Any], told: list[str]) -> None:
    assert refused(node, nn.Linear(3, 2, bias=False))[: len(told)] == told


def test_arguments_that_fit_only_together_are_taken() -> None:
    node = {"_target_": "pytorch_optimizer.AdamMini", "num_embeds": 8, "num_heads": 2}
    assert planned(node).arguments == {"pytorch_optimizer.AdamMini": {"num_embeds": 8, "num_heads": 2}}
    assert refused({**node, "num_heads": 3})[0].startswith("optimizer.num_embeds: pytorch_optimizer.AdamMini refuses")


SPARSE = nn.Sequential(nn.Embedding(4, 3, sparse=True), nn.Linear(3, 2))
SPARSE_ADAM = {"match": {"module": "embedding"}, "optimizer": {"_target_": "torch.optim.SparseAdam"}}


def test_gradients_go_to_a_class_that_takes_them() -> None:
    adamw = {"_target_": "torch.optim.AdamW"}
    assert len(planned(adamw, SPARSE, table=SPARSE_ADAM).groups) == 2
    assert refused(adamw, SPARSE)[0] == (
        "optimizer: torch.optim.AdamW takes no sparse gradients, and 0.weight has them (sparse=True)"
    )
    assert refused({"_target_": "torch.optim.SparseAdam"})[0] == (
        "optimizer: torch.optim.SparseAdam takes sparse gradients alone, and here it gets layer.0.weight, "
        "layer.0.bias, layer.2.weight and 3 more"
    )
    assert refused(adamw, SPARSE, table={**SPARSE_ADAM, "clip_norm": 1.0})[0] == (
        "rules.table.clip_norm: sparse gradients can't be clipped, and 0.weight has them (sparse=True)"
    )


@pytest.mark.parametrize(
    ("child", "why"),
    [
        ({"_target_": "torch.optim.LBFGS"}, "torch.optim.LBFGS evaluates the model several times a step"),
        (
            {"_target_": "pytorch_optimizer.Lookahead", "optimizer": "torch.optim.SGD"},
            "pytorch_optimizer.Lookahead steps an optimizer inside of it",
        ),
        (
            {"_target_": "pytorch_optimizer.AdamMini"},
            "pytorch_optimizer.AdamMini makes its param groups itself, from the whole model",
        ),
    ],
)
def test_what_can_only_run_alone_is_refused_by_name(child: dict[str, Any], why: str) -> None:
    told = refused({"_target_": "torch.optim.SGD"}, hidden={**HIDDEN, "optimizer": child})
    assert told[0] == f"rules: {why}, so it can't share a run with torch.optim.SGD"


def test_groups_of_a_class_that_makes_its_own_are_refused() -> None:
    told = refused({"_target_": "pytorch_optimizer.AdamMini"}, bias={"match": "*.bias", "lr": 0.5})
    assert told[0] == (
        "rules: pytorch_optimizer.AdamMini holds one param group, this recipe makes 2: it makes its param groups "
        "itself, from the model"
    )


def test_a_switch_that_every_group_says() -> None:
    muon = {"_target_": "pytorch_optimizer.Muon", "lr": 1e-3}
    assert refused(muon) == [
        "optimizer.use_muon: pytorch_optimizer.Muon wants every param group to say 'use_muon'",
        "    fix:     set optimizer.use_muon, and otherwise in a rule: rules.NAME.use_muon",
    ]
    plan = planned({**muon, "use_muon": False}, hidden={**HIDDEN, "use_muon": True, "momentum": 0.9})
    hidden, rest = plan.groups
    assert (hidden.hyperparameters["use_muon"], hidden.hyperparameters["momentum"]) == (True, 0.9)
    assert "momentum" not in rest.hyperparameters
    assert rest.hyperparameters["betas"] == (0.9, 0.95)
    assert lo.Plan.from_json(plan.to_json()) == plan


def test_a_group_s_own_bookkeeping_is_no_hyperparameter() -> None:
    plan = planned({"_target_": "pytorch_optimizer.Prodigy", "lr": 1.0})
    assert not {"d", "d_max", "step"} & plan.groups[0].hyperparameters.keys()
    optimizer, scheduler = lo.build(model := MLP(4, (3, 3), 2), plan)
    for _ in range(3):
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    moved = optimizer.param_groups[0]["step"]
    scheduler.load_state_dict({"last_epoch": 3})
    assert optimizer.param_groups[0]["step"] == moved > 0


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "torch.optim.LBFGS", "line_search_fn": "wolfe"},
        {"_target_": "pytorch_optimizer.AdaHessian", "hessian_distribution": "foo"},
        {"_target_": "pytorch_optimizer.Kron", "memory_save_mode": "foo"},
        {"_target_": "pytorch_optimizer.DeMo"},
    ],
)
def test_what_only_a_step_refuses_is_refused_by_the_plan(node: dict[str, Any]) -> None:
    assert refused(node)[0].startswith(f"optimizer: {node['_target_']} can't step layer.0.weight")
