"""What an optimizer class can do and needs, derived from the class and not from a list of names."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lit_optim.construction import construct, constructor_of
from lit_optim.group_keys import first_group, optional_keys
from lit_optim.needs import Needs, needs_of, small, stepped, takes, undisturbed
from lit_optim.targets import resolve

__all__ = ["EXECUTION", "Traits", "traits_of"]

EXECUTION = ("foreach", "fused", "capturable", "differentiable")
"""Arguments that choose how a step is computed and not what it computes: they stand outside of a plan's hash."""

_LARGE = 160  # rows and columns of what is a large matrix here


@dataclass(frozen=True)
class Traits:
    """What is known of a class.

    Args:
        optimizer: The class.
        defaults: Every hyperparameter that a param group of it can carry, with the class's own default. What else its
            groups carry (a count of steps, a mode) is the optimizer's own.
        arguments: The names of its constructor's arguments; it checks the values of these.
        settings: The arguments without which it can't be constructed: what it wraps, how many steps it has.
        said_by_groups: The hyperparameters that each group has to say, since there is no default.
    """

    optimizer: type[Optimizer]
    defaults: Mapping[str, Any]
    arguments: frozenset[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    said_by_groups: tuple[str, ...] = ()
    _refusals: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)

    @functools.cached_property
    def of_all_groups(self) -> tuple[str, ...]:
        """Arguments that are no hyperparameters: one value for all groups of the class."""
        return tuple(
            name for name in constructor_of(self.optimizer).arguments if name not in {*self.defaults, *EXECUTION}
        )

    @functools.cached_property
    def needs(self) -> Needs:
        """What a loop has to do for it."""
        return needs_of(self.small_optimizer)

    @functools.cached_property
    def takes_sparse(self) -> bool:
        """Whether it takes the sparse gradients of an embedding."""
        return takes(self.small_optimizer, sparse=True) is None

    @property
    def makes_groups(self) -> bool:
        """Whether it makes its param groups itself, from the model."""
        return not constructor_of(self.optimizer).takes_groups

    def refusal(self, settings: Mapping[str, Any], ndims: Sequence[int] = (2,)) -> str | None:
        """Why the class would refuse these hyperparameters for such tensors, or None where it takes them.

        The class itself is asked, with a small tensor of each number of dimensions. What no class checks is added:
        where its default is a number (or a tuple of them), a finite number (or as many) must stand.
        """
        return self._remembered(repr((settings, ndims)), lambda: self._refusal(settings, ndims))

    def step_refusal(self, settings: Mapping[str, Any], ndims: Iterable[int]) -> str | None:
        """Why a step would fail with these settings, or for tensors of such numbers of dimensions.

        What fails over a small matrix may only be out of proportion to it, so a larger one is asked as well.
        """

        def fails(*group: int | nn.Parameter) -> str | None:
            return takes(lambda: self.small_optimizer(settings, group), needs=self.needs)

        def failing() -> str | None:
            if self.refusal(settings) is not None:  # told as such
                return None
            wrong = fails(2)
            if wrong is not None:
                return wrong if fails(small(2, _LARGE)) is not None else None
            told = ((ndim, fails(ndim)) for ndim in ndims)
            return next((f"ndim {ndim}: {wrong}" for ndim, wrong in told if wrong is not None), None)

        kind = {name: value for name, value in settings.items() if not isinstance(value, float)}
        return self._remembered(repr(("step", kind, ndims)), failing)  # once for all learning rates

    def has(self, name: str) -> bool:
        """Whether a param group can carry a hyperparameter of this name."""
        return name in self.defaults or (name not in self.arguments and name in self.optional)

    @functools.cached_property
    def optional(self) -> frozenset[str]:
        """Keys that a step looks for in a group, and does without: GaLore's ``rank``, and what goes with it."""
        return optional_keys(self.small_optimizer)

    @functools.cached_property
    def moves_itself(self) -> frozenset[str]:
        """The hyperparameters that its steps change (the ``lr`` of pytorch_optimizer's ASGD)."""
        optimizer = stepped(self.small_optimizer)
        group = {} if optimizer is None else optimizer.param_groups[0]
        return frozenset(name for name, value in self.defaults.items() if name in group and group[name] != value)

    def _remembered(self, question: str, answer: Any) -> str | None:
        if question not in self._refusals:  # a recipe of many rules asks the same again and again
            self._refusals[question] = answer()
        return self._refusals[question]

    def _refusal(self, settings: Mapping[str, Any], ndims: Iterable[int]) -> str | None:
        for name, value in settings.items():
            wrong = _wrong_kind(value, self._usual(name))
            if wrong is not None:
                return wrong
        return self._error(settings, ndims)

    def _usual(self, name: str) -> Any:
        """The default of a hyperparameter or of another argument."""
        parameter = constructor_of(self.optimizer).arguments.get(name)
        return self.defaults.get(name, None if parameter is None else parameter.default)

    def defaults_beside(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """The class's own defaults where these values are said: LBFGS's ``max_eval`` follows its ``max_iter``."""
        try:
            with undisturbed():
                group = self.small_optimizer(said).param_groups[0]
        except Exception:
            return dict(self.defaults)  # the values are refused elsewhere
        return {name: group[name] for name in self.defaults if name in group}

    def refusal_of_groups(self) -> str | None:
        """Why the class would refuse more than one param group, or None where it takes them."""
        if self.makes_groups:
            return "it makes its param groups itself, from the model"
        return self._error({}, [2], [2])

    def _error(self, settings: Mapping[str, Any], *ndims: Iterable[int]) -> str | None:
        try:
            with undisturbed():
                self.small_optimizer(settings, *ndims)
        except Exception as error:  # whatever a class of the user's may raise
            return str(error) or type(error).__name__
        return None

    def small_optimizer(
        self, settings: Mapping[str, Any] | None = None, *groups_of: Iterable[int | nn.Parameter]
    ) -> Optimizer:
        """An optimizer of the class over small tensors: a group for each sequence of these or of their dimensions."""
        own = {**dict.fromkeys(self.said_by_groups, False), **(settings or {})}
        of_groups = {name: value for name, value in own.items() if self.has(name)}
        groups = [
            {"params": [small(one) if isinstance(one, int) else one for one in group], **of_groups}
            for group in groups_of or ([2],)
        ]
        return construct(self.optimizer, groups, {**self.settings, **own}, _small_model())

    @functools.cached_property
    def takes_matrices_only(self) -> bool:
        """Whether the class takes matrices and neither vectors nor kernels, as Muon."""
        if self.refusal({}) is not None or takes(self.small_optimizer) is not None:
            return False
        return all(self.refusal({}, [n]) is not None or self.step_refusal({}, [n]) is not None for n in (1, 3))

    def can_fuse(self, parameters: Iterable[torch.Tensor]) -> bool:
        """Whether the class has a fused kernel for all of these: floating point, on one kind of device.

        Of tensors that FSDP2 has shared out, one of each sort is stepped: not every kernel knows them.
        """
        if "fused" not in self.arguments:
            return False
        sorts = {(tensor.device.type, tensor.dtype, type(tensor)): tensor for tensor in parameters}
        if len({device for device, *_ in sorts}) != 1 or not all(dtype.is_floating_point for _, dtype, _ in sorts):
            return False
        samples = [_sample(tensor) for tensor in sorts.values()]
        try:
            with undisturbed():
                optimizer = construct(self.optimizer, [{"params": samples}], {**self.settings, "fused": True})
                if any(isinstance(sample, DTensor) for sample in samples):
                    for sample in samples:
                        sample.grad = torch.zeros_like(sample)
                    optimizer.step()
        except Exception:
            return False
        return True


def _sample(tensor: torch.Tensor) -> nn.Parameter:
    """A parameter of the same sort, with a single number at most."""
    if isinstance(tensor, DTensor):
        local = torch.zeros(1, device=tensor.device, dtype=tensor.dtype)
        return nn.Parameter(DTensor.from_local(local, tensor.device_mesh, tensor.placements, run_check=False))
    return nn.Parameter(torch.empty(0, device=tensor.device, dtype=tensor.dtype))


def traits_of(optimizer: type[Optimizer], said: Mapping[str, Any] | None = None) -> Traits:
    """Derive the traits of a class by constructing it over a small matrix.

    Args:
        optimizer: The class.
        said: What a config says beside its name; the arguments that the class can't be constructed without are taken.

    Raises:
        TypeError: The class needs more than that to be constructed.
    """
    constructor = constructor_of(optimizer)
    settings = {n: v for n, v in (said or {}).items() if n in constructor.required or n in constructor.inner}
    with undisturbed():
        group, asked = first_group(lambda group: construct(optimizer, [group], settings, _small_model()))
    hyperparameters = _hyperparameters_in(group, optimizer, settings, asked)
    return Traits(optimizer, hyperparameters, frozenset(constructor.arguments), settings, asked)


def _hyperparameters_in(
    group: Mapping[str, Any], optimizer: type[Optimizer], settings: Mapping[str, Any], asked: Sequence[str]
) -> dict[str, Any]:
    """What a group holds that a config can say: what a constructor takes, its own or one that it inherits from.

    Of an optimizer around another, it is what the inner one takes and the outer one doesn't, which then means its own.
    A constructor that asks its groups for more is left to say what belongs in them.
    """
    constructor = constructor_of(optimizer)
    names = {*constructor.inherited}
    for argument, is_class in constructor.inner.items():
        if settings.get(argument) is not None:
            inside = traits_of(resolve(settings[argument], (Optimizer,), f"optimizer.{argument}")).defaults.keys()
            names = names | inside if is_class else {*inside} - names
    beside = {"params", "name", *EXECUTION}
    return {
        name: value
        for name, value in group.items()
        if name not in beside and (asked or name in names) and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    """Whether a config can hold it."""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _small_model() -> nn.Module:
    return nn.Linear(2, 2, bias=False)


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
        is_finite = -math.inf < value < math.inf and abs(value) <= sys.float_info.max
        if not is_finite and (value != default or value != value):  # a default may be infinite: no limit
            return "a finite number is needed"
    return None
