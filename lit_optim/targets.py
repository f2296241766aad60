"""Which ``_target_`` may be called: the name is resolved, its kind checked, and only then is it called.

A config is data from elsewhere, so it may name classes of the kinds that its place calls for and nothing more:
``os.system``, ``torch.load`` or a method of an allowed class are refused before anything runs. This guards calls;
importing an installed module to resolve a name is as safe as that module.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from lit_optim.errors import ConfigError, LitOptimError, Mistake, nearest

__all__ = ["argument_mistakes", "dotted_name", "instantiate", "resolve"]


def resolve(target: object, kinds: tuple[type, ...], key: str) -> type[Any]:
    """The class that a dotted name stands for, if it is of one of the kinds.

    Args:
        target: A dotted name, ``"torch.optim.AdamW"``.
        kinds: The class must be one of these or a subclass of one, and not abstract.
        key: The config key of the node, for the message.

    Raises:
        ConfigError: Nothing of that name, or something of another kind.
    """
    key = f"{key}._target_" if key else "_target_"
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise ConfigError(
            Mistake(key, "the dotted name of a class is needed", given=repr(target), remedy=f"name a {_names(kinds)}")
        )
    found = _import(target, kinds, key)
    if not isinstance(found, type) or not issubclass(found, kinds):
        raise ConfigError(
            Mistake(
                key,
                f"{target} is not a {_names(kinds)}, so a config may not call it",
                given=target,
                remedy="name a class of that kind; a function or a method is never called from a config",
            )
        )
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        remedy = "name a subclass that implements it, or implement it"
        raise ConfigError(Mistake(key, f"{target} doesn't implement {lacking}", given=target, remedy=remedy))
    return found


def instantiate(
    node: Mapping[str, Any], kinds: tuple[type, ...], key: str, nested: tuple[type, ...] | None = None, **more: Any
) -> Any:
    """Build what a config node names; nodes inside its arguments are built first, under the same check.

    Args:
        node: ``_target_`` and the arguments of the class, as plain containers.
        kinds: What may be built here.
        key: The config key of the node, for messages.
        nested: What may be built inside its arguments; the same kinds if not given.
        more: Arguments that the caller supplies beside the node's own.

    Raises:
        ConfigError: A target that may not be called, or arguments that it doesn't take or refuses.
    """
    if not isinstance(node, Mapping):
        remedy = "give a class (_target_) and its arguments, or null to leave it out"
        raise ConfigError(Mistake(key, "a mapping is needed", repr(node), remedy=remedy))
    cls = resolve(node.get("_target_"), kinds, key)
    inside = kinds if nested is None else nested
    arguments = {
        name: _nested(value, inside, f"{key}.{name}") for name, value in node.items() if name != "_target_"
    } | more
    mistakes = argument_mistakes(cls, arguments, key)
    if mistakes:
        raise ConfigError(*mistakes)
    try:
        return cls(**arguments)
    except LitOptimError as error:
        raise type(error)(*(m if "." in m.key else m.under(key) for m in error.mistakes)) from error
    except Exception as error:  # whatever a constructor may raise, the user needs to know which node it was
        problem = f"{dotted_name(cls)} refused its arguments: {type(error).__name__}: {error}"
        raise ConfigError(Mistake(key, problem, remedy="see its documentation for what it takes")) from error


def argument_mistakes(cls: type[Any], arguments: Mapping[str, Any], key: str) -> list[Mistake]:
    """What is wrong with the names of ``arguments``: those that ``cls`` doesn't take, those that it needs and lacks."""
    parameters = inspect.signature(cls).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        known: set[str] = set(arguments)
    else:
        known = {name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_POSITIONAL}
    takes = [
        name
        for name in parameters
        if parameters[name].kind not in (inspect._ParameterKind.VAR_POSITIONAL, inspect._ParameterKind.VAR_KEYWORD)
    ]
    unknown = [
        Mistake(
            f"{key}.{name}",
            f"{dotted_name(cls)} has no argument {name!r}",
            given=repr(arguments[name]),
            allowed=tuple(takes),
            nearest=nearest(name, takes),
            remedy="rename or remove it",
        )
        for name in arguments
        if name not in known
    ]
    missing = [
        Mistake(f"{key}.{name}", f"{dotted_name(cls)} needs {name!r}", remedy=f"set {key}.{name}")
        for name in takes
        if parameters[name].default is inspect.Parameter.empty and name not in arguments
    ]
    return unknown + missing


def dotted_name(cls: type[Any]) -> str:
    """The shortest dotted name that resolves to ``cls``: ``torch.optim.AdamW``, not ``torch.optim.adamw.AdamW``."""
    parts = cls.__module__.split(".")
    for length in range(1, len(parts)):
        package = importlib.import_module(".".join(parts[:length]))
        if getattr(package, cls.__qualname__, None) is cls:
            return f"{package.__name__}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _nested(value: Any, kinds: tuple[type, ...], key: str) -> Any:
    """``value`` with every node inside it built."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            return instantiate(value, kinds, key)
        return {name: _nested(item, kinds, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_nested(item, kinds, f"{key}.{index}") for index, item in enumerate(value)]
    return value


def _import(target: str, kinds: tuple[type, ...], key: str) -> object:
    """Import the longest part of the name that is a module, then read the rest off it."""
    parts = target.split(".")
    found: object = None
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        if found is not None and hasattr(found, parts[length - 1]):
            found = getattr(found, parts[length - 1])
            continue
        if found is None or isinstance(found, ModuleType):
            try:
                found = importlib.import_module(name)
                continue
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    raise ConfigError(_broken(name, key, error)) from error
            except Exception as error:
                raise ConfigError(_broken(name, key, error)) from error
        raise ConfigError(_missing(target, found, parts, length, kinds, key))
    return found


def _broken(module: str, key: str, error: Exception) -> Mistake:
    return Mistake(
        key,
        f"importing {module} failed: {type(error).__name__}: {error}",
        given=module,
        remedy="mend that module, or install what it needs",
    )


def _missing(target: str, found: object, parts: list[str], length: int, kinds: tuple[type, ...], key: str) -> Mistake:
    """Nothing of that name: say how far the name led, and what of the right kind stands there."""
    if found is None:
        return Mistake(
            key,
            f"there is no module {parts[0]!r}",
            given=target,
            remedy="install it, or start in the folder that holds it; a name starts with its package",
        )
    names = [
        name
        for name, item in vars(found).items()
        if isinstance(item, type) and issubclass(item, kinds) and item not in kinds
    ]
    return Mistake(
        key,
        f"{'.'.join(parts[: length - 1])} has no {parts[length - 1]!r}",
        given=target,
        allowed=tuple(sorted(names)),
        nearest=nearest(parts[length - 1], names),
        remedy="correct the name",
    )


def _names(kinds: tuple[type, ...]) -> str:
    return " or ".join(f"{kind.__module__.split('.')[0]} {kind.__name__}" for kind in kinds)
