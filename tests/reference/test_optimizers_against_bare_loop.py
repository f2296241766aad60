"""What is built from a plan against the same class constructed by hand: the same weights, bit for bit."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lit_optim as lo
from lit_optim.models import MLP

STEPS = 20
FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)


def model() -> MLP:
    torch.manual_seed(0)
    return MLP(6, (5, 4), 3)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any = None) -> list[Tensor]:
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
        if scheduler is not None:
            scheduler.step()
    return [parameter.detach().clone() for parameter in net.parameters()]


CASES: list[tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.1}, {"lr": 0.01}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.01, "momentum": 0.5}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1}),
    (torch.optim.Adam, {"lr": 1e-2, "betas": (0.8, 0.99)}, {"lr": 1e-3}),
    (torch.optim.Adam, {"lr": 1e-2, "amsgrad": True}, {"weight_decay": 0.1}),
    (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}, {"weight_decay": 0.0, "eps": 1e-6}),
    (torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.9}, {"momentum": 0.9, "centered": True}),
    (torch.optim.Adagrad, {"lr": 1e-2, "initial_accumulator_value": 0.1}, {"lr": 0.1, "lr_decay": 0.01}),
    (torch.optim.Adadelta, {"lr": 0.5}, {"rho": 0.8}),
    (torch.optim.Adamax, {"lr": 1e-2}, {"betas": (0.8, 0.9)}),
    (torch.optim.NAdam, {"lr": 1e-2}, {"momentum_decay": 0.01}),
    (torch.optim.RAdam, {"lr": 1e-2}, {"weight_decay": 0.1}),
    (torch.optim.ASGD, {"lr": 1e-2}, {"alpha": 0.5}),
    (torch.optim.Rprop, {"lr": 1e-2}, {"etas": (0.4, 1.3), "step_sizes": (1e-5, 10.0)}),
]


@pytest.mark.parametrize("explicit", [True, False], ids=["for-loop", "default"])
@pytest.mark.parametrize(("cls", "top", "bias"), CASES, ids=lambda item: getattr(item, "__name__", str(item)))
def test_two_groups_train_as_by_hand(
    cls: type[torch.optim.Optimizer], top: dict[str, Any], bias: dict[str, Any], explicit: bool
) -> None:
    execution: dict[str, Any] = {"foreach": False} if explicit else {}
    by_plan = model()
    config = {
        "optimizer": {"_target_": f"torch.optim.{cls.__name__}", **top, **execution},
        "rules": {"bias": {"match": "*.bias", **bias}},
    }
    plan = lo.make_plan(by_plan, lo.Recipe.from_config(config), lo.Horizon(STEPS))
    assert len(plan.groups) == 2
    optimizer, scheduler = lo.build(by_plan, plan)

    by_hand = model()
    named = dict(by_hand.named_parameters())
    if cls in FUSED and not explicit:
        execution = {"fused": True}
    assert "fused" not in execution or "fused" in inspect.signature(cls).parameters
    reference = cls(
        [
            {"params": [p for name, p in named.items() if name.endswith("weight")]},
            {"params": [p for name, p in named.items() if name.endswith("bias")], **bias},
        ],
        **top,
        **execution,
    )
    before = [parameter.detach().clone() for parameter in by_hand.parameters()]
    trained = train(by_plan, optimizer, scheduler)
    expected = train(by_hand, reference)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(trained, expected, strict=True))
    assert not any(torch.equal(old, new) for old, new in zip(before, expected, strict=True))


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_with_its_closure_trains_as_by_hand(line_search: str | None) -> None:
    by_plan, by_hand = model(), model()
    values = {"lr": 0.5, "max_iter": 4, "line_search_fn": line_search}
    config = {"optimizer": {"_target_": "torch.optim.LBFGS", **values}}
    plan = lo.make_plan(by_plan, lo.Recipe.from_config(config), lo.Horizon(STEPS))
    trained = train(by_plan, *lo.build(by_plan, plan))
    expected = train(by_hand, torch.optim.LBFGS(by_hand.parameters(), **values))  # type: ignore[arg-type]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(trained, expected, strict=True))


def test_a_scheduled_run_trains_as_with_torchs_scheduler() -> None:
    by_plan, by_hand = model(), model()
    config = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.125, "momentum": 0.5},
        "schedule": {"lr": {"_target_": "lit_optim.schedules.Milestones", "at": [5, 12], "factors": [0.5, 0.25]}},
    }
    plan = lo.make_plan(by_plan, lo.Recipe.from_config(config), lo.Horizon(STEPS))
    trained = train(by_plan, *lo.build(by_plan, plan))
    reference = torch.optim.SGD(by_hand.parameters(), lr=0.125, momentum=0.5, fused=True)
    expected = train(by_hand, reference, torch.optim.lr_scheduler.MultiStepLR(reference, [5, 12], 0.5))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(trained, expected, strict=True))
