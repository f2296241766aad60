"""What Lightning's loop can't do is refused before the first step, by name."""

from __future__ import annotations

from typing import Any

import pytest
from digitnet import Net, loader
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch.amp.grad_scaler import GradScaler

import lit_optim as lo
from lit_optim.integration.loop import check_needs
from lit_optim.needs import Needs

SAM = {"_target_": "pytorch_optimizer.SAM", "base_optimizer": "torch.optim.SGD", "lr": 0.1}
IN_THE_STEP = "evaluates the model within its step, and a GradScaler scales the loss outside of it"
OF_GRADIENTS = "differentiates its gradients, and a GradScaler scales the loss outside of it"


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        ({"_target_": "torch.optim.LBFGS"}, f"torch.optim.LBFGS {IN_THE_STEP}"),
        (SAM, f"pytorch_optimizer.SAM {IN_THE_STEP}"),
        ({"_target_": "pytorch_optimizer.AliG"}, f"pytorch_optimizer.AliG {IN_THE_STEP}"),
        ({"_target_": "pytorch_optimizer.AdaHessian"}, f"pytorch_optimizer.AdaHessian {OF_GRADIENTS}"),
    ],
)
def test_a_scaled_loss_and_a_closure_are_refused(optimizer: dict[str, Any], why: str, trainer: Any) -> None:
    one = trainer(plugins=[MixedPrecision("16-mixed", "cpu", GradScaler("cpu"))])
    with pytest.raises(lo.PlanError) as refused:
        one.fit(lo.attach(Net(), {"optimizer": optimizer}), loader(1))
    assert str(refused.value).splitlines() == [
        f"trainer.precision: {why}",
        "    given:   16-mixed",
        "    fix:     use trainer.precision=bf16-mixed or 32-true, or another optimizer",
    ]


@pytest.mark.parametrize("child", ["torch.optim.LBFGS", "pytorch_optimizer.BSAM", "pytorch_optimizer.WSAM"])
def test_a_child_that_evaluates_is_refused_by_name(child: str, trainer: Any) -> None:
    more = {"num_data": 8} if child.endswith("BSAM") else {}
    more = {"base_optimizer": "torch.optim.SGD"} if child.endswith("WSAM") else more
    rules = {"head": {"match": {"module": "head"}, "optimizer": {"_target_": child, **more}}}
    with pytest.raises(lo.PlanError, match="evaluates the model several times a step, so it can't share a run"):
        trainer().fit(lo.attach(Net(), {"optimizer": {"_target_": "torch.optim.SGD"}, "rules": rules}), loader(1))


def test_differentiated_gradients_and_several_processes_are_refused(trainer: Any) -> None:
    plan = lo.make_plan(Net(), lo.Recipe.from_config({"optimizer": SAM}), lo.Horizon(3))
    one = trainer()
    check_needs(one, plan, Needs(graph=True))
    one.strategy.world_size = 2
    with pytest.raises(lo.PlanError, match="those that are averaged over processes have no graph"):
        check_needs(one, plan, Needs(graph=True))


def sharded(trainer: Any, kind: type) -> Any:
    one = trainer()
    one.strategy.__class__ = type("Sharded", (kind,), {"world_size": 1, "precision_plugin": one.precision_plugin})
    return one


def test_fsdp1_is_refused(trainer: Any) -> None:
    plan = lo.make_plan(Net(), lo.Recipe.from_config({"optimizer": SAM}), lo.Horizon(3))
    with pytest.raises(lo.PlanError, match=r"^trainer\.strategy: FSDP1 flattens parameters.*\n.*\n.*use FSDP2"):
        check_needs(sharded(trainer, FSDPStrategy), plan, Needs())


def test_sharded_weights_and_evaluations_at_others_are_refused(trainer: Any) -> None:
    plan = lo.make_plan(Net(), lo.Recipe.from_config({"optimizer": SAM}), lo.Horizon(3))
    one = sharded(trainer, ModelParallelStrategy)
    with pytest.raises(lo.PlanError, match="at weights that it moves as whole tensors"):
        check_needs(one, plan, Needs(gradients_first=True))
    check_needs(one, plan, Needs(closure=True))


def test_a_step_to_differentiate_through_is_refused_in_a_rule_as_well(trainer: Any) -> None:
    adamw = {"_target_": "torch.optim.AdamW", "differentiable": True}
    rules = {"head": {"match": {"module": "head"}, "optimizer": adamw}}
    with pytest.raises(lo.PlanError, match=r"^rules\.head\.optimizer\.differentiable: Lightning doesn't differentiate"):
        trainer().fit(lo.attach(Net(), {"optimizer": {"_target_": "torch.optim.SGD"}, "rules": rules}), loader(1))
