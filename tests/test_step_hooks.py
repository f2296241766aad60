"""What is frozen for a time stays as it is until its step, and then trains as if from a fresh start."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_optimizer
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


# --- closures ---


SAM = {"_target_": "pytorch_optimizer.SAM", "base_optimizer": "torch.optim.SGD", "lr": 0.1}


def sam(rules: dict[str, Any] | None = None) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = MLP(4, (3, 3), 2)
    recipe = lo.Recipe.from_config({"optimizer": SAM, "rules": rules or {}})
    return model, lo.build(model, lo.make_plan(model, recipe, lo.Horizon(10)))[0]


def closure_of(model: nn.Module) -> Any:
    def closure() -> Tensor:
        model.zero_grad()
        gradients(model, 1)
        closure.count += 1  # type: ignore[attr-defined]
        return torch.tensor(1.0)

    closure.count = 0  # type: ignore[attr-defined]
    return closure


@pytest.mark.parametrize("by_name", [False, True])
def test_a_closure_is_evaluated_first_for_what_moves_first(by_name: bool) -> None:
    model, optimizer = sam()
    twin = MLP(4, (3, 3), 2)
    twin.load_state_dict(model.state_dict())
    ours, theirs = closure_of(model), closure_of(twin)
    optimizer.step(closure=ours) if by_name else optimizer.step(ours)
    bare = pytorch_optimizer.SAM(twin.parameters(), torch.optim.SGD, lr=0.1)
    theirs()
    bare.step(theirs)
    assert ours.count == theirs.count == 2
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_gradients_may_be_switched_off_around_a_step() -> None:
    model, optimizer = sam()
    with torch.no_grad():
        optimizer.step(torch.enable_grad()(closure_of(model)))
    assert model.layer[0].weight.grad is not None


# --- clipping ---


CLIP = {"all": {"match": "*", "clip_norm": 0.1}, "bias": {"match": "*.bias", "clip_norm": 0.01}}


@pytest.mark.parametrize("closure", [False, True])
def test_each_group_is_clipped_to_its_own_norm(closure: bool) -> None:
    model, optimizer, _ = built(CLIP, "SGD")
    seen: list[list[float]] = []

    def look(*_: Any) -> None:
        groups = ([p.grad for p in group["params"]] for group in optimizer.param_groups)
        seen.append([torch.nn.utils.get_total_norm(grads).item() for grads in groups])

    if closure:
        optimizer.step(lambda: gradients(model, 1))
        look()
    else:
        gradients(model, 1)
        look()
        assert seen[0][0] > 0.1
        optimizer.step()
        look()
    assert seen[-1] == pytest.approx([0.1, 0.01], rel=1e-4)


def test_small_gradients_are_left_alone() -> None:
    model, optimizer, _ = built({"all": {"match": "*", "clip_norm": 1e6}}, "SGD")
    twin, plain, _ = built({}, "SGD")
    for one, by in ((model, optimizer), (twin, plain)):
        gradients(one, 1)
        by.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_class_that_makes_its_groups_is_clipped_as_one() -> None:
    torch.manual_seed(0)
    model = MLP(4, (3, 3), 2)
    node = {"_target_": "pytorch_optimizer.AdamMini", "lr": 0.1, "num_embeds": 8, "num_heads": 2}
    recipe = lo.Recipe.from_config({"optimizer": node, "rules": {"all": {"match": "*", "clip_norm": 0.1}}})
    optimizer, _ = lo.build(model, lo.make_plan(model, recipe, lo.Horizon(10)))
    assert len(optimizer.param_groups) == 6
    gradients(model, 1)
    optimizer.step()
    whole = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert whole.item() == pytest.approx(0.1, rel=1e-4)


def test_a_class_that_only_wants_the_loss_has_its_closure_looked_after() -> None:
    torch.manual_seed(0)
    model = MLP(4, (3, 3), 2)
    recipe = lo.Recipe.from_config({"optimizer": {"_target_": "pytorch_optimizer.AliG", "max_lr": 0.1}})
    optimizer, scheduler = lo.build(model, lo.make_plan(model, recipe, lo.Horizon(10)))
    losses: list[Any] = []
    scheduler.step_hook.finish_loss = lambda loss: losses.append(loss) or loss * 2  # type: ignore[func-returns-value]
    optimizer.step(closure_of(model))  # which AliG calls with gradients switched off
    assert [loss.item() for loss in losses] == [1.0]
    assert model.layer[0].weight.grad is not None
