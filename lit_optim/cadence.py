"""How often each of several things happens, in optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeGuard

from lit_optim.errors import ConfigError, Mistake, nearest

__all__ = ["EVERY", "Cadence", "is_count"]

EVERY = "every"
"""The key of the cadence that all share but those that have one of their own."""


@dataclass(frozen=True)
class Cadence:
    """For each name, the steps from one time to the next, the first being step 0; 0 for never.

    Args:
        steps: By name.
        early: For some names, the same before their first ``steps`` are over.

    >>> cadence = Cadence.of(50, {"update": 200, "momentum": None}, ("norm", "update", "momentum"), early=10)
    >>> [cadence.due(step, step - 1) for step in (40, 90, 100)]
    [['norm'], [], ['norm']]
    """

    steps: Mapping[str, int]
    early: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, every: int | None, each: Mapping[str, int | str | None], names: Sequence[str], early: int | None = None
    ) -> Cadence:
        """One cadence for all names but some; the word ``every`` stands for that one, and ``early`` goes with it.

        Raises:
            ConfigError: A name that is not among ``names``, or what is no number of steps; all of them at once.
        """
        own = {name: steps for name, steps in each.items() if steps != EVERY}
        mistakes = [
            Mistake(name, "no such quantity", name, tuple(names), nearest(name, (*names, EVERY)), "rename or remove it")
            for name in each
            if name not in names
        ]
        never, as_every = "0 or null for never", f"0 or null for as many as {EVERY}"
        problem, some, remedy = "this is no number of steps", "1 or more optimizer steps", "correct the value"
        mistakes += [
            Mistake(name, problem, repr(steps), (some, as_every if name == "early" else never), remedy=remedy)
            for name, steps in {EVERY: every, "early": early, **own}.items()
            if (name in names or name in (EVERY, "early"))
            and steps is not None
            and not (is_count(steps) and steps >= 0)
        ]
        if mistakes:
            raise ConfigError(*mistakes)
        each_own = {name: own.get(name, every) for name in names}
        of_first = {name: early for name in names if name not in own} if early else {}
        return cls({name: steps if is_count(steps) else 0 for name, steps in each_own.items()}, of_first)

    def __bool__(self) -> bool:
        return any(self.steps.values())

    def due(self, step: int, last: int) -> list[str]:
        """What is due at a step: a multiple of its number lies between the last step and this one."""
        common = self._common
        if common == 0 or step // common == last // common:  # as at most steps: nothing is
            return []
        return [name for name in self.steps if self.is_due(name, step, last)]

    @cached_property
    def _common(self) -> int:
        """Steps of which each number of steps is a multiple."""
        return math.gcd(*self.steps.values(), *self.early.values())

    def is_due(self, name: str, step: int, last: int) -> bool:
        """Whether one of them is."""
        every = self.steps[name]
        if step < every:
            every = min(every, self.early.get(name, every))
        return every > 0 and step // every > last // every

    def is_near(self, name: str, step: int, window: int) -> bool:
        """Whether it is due at this step, or in fewer than ``window`` steps after it."""
        every = self.steps[name]
        early = self.early.get(name, every) if step < every else every
        return every > 0 and min(-step % every, -step % early) < window


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is an integer, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)
