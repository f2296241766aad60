"""What a step of an optimizer needs of the loop around it, found by taking one over a few small tensors."""

from __future__ import annotations

import copy
import inspect
import random
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = [
    "Modal",
    "Needs",
    "has_modes",
    "needs_of",
    "own_backward",
    "small",
    "stand_in",
    "stepped",
    "takes",
    "undisturbed",
    "union",
    "wraps",
]


@dataclass(frozen=True)
class Needs:
    """What a loop has to do for an optimizer beside calling ``step``.

    Args:
        closure: It can't step without one.
        repeats: It evaluates the closure more than once a step, at other weights each time (LBFGS).
        gradients_first: It moves before it evaluates the closure, by the gradients that are there (SAM).
        graph: It differentiates the gradients (AdaHessian): ``backward(create_graph=True)``.
        modes: It has ``train()`` and ``eval()``, between which the weights differ (schedule-free).
        sparse_only: It takes sparse gradients and no others (SparseAdam).
    """

    closure: bool = False
    repeats: bool = False
    gradients_first: bool = False
    graph: bool = False
    modes: bool = False
    sparse_only: bool = False

    @property
    def evaluates(self) -> bool:
        """Whether a step computes the gradients anew, at other weights than those that it started from."""
        return self.repeats or self.gradients_first


def union(all_needs: Iterable[Needs]) -> Needs:
    """What any of them needs."""
    gathered = list(all_needs)
    return Needs(**{field.name: any(getattr(needs, field.name) for needs in gathered) for field in fields(Needs)})


def needs_of(make: Callable[[], Optimizer]) -> Needs:
    """Find out by stepping; nothing outside of what ``make`` returns is changed, random numbers included.

    Args:
        make: Returns an optimizer over small tensors of its own, a new one at each call. What it raises, or an
            optimizer that can't be stepped in any way, needs nothing that is known.
    """
    with undisturbed():
        alone = _tried(make) or _tried(make, graph=True)
        given = _tried(make, with_closure=True) or _tried(make, graph=True, with_closure=True)
        sparse_only = alone is given is None and _tried(make, sparse=True) is not None
        try:
            modes = has_modes(make())
        except Exception:
            modes = False
    seen = given or alone
    return Needs(
        closure=alone is None and given is not None,
        repeats=given is not None and len(given.moved) > 1,
        gradients_first=given is not None and (not given.moved or given.moved[0]),
        graph=seen is not None and seen.graph,
        modes=modes,
        sparse_only=sparse_only,
    )


def takes(make: Callable[[], Optimizer], sparse: bool = False, needs: Needs | None = None) -> str | None:
    """Why a step fails that is given its gradients, or None where it doesn't.

    Args:
        make: As for `needs_of`.
        sparse: Whether the gradients of matrices are sparse.
        needs: The class's, if known: of the ways to step, why the one fails that it needs.
    """
    needs = needs or Needs()
    failures: list[Exception] = []
    if stepped(make, failures, sparse=sparse) is not None:
        return None
    told = failures[1 if needs.closure else 2 if needs.graph else 0]
    if isinstance(told, KeyError):
        return f"it wants {told} as well"
    return str(told).split("\n")[0] or type(told).__name__


def stepped(
    make: Callable[[], Optimizer], failures: list[Exception] | None = None, *, sparse: bool = False
) -> Optimizer | None:
    """An optimizer that has taken a step in whatever way it can; None, and why, where there is no such way."""
    with undisturbed():
        for graph, with_closure in ((False, False), (False, True), (True, False), (True, True)):
            trial = _tried(make, failures, graph=graph, with_closure=with_closure, sparse=sparse)
            if trial is not None:
                return trial.optimizer
    return None


class Modal(Protocol):
    """An optimizer whose weights are others for training than for use (schedule-free)."""

    def train(self) -> None:
        """Put the weights for training in place."""

    def eval(self) -> None:
        """Put the weights for use in place."""


