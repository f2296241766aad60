"""What a step needs is found by taking one."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Optimizer, SparseAdam

from lit_optim.needs import (
    Needs,
    has_modes,
    needs_of,
    own_backward,
    small,
    stand_in,
    stepped,
    takes,
    union,
    wraps,
)
from lit_optim.traits import traits_of


class MovesFirst(SGD):
    def step(self, closure: Any = None) -> None:
        super().step()
        closure()


class IgnoresItsClosure(SGD):
    def step(self, closure: Any = None) -> None:
        super().step()


class Differentiates(SGD):
    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            torch.autograd.grad(parameter.grad.sum(), parameter, retain_graph=True)
        super().step(closure)


class Noisy(SGD):
    def step(self, closure: Any = None) -> None:
        torch.rand(1), np.random.rand(), random.random()
        warnings.warn("as planned", UserWarning, stacklevel=2)
        super().step(closure)


class NeverSteps(SGD):
    def step(self, closure: Any = None) -> None:
        raise RuntimeError("never\nat all")


class Modal(SGD):
    def train(self) -> None: ...

    def eval(self) -> None: ...


def of(cls: Any, *ndims: int, **more: Any) -> Callable[[], Optimizer]:
    return lambda: cls([small(ndim) for ndim in ndims or (2,)], **more)


@pytest.mark.parametrize(
    ("make", "needs"),
    [
        (of(SGD), Needs()),
        (of(LBFGS), Needs(closure=True, repeats=True)),
        (of(LBFGS, max_iter=1), Needs(closure=True)),
        (of(MovesFirst), Needs(closure=True, gradients_first=True)),
        (of(IgnoresItsClosure), Needs(gradients_first=True)),
        (of(Differentiates), Needs(graph=True)),
        (of(Noisy), Needs()),
        (of(NeverSteps), Needs()),
        (of(Modal), Needs(modes=True)),
        (of(SparseAdam), Needs(sparse_only=True)),
        (of(pytorch_optimizer.SAM, base_optimizer=SGD), Needs(closure=True, gradients_first=True)),
        (of(pytorch_optimizer.BSAM, num_data=9), Needs(closure=True, repeats=True, gradients_first=True)),
        (of(pytorch_optimizer.AliG), Needs(closure=True)),
        (of(pytorch_optimizer.SophiaH), Needs(graph=True)),
    ],
)
def test_a_step_tells(make: Callable[[], Optimizer], needs: Needs) -> None:
    assert needs_of(make) == needs


def test_what_raises_when_it_is_made_needs_nothing() -> None:
    assert needs_of(lambda: SGD([])) == Needs()


def test_nothing_else_is_changed() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        needs_of(of(Noisy))
        assert takes(of(Noisy)) is None
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
    assert before[2] == random.getstate()


def test_gradients_may_be_off_around() -> None:
    with torch.no_grad():
        assert needs_of(of(Differentiates)) == Needs(graph=True)


def test_who_evaluates() -> None:
    assert Needs(repeats=True).evaluates
    assert Needs(gradients_first=True).evaluates
    assert not Needs(closure=True, graph=True, modes=True).evaluates


def test_several_need_what_any_needs() -> None:
    assert union([Needs(graph=True), Needs(modes=True)]) == Needs(graph=True, modes=True)
    assert union([]) == Needs()


def test_why_a_step_fails() -> None:
    assert takes(of(SGD, 0, 1, 3)) is None
    assert takes(of(LBFGS)) is None
    assert takes(of(NeverSteps)) == "never"
    assert str(takes(of(pytorch_optimizer.SpectralSphere, 1))).startswith("SpectralSphere only supports 2D")
    assert str(takes(of(torch.optim.AdamW), sparse=True)).startswith("Adam does not support sparse gradients")
    assert takes(of(SparseAdam), sparse=True) is None


def test_a_stepped_optimizer_has_its_state() -> None:
    assert len(stepped(of(torch.optim.Adam, 2, 1)).state) == 2  # type: ignore[union-attr]
    assert stepped(of(NeverSteps)) is None


def test_modes_and_inner_optimizers_are_seen() -> None:
    assert has_modes(pytorch_optimizer.ScheduleFreeSGD)
    assert not has_modes(SGD)
    assert wraps(pytorch_optimizer.Lookahead(SGD([small(1)]))) == "optimizer"
    assert wraps(pytorch_optimizer.SAM([small(1)], SGD)) == "base_optimizer"
    assert wraps(SGD([small(1)])) is None


def test_a_backward_pass_of_its_own_is_seen() -> None:
    assert own_backward(pytorch_optimizer.LOMO) == "fused_backward"
    assert own_backward(pytorch_optimizer.PCGrad) == "pc_backward"
    assert own_backward(SGD) is None


@pytest.mark.parametrize("name", ["SAM", "AdamW", "Lookahead", "LBFGS"])
def test_a_stand_in_is_as_the_original_and_apart_from_it(name: str) -> None:
    weights = nn.Parameter(torch.ones(5, 4))
    made: Optimizer = {
        "SAM": lambda: pytorch_optimizer.SAM([weights], SGD, lr=0.1),
        "AdamW": lambda: torch.optim.AdamW([weights]),
        "Lookahead": lambda: pytorch_optimizer.Lookahead(SGD([weights], 0.1)),
        "LBFGS": lambda: LBFGS([weights]),
    }[name]()
    told: list[Any] = []
    made.register_step_pre_hook(lambda *_: told.append(1))
    torch.optim.lr_scheduler.ConstantLR(made)
    inside = {"optimizer": "torch.optim.SGD", "base_optimizer": "torch.optim.SGD"}
    assert needs_of(lambda: stand_in(made)) == traits_of(type(made), inside).needs
    assert torch.equal(weights, torch.ones(5, 4))
    assert weights.grad is None
    assert told == []
    assert stand_in(made).param_groups[0]["params"][0].shape == (2, 2)


class HasHooks(SGD):
    """Names that only sound like a backward pass."""

    def after_backward_norms(self) -> None: ...

    def on_backward(self) -> None: ...

    def _backward(self, loss: Any) -> None: ...


def test_a_method_that_takes_no_loss_is_no_backward_pass() -> None:
    assert own_backward(HasHooks) is None


def test_the_failure_that_is_told_is_of_the_way_that_the_class_steps() -> None:
    lbfgs = traits_of(LBFGS)
    assert lbfgs.step_refusal({"line_search_fn": "wolfe"}, [2]) == "only 'strong_wolfe' is supported"
    assert lbfgs.step_refusal({"line_search_fn": "strong_wolfe"}, [2]) is None
