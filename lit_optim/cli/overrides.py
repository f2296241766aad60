"""The command line's own rules: where new keys are welcome, and flags anywhere between the overrides."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["accept_new_keys", "overrides_first"]

_OPEN = ("optimizer.", "rules.", "schedule.", "model.", "data.")


def accept_new_keys(arguments: Sequence[str]) -> list[str]:
    """Hand ``rules.head.lr=0.02`` to Hydra as ``++rules.head.lr=0.02``.

    A misspelled key is refused all the same, by the recipe, or because the model or the data has no such argument.

    Args:
        arguments: Flags and overrides as typed. ``~key`` removes, ``+key`` and ``++key`` stay as they are.
    """
    return [f"++{argument}" if argument.startswith(_OPEN) and "=" in argument else argument for argument in arguments]


def overrides_first(arguments: Sequence[str]) -> list[str]:
    """Put flags and their values behind the overrides, each kind in its order.

    Hydra's parser refuses overrides on both sides of a flag: ``data=digits -m seed=1,2`` would be its usage text.
    """
    flags: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        is_override = not argument.startswith("-") and ("=" in argument or argument.startswith("~"))
        (overrides if is_override else flags).append(argument)
    return overrides + flags