def has_modes(optimizer: object) -> TypeGuard[Modal]:
    """Whether it has ``train()`` and ``eval()``."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def own_backward(optimizer: type[Optimizer]) -> str | None:
    """The method by which a class takes a loss and computes gradients itself (LOMO); a Trainer never calls it."""
    for name in dir(optimizer):
        method = getattr(optimizer, name)
        if not callable(method) or not (name == "backward" or (name.endswith("_backward") and name[0] != "_")):
            continue
        parameters = [*inspect.signature(method).parameters.values()][1:]
        if any(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters):
            return name
    return None


def wraps(optimizer: Optimizer) -> str | None:
    """The attribute that holds another optimizer, which it steps (Lookahead, SAM)."""
    return next((name for name, value in vars(optimizer).items() if isinstance(value, Optimizer)), None)


def small(ndim: int, side: int = 2) -> nn.Parameter:
    """A parameter of a few numbers a dimension."""
    return nn.Parameter(torch.linspace(0.5, 1.5, side**ndim).reshape((side,) * ndim))


def stand_in(optimizer: Optimizer) -> Optimizer:
    """The same optimizer over small tensors, with nothing in its state and without its hooks."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    memo: dict[int, Any] = {id(parameter): small(parameter.ndim) for parameter in parameters}
    memo[id(optimizer.state)] = defaultdict(dict)
    cls = type(optimizer)
    stand: Optimizer = cls.__new__(cls)
    for name, value in vars(optimizer).items():
        if name != "step":  # a scheduler's wrapper around the step of the original
            hooks = name.endswith("_hooks") and isinstance(value, dict)
            vars(stand)[name] = OrderedDict() if hooks else copy.deepcopy(value, memo)
    return stand


class _Trial:
    """One step over small tensors, and what was seen of it."""

    def __init__(self, optimizer: Optimizer, graph: bool, sparse: bool) -> None:
        self.optimizer = optimizer
        self.graph = graph
        self._sparse = sparse
        self._parameters: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self._before = [parameter.detach().clone() for parameter in self._parameters]
        self.moved: list[bool] = []  # at each evaluation of the closure, whether the weights were others by then

    def gradients(self) -> Tensor:
        """Compute the gradients of a smooth loss with some curvature."""
        for parameter in self._parameters:
            parameter.grad = None
        loss = torch.stack([(parameter**2 + 0.1 * parameter**3).sum().real for parameter in self._parameters]).sum()
        loss.backward(create_graph=self.graph)  # type: ignore[no-untyped-call]
        for parameter in self._parameters if self._sparse else ():
            if parameter.ndim == 2:
                parameter.grad = None if parameter.grad is None else parameter.grad.detach().to_sparse(1)
        return loss.detach()

    @torch.enable_grad()
    def closure(self) -> Tensor:
        """Evaluate the model."""
        pairs = zip(self._parameters, self._before, strict=True)
        self.moved.append(any(not torch.equal(parameter, before) for parameter, before in pairs))
        return self.gradients()


def _tried(
    make: Callable[[], Optimizer],
    failures: list[Exception] | None = None,
    *,
    graph: bool = False,
    with_closure: bool = False,
    sparse: bool = False,
) -> _Trial | None:
    """A step that went well, or None."""
    try:
        optimizer = make()
        if has_modes(optimizer):
            optimizer.train()
        trial = _Trial(optimizer, graph, sparse)
        trial.gradients()
        optimizer.step(cast(Any, trial.closure)) if with_closure else optimizer.step()
    except Exception as error:  # whatever a class of the user's may raise
        if failures is not None:
            failures.append(error)
        return None
    return trial


@contextmanager
def undisturbed() -> Iterator[None]:
    """Random numbers (torch's, numpy's, Python's) as they were afterwards, no warning told, gradients on."""
    numbers = random.getstate(), np.random.get_state()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(numbers[0])
            np.random.set_state(numbers[1])
