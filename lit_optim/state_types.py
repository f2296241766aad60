"""What an optimizer's state holds beside tensors and plain data: classes that a checkpoint is trusted to name."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.serialization import add_safe_globals, get_unsafe_globals_in_checkpoint, safe_globals

from lit_optim.classes import Classes
from lit_optim.names import find
from lit_optim.needs import small, stepped
from lit_optim.recipe import Recipe
from lit_optim.traits import Traits

__all__ = ["state_types", "trust", "unreadable"]

_LONG = 1025  # beyond the usual size of a block, for classes that keep the blocks of long tensors (Shampoo)


def trust(recipe: Recipe) -> None:
    """Let ``torch.load(weights_only=True)`` restore the state of a recipe's optimizers, for the rest of the process.

    A few classes keep objects in their state (a preconditioner, a projection). Those very types are trusted, and no
    other: they are what an optimizer of the recipe's own class holds after a step over small tensors.

    Args:
        recipe: What the user wrote; a class that it can't use is told of elsewhere.
    """
    classes = Classes(recipe, [])
    for name, traits in classes.traits.items():
        said = {
            name: value for name, value in classes.said[name].items() if traits.has(name) or name in traits.arguments
        }
        in_rules = [{n: v for n, v in rule.values.items() if traits.has(n)} for rule in recipe.rules]
        for settings in (said, *({**said, **more} for more in in_rules if more)):
            add_safe_globals(state_types(traits, settings))


def state_types(traits: Traits, said: Mapping[str, Any] | None = None) -> list[Any]:
    """The types in the state of a class that ``torch.load`` doesn't know, found by saving it after a step.

    Args:
        traits: Of the class.
        said: Hyperparameters and arguments, on which they may depend.
    """
    file = _saved(traits, said)
    names = [] if file is None else get_unsafe_globals_in_checkpoint(file)
    return [find(name, (), "state", through_objects=True) for name in names]


def unreadable(traits: Traits, said: Mapping[str, Any]) -> str | None:
    """Why the state of a class can't be loaded again with ``weights_only=True``, or None where it can."""
    file = _saved(traits, said)
    if file is None:
        return None
    with safe_globals(state_types(traits, said)):
        try:
            torch.load(file, weights_only=True)
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return next((line for line in lines if "but got" in line), lines[0])
    return None


def _saved(traits: Traits, said: Mapping[str, Any] | None) -> io.BytesIO | None:
    """The state after a step, as a file; None where there is no such thing."""

    def make(settings: Mapping[str, Any] | None) -> Optimizer:
        return traits.small_optimizer(settings, [small(2), nn.Parameter(torch.ones(_LONG, 2))])

    optimizer = stepped(lambda: make(said)) or stepped(lambda: make(None))
    file = io.BytesIO()
    try:
        assert optimizer is not None
        torch.save(optimizer.state_dict(), file)
    except Exception:  # a state dict of the user's may raise whatever it likes
        return None
    file.seek(0)
    return file
