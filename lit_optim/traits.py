"""What an optimizer class can do and needs, derived from the class and not from a list of names."""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["EXECUTION", "Traits", "needs_closure", "traits_of"]

EXECUTION = ("foreach", "fused", "capturable", "differentiable")
"""Arguments that choose how a step is computed and not what it computes: they stand outside of a plan's hash."""


@dataclass(frozen=True)
class Traits:
    """What is known of a class.

    Args:
        optimizer: The class.
        defaults: Every hyperparameter that a param group of it can carry, with the class's own default.
        arguments: The names of its constructor's arguments; it checks the values of these.
    """

    optimizer: type[Optimizer]
    defaults: Mapping[str, Any]
    arguments: frozenset[str]
    _refusals: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)

    def refusal(self, settings: Mapping[str, Any], ndims: Sequence[int] = (2,)) -> str | None:
        """Why the class would refuse these hyperparameters for such tensors, or None where it takes them.

        The class itself is asked, with a small tensor of each number of dimensions. What no class checks is added:
        where its default is a number (or a tuple of them), a finite number (or as many) must stand.
        """
        question = repr((settings, ndims))
        if question not in self._refusals:  # a recipe of many rules asks the same again and again
            self._refusals[question] = self._refusal(settings, ndims)
        return self._refusals[question]

    def _refusal(self, settings: Mapping[str, Any], ndims: Iterable[int]) -> str | None:
        for name, value in settings.items():
            wrong = _wrong_kind(value, self.defaults.get(name))
            if wrong is not None:
                return wrong
        arguments = {name: value for name, value in settings.items() if name in self.arguments}
        beside = {name: value for name, value in settings.items() if name not in self.arguments}
        return self._error({"params": [_small(ndim) for ndim in ndims], **beside}, **arguments)

    def defaults_beside(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """The class's own defaults where these values are said: LBFGS's ``max_eval`` follows its ``max_iter``."""
        try:
            optimizer = self.optimizer([_small(2)], **{n: v for n, v in said.items() if n in self.arguments})
        except Exception:
            return dict(self.defaults)  # the values are refused elsewhere
        return {name: optimizer.defaults[name] for name in self.defaults}

    def refusal_of_groups(self) -> str | None:
        """Why the class would refuse more than one param group, or None where it takes them."""
        return self._error({"params": [_small(2)]}, {"params": [_small(2)]})

    def _error(self, *groups: dict[str, Any], **arguments: Any) -> str | None:
        try:
            self.optimizer(list(groups), **arguments)
        except Exception as error:  # whatever a class of the user's may raise
            return str(error) or type(error).__name__
        return None

    @functools.cached_property
    def takes_matrices_only(self) -> bool:
        """Whether the class takes matrices and neither vectors nor kernels, as Muon."""
        return self.refusal({}) is None and all(self.refusal({}, [ndim]) is not None for ndim in (1, 3))

    def can_fuse(self, parameters: Iterable[torch.Tensor]) -> bool:
        """Whether the class has a fused kernel for all of these: floating point, on one kind of device."""
        if "fused" not in self.arguments:
            return False
        samples = {
            (tensor.device.type, tensor.dtype): torch.empty(0, device=tensor.device, dtype=tensor.dtype)
            for tensor in parameters
        }
        if len({device for device, _ in samples}) != 1 or not all(
            tensor.is_floating_point() for tensor in samples.values()
        ):
            return False
        try:
            self.optimizer([nn.Parameter(tensor) for tensor in samples.values()], fused=True)  # type: ignore[call-arg]
        except Exception:
            return False
        return True


def traits_of(optimizer: type[Optimizer]) -> Traits:
    """Derive the traits of a class by constructing it once over a small matrix.

    Raises:
        TypeError: The class needs more than parameters to be constructed.
    """
    defaults = dict(optimizer([nn.Parameter(torch.zeros(2, 2))]).defaults)  # type: ignore[call-arg]
    hyperparameters = {name: value for name, value in defaults.items() if name not in EXECUTION}
    return Traits(optimizer, hyperparameters, frozenset(inspect.signature(optimizer).parameters))


def needs_closure(optimizer: type[Optimizer]) -> bool:
    """Whether a step of the class evaluates the model itself, as LBFGS does: its closure can't be left out."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _small(ndim: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros((2,) * ndim))


def _wrong_kind(value: Any, default: Any) -> str | None:
    """Why ``value`` can't stand where ``default`` does."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false is needed"
    if isinstance(default, (tuple, list)):
        if not isinstance(value, (tuple, list)) or len(value) != len(default):
            return f"a list of {len(default)} is needed"
        return next((wrong for wrong in map(_wrong_kind, value, default) if wrong), None)
    if isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "a number is needed"
        if not -math.inf < value < math.inf or abs(value) > sys.float_info.max:
            return "a finite number is needed"
    return None
