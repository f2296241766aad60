"""What a constructor asks for is read off its signature."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

import lit_optim as lo
from lit_optim.construction import construct, constructor_of


class Plain(SGD):
    def __init__(self, params: Any, lr: float = 0.1, *, extra: int, note: str = "") -> None:
        super().__init__(params, lr)
        self.extra = extra


class OldSAM(Optimizer):
    """As the field writes it, without annotations."""

    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(params, {"rho": rho, **kwargs})
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups


class Around(Optimizer):
    def __init__(self, optimizer, k=5):  # type: ignore[no-untyped-def]
        self.optimizer = optimizer
        self.k = k
        super().__init__([{"params": [torch.zeros(1)]}], {})


class OfTheModel(SGD):
    def __init__(self, model: nn.Module, lr: float = 0.1) -> None:
        super().__init__([{"params": [parameter]} for parameter in model.parameters()], lr)


class NamesWhatIsNotThere(SGD):
    def __init__(self, params: Any, optimizer: "Nowhere") -> None:  # noqa: F821, UP037
        super().__init__(params)


@pytest.mark.parametrize(
    ("cls", "arguments", "required", "inner"),
    [
        (Plain, ["lr", "extra", "note"], ("extra",), {}),
        (OldSAM, ["base_optimizer", "rho"], ("base_optimizer",), {"base_optimizer": True}),
        (Around, ["optimizer", "k"], ("optimizer",), {"optimizer": False}),
        (OfTheModel, ["lr"], (), {}),
        (NamesWhatIsNotThere, ["optimizer"], ("optimizer",), {"optimizer": False}),
        (pytorch_optimizer.Magma, None, ("optimizer",), {"optimizer": False}),
        (pytorch_optimizer.SAM, None, ("base_optimizer",), {"base_optimizer": True}),
        (pytorch_optimizer.GSAM, None, ("base_optimizer", "rho_scheduler"), {"base_optimizer": False}),
        (pytorch_optimizer.Ranger21, None, ("num_iterations",), {}),
    ],
)
def test_arguments(cls: type[Optimizer], arguments: list[str] | None, required: Any, inner: Any) -> None:
    constructor = constructor_of(cls)
    assert arguments is None or [*constructor.arguments] == arguments
    assert constructor.required == required
    assert constructor.inner == inner


@pytest.mark.parametrize(
    ("cls", "groups", "model"),
    [
        (Plain, True, False),
        (Around, True, False),
        (OfTheModel, False, True),
        (pytorch_optimizer.WSAM, True, True),
        (pytorch_optimizer.AdamMini, False, True),
    ],
)
def test_what_else_is_handed_over(cls: type[Optimizer], groups: bool, model: bool) -> None:
    assert (constructor_of(cls).takes_groups, constructor_of(cls).takes_model) == (groups, model)


def test_arguments_of_the_classes_above_are_known() -> None:
    assert {"decoupled_weight_decay", "lr"} <= constructor_of(AdamW).inherited
    assert "decoupled_weight_decay" not in constructor_of(AdamW).arguments


def groups(**more: Any) -> list[dict[str, Any]]:
    return [{"params": [nn.Parameter(torch.zeros(2, 2))], **more}]


def test_a_plain_class_gets_what_it_takes_by_name() -> None:
    made = construct(Plain, groups(), {"lr": 0.5, "extra": 3, "momentum": 0.9})
    assert (made.param_groups[0]["lr"], made.extra) == (0.5, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("cls", [OldSAM, pytorch_optimizer.SAM])
def test_a_class_of_optimizers_gets_what_is_the_inner_one_s(cls: type[Optimizer]) -> None:
    made = construct(cls, groups(lr=0.3), {"base_optimizer": "torch.optim.SGD", "rho": 0.2, "momentum": 0.9})
    assert isinstance(made.base_optimizer, SGD)  # type: ignore[attr-defined]
    group = made.param_groups[0]
    assert (group["rho"], group["momentum"], group["lr"]) == (0.2, 0.9, 0.3)


@pytest.mark.parametrize("cls", [Around, pytorch_optimizer.Lookahead])
def test_an_optimizer_inside_holds_the_groups(cls: type[Optimizer]) -> None:
    own = groups(lr=0.3)
    made: Any = construct(cls, own, {"optimizer": "torch.optim.AdamW", "k": 7, "betas": (0.5, 0.5)})
    assert isinstance(made.optimizer, AdamW)
    assert made.k == 7
    assert made.optimizer.param_groups[0]["params"] == own[0]["params"]
    assert (made.optimizer.param_groups[0]["lr"], made.optimizer.defaults["betas"]) == (0.3, (0.5, 0.5))


def test_a_class_that_makes_its_groups_gets_the_model() -> None:
    model = nn.Linear(2, 1)
    assert len(construct(OfTheModel, groups(), {"lr": 0.3}, model).param_groups) == 2


def test_what_is_no_optimizer_is_not_put_inside() -> None:
    with pytest.raises(lo.LitOptimError, match=r"torch\.load is not a torch Optimizer"):
        construct(OldSAM, groups(), {"base_optimizer": "torch.load"})
