import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lit_optim as lo
from lit_optim.models import MLP
from lit_optim.state import named

ADAMW = {"_target_": "torch.optim.AdamW", "lr": 1e-2}
MUON = {"_target_": "torch.optim.Muon", "lr": 1e-2}
RULES: dict[str, dict[str, Any]] = {
    "first": {"match": "layer.0", "lr": 0.02},
    "second": {"match": "layer.2", "lr": 0.03},
    "biases": {"match": "*.bias", "weight_decay": 0.0},
    "last": {"match": "layer.4", "multiply": {"lr": 2.0}},
}
Built = tuple[nn.Module, torch.optim.Optimizer, Any]


def built(rules: dict[str, Any], optimizer: dict[str, Any] = ADAMW, steps: int = 0) -> Built:
    torch.manual_seed(0)
    model = MLP(5, (5, 5), 5)
    plan = lo.make_plan(model, {"optimizer": optimizer, "rules": rules}, lo.Horizon(100))
    made, scheduler = lo.build(model, plan)
    for number in range(steps):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(number))

        def closure(x: torch.Tensor = x) -> torch.Tensor:
            made.zero_grad()
            loss: torch.Tensor = model(x).square().sum()
            loss.backward()
            return loss

        made.step(closure)
        scheduler.step()
    return model, made, scheduler


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, torch.Tensor]]:
    return {name: optimizer.state[one] for name, one in model.named_parameters() if one in optimizer.state}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


some_rules = st.permutations([*RULES]).flatmap(
    lambda order: st.integers(0, len(order)).map(lambda count: {name: RULES[name] for name in order[:count]})
)


@given(some_rules, some_rules, st.booleans())
def test_each_parameter_keeps_its_state_however_groups_change(
    before: dict[str, Any], after: dict[str, Any], by_name: bool
) -> None:
    model, optimizer, _ = built(before, steps=3)
    saved = copy.deepcopy(optimizer.state_dict())
    fresh, loaded, scheduler = built(after)
    loaded.load_state_dict(named(saved) if by_name else saved)
    was, now = moments(model, optimizer), moments(fresh, loaded)
    assert was.keys() == now.keys()
    assert all(same(was[name], now[name]) for name in was)
    assert scheduler.state_by_name.lost == []


def test_two_equal_groups_in_another_order_are_not_swapped() -> None:
    """All layers have one shape, so positions would fit, and be wrong."""
    model, optimizer, _ = built({"a": RULES["first"], "b": RULES["second"]}, steps=2)
    fresh, loaded, scheduler = built({"b": RULES["second"], "a": RULES["first"]})
    loaded.load_state_dict(optimizer.state_dict())
    scheduler.load_state_dict({"last_epoch": 2})
    assert all(same(moments(model, optimizer)[name], moments(fresh, loaded)[name]) for name in moments(fresh, loaded))
    assert [(group["name"], group["lr"]) for group in loaded.param_groups] == [
        ("a", 0.02),
        ("b", 0.03),
        ("default", 0.01),
    ]


def test_an_optimizer_around_another_whose_state_is_its_own_goes_by_name_too() -> None:
    sam = {"_target_": "pytorch_optimizer.SAM", "base_optimizer": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9}
    rules = {"a": {"match": "layer.0", "lr": 0.02}, "b": {"match": "layer.2", "lr": 0.03}}
    model, optimizer, scheduler = built(rules, sam, steps=2)
    fresh, loaded, other = built(dict(reversed(rules.items())), sam)
    state = named(optimizer.state_dict(), scheduler.plan)
    assert state is not None
    loaded.load_state_dict(state)
    assert other.state_by_name.lost == []
    was, now = moments(model, optimizer), moments(fresh, loaded)
    assert was
    assert was.keys() == now.keys()
    assert all(same(was[name], now[name]) for name in was)
    adamw = built({})[1]
    adamw.load_state_dict(state)
    assert not adamw.state


def test_what_is_new_or_gone_is_named() -> None:
    _, optimizer, _ = built({"stem": {"match": "layer.0", "freeze": True}}, steps=2)
    model, loaded, scheduler = built({"head": {"match": "layer.4", "freeze": True}})
    loaded.load_state_dict(optimizer.state_dict())
    assert scheduler.state_by_name.lost == [
        "layer.0.weight, layer.0.bias: no state was saved, so this starts anew",
        "layer.4.weight, layer.4.bias: the state is dropped, since no optimizer holds this now",
    ]
    assert moments(model, loaded).keys() == {"layer.2.weight", "layer.2.bias"}


def test_the_state_of_another_class_is_left_behind() -> None:
    hidden = {"hidden": {"match": "layer.2.weight", "optimizer": MUON}}
    model, optimizer, scheduler = built({}, steps=2)
    saved = named(optimizer.state_dict(), scheduler.plan)
    fresh, loaded, other = built(hidden)
    assert saved is not None
    loaded.load_state_dict(saved)
    assert other.state_by_name.lost == [
        "layer.2.weight: the state is torch.optim.AdamW's and not torch.optim.Muon's, so this starts anew"
    ]
    assert moments(fresh, loaded).keys() == moments(model, optimizer).keys() - {"layer.2.weight"}


def test_a_bare_state_of_another_class_is_told_by_what_its_groups_lack() -> None:
    _, optimizer, _ = built({}, {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}, steps=2)
    _, loaded, scheduler = built({})
    loaded.load_state_dict(optimizer.state_dict())
    assert not loaded.state
    assert "betas" in loaded.param_groups[0]
    assert "momentum" not in loaded.param_groups[0]
    assert scheduler.state_by_name.lost == [
        "layer.0.weight, layer.0.bias, layer.2.weight and 3 more: "
        "the state is another class's and not torch.optim.AdamW's, so this starts anew"
    ]


def test_a_state_without_names_is_refused_and_changes_nothing() -> None:
    model, optimizer, _ = built({}, steps=1)
    before = copy.deepcopy(optimizer.state_dict())
    foreign = torch.optim.AdamW(model.parameters())
    with pytest.raises(lo.RunError, match="doesn't say which parameters it belongs to"):
        optimizer.load_state_dict(foreign.state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert all(same(after["state"][key], before["state"][key]) for key in before["state"])


def test_a_count_of_the_group_comes_along() -> None:
    """Schedule-free counts its steps in the group."""
    node = {"_target_": "pytorch_optimizer.ScheduleFreeAdamW", "lr": 0.01}
    _, optimizer, _ = built({}, node, steps=3)
    _, loaded, _ = built({"first": RULES["first"]}, node)
    loaded.load_state_dict(optimizer.state_dict())
    count = {name: value for name, value in optimizer.param_groups[0].items() if name in ("k", "step", "weight_sum")}
    assert count
    for group in loaded.param_groups:
        assert {name: group[name] for name in count} == count
