"""Metrics that something waits for, held against what a module says that it logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lit_optim.errors import Mistake, nearest
from lit_optim.recipe import Recipe

__all__ = ["monitors_in", "never_logged"]


def monitors_in(recipe: Recipe) -> dict[str, str]:
    """The metrics that the schedules of a recipe follow, by the config keys that name them."""
    nodes: dict[str, Mapping[str, Any] | None] = {f"schedule.{name}": node for name, node in recipe.schedule.items()}
    for rule in recipe.rules:
        nodes |= {f"{rule.key}.schedule.{name}": node for name, node in rule.schedule.items()}
    monitors = {f"{key}.monitor": node.get("monitor") for key, node in nodes.items() if node is not None}
    return {key: monitor for key, monitor in monitors.items() if isinstance(monitor, str)}


def never_logged(module: object, monitors: Mapping[str, object], remedy: str = "monitor one of these") -> list[Mistake]:
    """A mistake for each monitor that a module never logs, as far as the module says what it logs.

    Args:
        module: One with an attribute ``logged``, the names of its metrics; any other passes.
        monitors: By config key.
        remedy: What to do about one.
    """
    logged = getattr(module, "logged", None)
    if logged is None:
        return []
    known = tuple(name for name in logged if not name.startswith("test/"))
    problem = f"{type(module).__name__} never logs this while it trains"
    return [
        Mistake(key, problem, repr(monitor), known, nearest(str(monitor), known), remedy)
        for key, monitor in monitors.items()
        if monitor not in known
    ]
