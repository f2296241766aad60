"""The optimization layer for PyTorch Lightning. Importing it imports no torch: names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_optim.builder import build
    from lit_optim.composite import CompositeOptimizer
    from lit_optim.durations import Horizon
    from lit_optim.errors import ConfigError, DataError, LitOptimError, Mistake, PlanError, RecipeError, RunError
    from lit_optim.integration import callbacks
    from lit_optim.integration.classifier import LitClassifier
    from lit_optim.integration.lr_finder import find_lr
    from lit_optim.integration.module import RecipeModule, attach, configure_optimizers
    from lit_optim.plan import Group, Plan
    from lit_optim.planner import make_plan
    from lit_optim.recipe import Recipe

__all__ = [
    "CompositeOptimizer",
    "ConfigError",
    "DataError",
    "Group",
    "Horizon",
    "LitClassifier",
    "LitOptimError",
    "Mistake",
    "Plan",
    "PlanError",
    "Recipe",
    "RecipeError",
    "RecipeModule",
    "RunError",
    "attach",
    "build",
    "callbacks",
    "configure_optimizers",
    "find_lr",
    "make_plan",
]

_HOMES = {
    "build": "builder",
    "CompositeOptimizer": "composite",
    "Horizon": "durations",
    **dict.fromkeys(
        ["ConfigError", "DataError", "LitOptimError", "Mistake", "PlanError", "RecipeError", "RunError"], "errors"
    ),
    "callbacks": "integration.callbacks",
    "find_lr": "integration.lr_finder",
    "LitClassifier": "integration.classifier",
    **dict.fromkeys(["RecipeModule", "attach", "configure_optimizers"], "integration.module"),
    **dict.fromkeys(["Group", "Plan"], "plan"),
    "make_plan": "planner",
    "Recipe": "recipe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = home if name == "callbacks" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
