"""What is frozen for a time stays as it is until its step, and then trains as if from a fresh start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lit_optim as lo
from lit_optim.models import MLP

UNTIL = 3
MUON = {"_target_": "torch.optim.Muon", "lr": 0.1}


def built(rules: dict[str, Any], optimizer: str = "AdamW", **values: Any) -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(0)
    model = MLP(4, (3, 3), 2)
    node = {"_target_": f"torch.optim.{optimizer}", "lr": 0.1, **values}
    recipe = lo.Recipe.from_config({"optimizer": node, "rules": rules})
    return model, *lo.build(model, lo.make_plan(model, recipe, lo.Horizon(10)))


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    model(torch.randn(8, 4, generator=generator)).square().mean().backward()


STEM = {"stem": {"match": "layer.0", "freeze_until": UNTIL}}


@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("more", [{}, {"hidden": {"match": "layer.2.weight", "optimizer": MUON}}], ids=["one", "two"])
def test_it_stands_still_until_its_step_and_moves_from_there_on(closure: bool, more: dict[str, Any]) -> None:
    model, optimizer, scheduler = built({**STEM, **more}, weight_decay=0.5)
    start = model.layer[0].weight.clone()
    for step in range(UNTIL + 2):
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        optimizer.zero_grad()
        if closure:
            optimizer.step(lambda step=step: gradients(model, step))
        else:
            gradients(model, step)
            optimizer.step()
        scheduler.step()
        moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
        assert {"layer.2.bias", "layer.4.bias"} <= moved
        assert ("layer.0.weight" in moved) == ("layer.0.bias" in moved) == (step >= UNTIL)
        assert (model.layer[0].weight in optimizer.state) == (step >= UNTIL)
    assert not torch.equal(model.layer[0].weight, start)
    assert optimizer.state[model.layer[0].weight]["step"] == 2


def test_a_resumed_run_knows_where_it_stands() -> None:
    model, optimizer, scheduler = built(STEM)
    for step in range(2):
        gradients(model, step)
        optimizer.step()
        scheduler.step()
    again, other, clock = built(STEM)
    again.load_state_dict(model.state_dict())
    other.load_state_dict(optimizer.state_dict())
    clock.load_state_dict(scheduler.state_dict())
    start = again.layer[0].weight.clone()
    for step in range(2, 5):
        assert torch.equal(again.layer[0].weight, start) == (step <= UNTIL)
        gradients(again, step)
        other.step()
        clock.step()


def test_frozen_for_good_is_held_by_no_optimizer_and_needs_no_gradient() -> None:
    rules = {"all": {"match": "*", "freeze": True}, "probe": {"match": {"module": "head"}, "freeze": False}}
    model, optimizer, _ = built(rules)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        "layer.4.weight",
        "layer.4.bias",
    }
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]


def test_a_recipe_without_freezing_hooks_nothing() -> None:
    _, optimizer, scheduler = built({"a": {"match": "layer.0", "lr": 0.2}})
    assert not scheduler.thaw.has_work
    assert not optimizer._optimizer_step_pre_hooks


def test_a_closure_by_name_and_its_loss_come_through() -> None:
    model, optimizer, _ = built(STEM, optimizer="SGD")
    start = model.layer[0].weight.clone()

    def closure() -> Tensor:
        loss: Tensor = model(torch.ones(2, 4)).sum()
        loss.backward()
        return loss

    assert isinstance(optimizer.step(closure=closure), Tensor)
    assert torch.equal(model.layer[0].weight, start)
