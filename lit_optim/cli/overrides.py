"""The command line's own rule: under ``optimizer.``, ``rules.`` and ``schedule.`` a plain override may add a key."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["accept_new_keys"]

_OPEN = ("optimizer.", "rules.", "schedule.")


def accept_new_keys(arguments: Sequence[str]) -> list[str]:
    """Hand ``rules.head.lr=0.02`` to Hydra as ``++rules.head.lr=0.02``; what a recipe doesn't know, the recipe refuses.

    Args:
        arguments: Flags and overrides as typed. ``~key`` removes, ``+key`` and ``++key`` stay as they are.
    """
    return [f"++{argument}" if argument.startswith(_OPEN) and "=" in argument else argument for argument in arguments]
