"""The command line's own rules: where new keys are welcome, and flags anywhere between the overrides."""

from __future__ import annotations

from collections.abc import Sequence

from lit_optim.errors import ConfigError, Mistake, nearest

__all__ = ["accept_new_keys", "as_typed", "overrides_first", "refuse_targets_of_hydra", "refuse_unknown_flags"]

_OPEN = ("optimizer.", "rules.", "schedule.", "model.", "data.")
_FLAGS = (  # Hydra's
    "--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--config-path",
    "--config-name", "--config-dir", "--info", "--shell-completion", "--experimental-rerun",
)  # fmt: skip


def accept_new_keys(arguments: Sequence[str]) -> list[str]:
    """Hand ``rules.head.lr=0.02`` to Hydra as ``++rules.head.lr=0.02``.

    A misspelled key is refused all the same, by the recipe, or because the model or the data has no such argument.

    Args:
        arguments: Flags and overrides as typed. ``~key`` removes, ``+key`` and ``++key`` stay as they are.
    """
    return [f"++{argument}" if argument.startswith(_OPEN) and "=" in argument else argument for argument in arguments]


def as_typed(overrides: Sequence[str]) -> list[str]:
    """Take back what `accept_new_keys` has added."""
    return [
        one.removeprefix("++") if one.removeprefix("++").startswith(_OPEN) and "=" in one else one for one in overrides
    ]


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


def refuse_targets_of_hydra(arguments: Sequence[str]) -> None:
    """Refuse what Hydra itself would call, before any check of ours: a ``_target_`` in one of its own nodes.

    Choices of its groups (``hydra/launcher=joblib``) and their settings (``hydra.sweeper.n_trials=20``) are fine.

    Raises:
        ConfigError: With every such override.
    """
    remedy = "leave it out; choose one of Hydra's groups, such as hydra/launcher=joblib, or write a config file"
    mistakes = [
        Mistake(key, "the command line may not say what Hydra calls", given=argument, remedy=remedy)
        for argument in arguments
        for key in (argument.lstrip("+~").partition("=")[0],)
        if key.startswith("hydra.") and ("_target_" in argument or "()" in argument)
    ]
    if mistakes:
        raise ConfigError(*mistakes)


def refuse_unknown_flags(arguments: Sequence[str], own: Sequence[str] = (), hydras: Sequence[str] = _FLAGS) -> None:
    """Refuse flags that neither the verb nor Hydra knows; Hydra itself would take the start of a flag for it.

    Args:
        arguments: As typed, without the verb's own flags.
        own: These.
        hydras: Those of Hydra's that the verb hands on.

    Raises:
        ConfigError: With every such flag.
    """
    known = (*own, *hydras)
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    mistakes = [
        Mistake(flag, "no such flag", None, known, nearest(flag, known), "correct it or leave it out")
        for flag in flags
        if not any(one.startswith(flag) for one in hydras)
    ]
    if mistakes:
        raise ConfigError(*mistakes)
