"""What a constructor asks for beside hyperparameters, told from its signature: the model, another optimizer."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer

from lit_optim.targets import resolve

__all__ = ["Constructor", "construct", "constructor_of"]

_PARAMS, _MODEL = "params", "model"
_BY_NAME = {"optimizer": False, "base_optimizer": True}  # where nothing is annotated: whether the class itself is meant


@dataclass(frozen=True)
class Constructor:
    """The arguments of an optimizer class.

    Args:
        arguments: Those that a config can give, by name.
        inherited: The arguments that the classes above it take, which it may pass on (AdamW does to Adam).
        takes_params: Whether param groups are one of its arguments.
        takes_model: Whether the model is one of its arguments.
        inner: The arguments that stand for another optimizer: True where its class is meant, False where one that holds
            the same param groups is. A config names the class.
        required: The arguments that a config has to give.
    """

    arguments: Mapping[str, inspect.Parameter]
    inherited: frozenset[str]
    takes_params: bool
    takes_model: bool
    inner: Mapping[str, bool]
    required: tuple[str, ...]

    @property
    def takes_groups(self) -> bool:
        """Whether it takes param groups, itself or in another optimizer; else it makes them itself from the model."""
        return self.takes_params or any(not is_class for is_class in self.inner.values())


def constructor_of(optimizer: type[Optimizer]) -> Constructor:
    """What the signature of a class says; read once."""
    return _read(cast(Any, optimizer))


@functools.cache
def _read(optimizer: Any) -> Constructor:
    parameters = inspect.signature(optimizer).parameters
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    arguments = {name: parameter for name, parameter in named.items() if name not in (_PARAMS, _MODEL)}
    inner = {name: meant for name, meant in _inner(optimizer, arguments) if meant is not None}
    above = (cls for cls in optimizer.__mro__ if issubclass(cls, Optimizer) and cls is not Optimizer)
    return Constructor(
        arguments,
        frozenset().union(*(inspect.signature(cls).parameters for cls in above)) - {_PARAMS, _MODEL, "defaults"},
        takes_params=_PARAMS in named,
        takes_model=_MODEL in named,
        inner=inner,
        required=tuple(name for name, parameter in arguments.items() if parameter.default is parameter.empty),
    )


def construct(
    optimizer: type[Optimizer],
    groups: Iterable[dict[str, Any]],
    settings: Mapping[str, Any],
    model: nn.Module | None = None,
) -> Optimizer:
    """Make an optimizer of any class.

    Args:
        optimizer: The class.
        groups: Param groups, each with hyperparameters of its own. A class that takes none ignores them.
        settings: Hyperparameters and other arguments by name; those that the class doesn't take by name go to the
            optimizer inside of it, if there is one.
        model: Whose parameters these are; for a class that asks for it.

    Raises:
        ConfigError: The class of an optimizer inside of it is none.
    """
    constructor = constructor_of(optimizer)
    given = {name: value for name, value in settings.items() if name in constructor.arguments}
    others = {name: value for name, value in settings.items() if name not in constructor.arguments}
    groups = list(groups)
    for name, is_class in constructor.inner.items():
        if given.get(name) is None:
            continue
        inside: type[Optimizer] = resolve(given[name], (Optimizer,), f"optimizer.{name}")
        if is_class:  # what the inner class takes; the groups carry the rest
            given |= {name: value for name, value in others.items() if name in constructor_of(inside).arguments}
        given[name] = inside if is_class else construct(inside, groups, others, model)
    if constructor.takes_params:
        given[_PARAMS] = groups
    if constructor.takes_model:
        given[_MODEL] = model
    return optimizer(**given)


def _inner(optimizer: type[Optimizer], arguments: Iterable[str]) -> Iterable[tuple[str, bool | None]]:
    """For each argument whether it stands for a class of optimizers or for an optimizer; None where for neither."""
    try:
        hints = typing.get_type_hints(optimizer.__init__)
    except Exception:  # annotations that name what isn't there
        hints = {}
    for name in arguments:
        hint = hints.get(name, Any)
        if hint is Any:
            yield name, _BY_NAME.get(name)
        else:
            instance, cls = _mentions(hint, Optimizer), _mentions(hint, type[Optimizer])
            yield name, None if not (instance or cls) else not instance


def _mentions(hint: Any, wanted: Any) -> bool:
    """Whether a type is part of a union; ``type[Optimizer]`` is none of ``Optimizer``."""
    if hint == wanted:
        return True
    return typing.get_origin(hint) is not type and any(_mentions(part, wanted) for part in typing.get_args(hint))
