"""Dotted names: the object that one stands for, and the shortest one that leads to an object."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, TypeGuard

from lit_optim.errors import ConfigError, Mistake, nearest

__all__ = ["dotted_name", "find", "is_dotted", "names_of"]

_NOTHING = object()
_EXTRAS = {"pytorch_optimizer": "optimizers"}  # packages that an extra of this one brings


def is_dotted(name: object) -> TypeGuard[str]:
    """Whether this could name something in a module: ``timm.create_model``."""
    return isinstance(name, str) and "." in name and all(part.isidentifier() for part in name.split("."))


def dotted_name(found: Any) -> str:
    """The shortest dotted name that resolves to a class: ``torch.optim.AdamW``, not ``torch.optim.adamw.AdamW``."""
    module, name = found.__module__, found.__qualname__
    parts = module.split(".")
    for length in range(1, len(parts)):
        package = importlib.import_module(".".join(parts[:length]))
        if getattr(package, name, None) is found:
            return f"{package.__name__}.{name}"
    return f"{module}.{name}"


def names_of(kinds: tuple[type, ...]) -> str:
    """The kinds in words, each with its package: ``torch Optimizer or lit_optim Schedule``."""
    return " or ".join(f"{kind.__module__.split('.')[0]} {kind.__name__}" for kind in kinds)


def find(target: object, kinds: tuple[type, ...], key: str, through_objects: bool = False) -> object:
    """Import the longest part of the name that is a module, then read the rest off it; nothing is called.

    Args:
        target: A dotted name.
        kinds: What is looked for; a name that leads nowhere is answered with these.
        key: The config key of the target, for messages.
        through_objects: Look also at attributes of what is neither module nor class, where a property may run code.

    Raises:
        ConfigError: No dotted name, nothing of that name, or a module on the way that doesn't import.
    """
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        remedy = f"name a {names_of(kinds)}"
        raise ConfigError(Mistake(key, "the dotted name of a class is needed", given=repr(target), remedy=remedy))
    found: object = None
    parts = target.split(".")
    for length, part in enumerate(parts, 1):
        name, before = ".".join(parts[:length]), ".".join(parts[: length - 1])
        is_namespace = isinstance(found, (ModuleType, type)) or sys.modules.get(before, _NOTHING) is found
        if length > 1 and not is_namespace and not through_objects:
            problem = f"{before} is neither a module nor a class, so nothing is looked up in it"
            raise ConfigError(Mistake(key, problem, given=target, remedy=f"name a {names_of(kinds)}"))
        try:
            base, found = found, _next(found, name, part)
        except (Exception, SystemExit) as error:  # a script that runs when it is imported may end with the latter
            problem = f"importing {name} failed: {type(error).__name__}: {error}"
            remedy = "mend that module, or install what it needs"
            raise ConfigError(Mistake(key, problem, given=name, remedy=remedy)) from error
        if found is _NOTHING:
            raise ConfigError(_missing(target, base, before, part, kinds, key))
    return found


def _next(found: object, name: str, part: str) -> object:
    """The attribute of that name, or else the module; `_NOTHING` where there is neither."""
    is_first = name == part
    item = _NOTHING if is_first else getattr(found, part, _NOTHING)
    if item is not _NOTHING or not (is_first or isinstance(found, ModuleType)):
        return item
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        return _NOTHING


def _missing(target: str, base: object, before: str, part: str, kinds: tuple[type, ...], key: str) -> Mistake:
    """Nothing of that name: say how far the name led, and what of the right kind stands there."""
    if not before:
        remedy = "install it, or start in the folder that holds it; a name starts with its package"
        if part in _EXTRAS:
            remedy = f'pip install "lit-optim[{_EXTRAS[part]}]"'
        return Mistake(key, f"there is no module {part!r}", given=target, remedy=remedy)
    names = [
        name
        for name, item in getattr(base, "__dict__", {}).items()
        if isinstance(item, type) and issubclass(item, kinds) and item not in kinds
    ]
    return Mistake(
        key,
        f"{before} has no {part!r}",
        given=target,
        allowed=tuple(sorted(names)),
        nearest=nearest(part, names),
        remedy="correct the name",
    )
