"""What a refusal says: where in the config, what was given, what is allowed, the nearest names, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["ConfigError", "DataError", "LitOptimError", "Mistake", "PlanError", "RecipeError", "RunError", "nearest"]

_SHOWN = 12  # names listed under "allowed" before the rest is counted


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong, told so that it can be mended without opening the code.

    Args:
        key: The config key it stands under (``rules.head.lr``), as a command-line override would name it.
        problem: One sentence saying what is wrong.
        given: What was written there, if anything was.
        allowed: The names or values that would be accepted.
        nearest: The few of ``allowed`` that look most like what was given.
        remedy: What to do, in the imperative.
    """

    key: str
    problem: str
    given: str | None = None
    allowed: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()
    remedy: str | None = None

    def under(self, key: str) -> Mistake:
        """The same mistake with its key below another: ``warmup`` under ``schedule.lr`` is ``schedule.lr.warmup``."""
        return replace(self, key=f"{key}.{self.key}" if self.key else key)

    def __str__(self) -> str:
        lines = [f"{self.key}: {self.problem}"]
        if self.given is not None:
            lines.append(f"    given:   {self.given}")
        if self.allowed:
            more = len(self.allowed) - _SHOWN
            lines.append(f"    allowed: {', '.join(self.allowed[:_SHOWN])}" + (f" … ({more} more)" if more > 0 else ""))
        if self.nearest:
            lines.append(f"    nearest: {', '.join(self.nearest)}")
        if self.remedy is not None:
            lines.append(f"    fix:     {self.remedy}")
        return "\n".join(lines)


class LitOptimError(Exception):
    """The base of every refusal of this package; ``mistakes`` holds all that was found, not only the first."""

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes: tuple[Mistake, ...] = mistakes

    def __reduce__(self) -> tuple[type[LitOptimError], tuple[Mistake, ...]]:
        return type(self), self.mistakes  # so that it crosses process boundaries whole


class RecipeError(LitOptimError):
    """The recipe's structure is wrong; no model was needed to see it."""


class PlanError(LitOptimError):
    """The recipe does not fit this model or this horizon."""


class ConfigError(LitOptimError):
    """Something beside the recipe is wrong: an override, a target, the trainer, a missing extra."""


class DataError(LitOptimError):
    """The data is absent, damaged, or not what was asked for."""


class RunError(LitOptimError):
    """The run's folder or checkpoint can't be used."""


def nearest(name: str, names: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """The ``count`` members of ``names`` most like ``name``, best first; empty where nothing is close.

    Of those that are as close, those with the same first letter lead: ``adamw`` before ``nadam`` for ``adamx``.

    Initials are close to what they stand for: ``wd`` to ``weight_decay``, ``learning_rate`` to ``lr``.
    """
    known: Sequence[str] = list(dict.fromkeys(names))
    by_folded: dict[str, str] = {}
    for candidate in known:
        by_folded.setdefault(candidate.lower(), candidate)
    folded = name.lower()
    short = [one for one in by_folded if folded and (folded in (one, _initials(one)) or one == _initials(folded))]
    close = difflib.get_close_matches(folded, by_folded, n=len(by_folded) or 1, cutoff=0.6)
    close.sort(key=lambda one: (-_likeness(one, folded), one[:1] != folded[:1]))
    return tuple(by_folded[one] for one in dict.fromkeys([*short, *close]))[:count]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _initials(name: str) -> str:
    parts = name.split("_")
    return "".join(part[:1] for part in parts) if len(parts) > 1 else ""
