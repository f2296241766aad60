"""Where a key that nothing knows may belong: settings of that name elsewhere, and what a node's class takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from inspect import Parameter
from typing import Any

from lit_optim.errors import LitOptimError, Mistake
from lit_optim.names import find

__all__ = ["arguments_of", "homes_of", "without_leftovers"]

_PARTS = ("optimizer", "schedule", "data", "model", "trainer")  # the likeliest first
_MOST = 3
_NOT_OURS = ("params", "args", "kwargs")
_LEFT = "has no argument"


def homes_of(name: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of settings of that very name, at any depth; those of a class that it could be given to come last.

    Args:
        name: Without dots: ``lr``.
        config: Plain containers.
    """
    parts = [*(part for part in _PARTS if part in config), *(part for part in config if part not in _PARTS)]
    found = [path for part in parts for path, value in _paths(config[part], part) if path.endswith(f".{name}")]
    found.sort(key=lambda path: path.count("."))
    taken = [f"{part}.{name}" for part in parts if part in _PARTS and name in arguments_of(config[part])]
    return tuple(dict.fromkeys([*found, *taken]))[:_MOST]


def arguments_of(node: Any) -> tuple[str, ...]:
    """What the class that a node names takes by name; nothing where it names none."""
    from lit_optim.targets import parameters_of

    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        return ()
    try:
        callee = find(node["_target_"], (object,), "_target_")
    except LitOptimError:
        return ()
    parameters = (parameters_of(callee) if callable(callee) else None) or {}
    named = [
        one.name for one in parameters.values() if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    return tuple(one for one in named if one not in _NOT_OURS)


def without_leftovers(mistakes: Iterable[Mistake], typed: Iterable[str]) -> tuple[Mistake, ...]:
    """The mistakes, with the way out for arguments of a schedule that another class was put in place of.

    Whoever types ``schedule.lr._target_=…`` alone keeps what the chosen schedule says beside it, and never wrote it.

    Args:
        mistakes: Any.
        typed: What was typed.
    """
    keys = {one.lstrip("+~").partition("=")[0] for one in typed}

    def mended(mistake: Mistake) -> Mistake:
        node = mistake.key.rpartition(".")[0]
        is_left = node.startswith("schedule.") and mistake.key not in keys and f"{node}._target_" in keys
        if not is_left or _LEFT not in mistake.problem or "schedule" in keys:
            return mistake
        remedy = "put schedule=none in front: then nothing stays of the schedule that was chosen before"
        return replace(mistake, problem=f"{mistake.problem}; it is left of another schedule", nearest=(), remedy=remedy)

    return tuple(map(mended, mistakes))


def _paths(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every setting below a node, mappings left out."""
    if isinstance(node, Mapping):
        for name, item in node.items():
            yield from _paths(item, f"{path}.{name}")
    else:
        yield path, node
