"""What moves in a plan, gathered so that a step costs one evaluation where many groups share a schedule.

The schedules of this package do nothing but arithmetic with a group's own value, so an array of values bound in its
place gives an array, bit for bit what each would give alone. Of a user's own schedule nobody knows that: it is
evaluated once for each value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from lit_optim.hyperparameters import value_at
from lit_optim.plan import Plan
from lit_optim.reductions import Reductions
from lit_optim.schedule_nodes import schedule_of
from lit_optim.schedules import Curve, Schedule

__all__ = ["Move", "Place", "moves_of"]

_MANY = 8  # distinct values from which on an array is faster than one evaluation for each


Place = tuple[int, str, int | None]
"""Where a number stands in an optimizer: its group, its hyperparameter, and which of the items where that is a list."""


@dataclass
class Move:
    """Numbers that one evaluation gives their values.

    Attributes:
        places: Where they stand.
        values: From the step to their values, in the same order.
    """

    places: list[Place]
    values: Callable[[int], Sequence[float]]


@dataclass
class _Alike:
    """One value, for each of ``count`` places; an object, as all here, so that a copy has reductions of its own."""

    curve: Curve
    count: int

    def __call__(self, step: int) -> list[float]:
        return [self.curve(step)] * self.count


@dataclass
class _Together:
    """A value for each place, out of one curve that was bound to an array; it may give one number for all."""

    curve: Callable[[int], np.ndarray | float]
    alone: list[Curve]

    def __call__(self, step: int) -> list[float]:
        found = self.curve(step)
        values = found.tolist() if isinstance(found, np.ndarray) else [float(found)] * len(self.alone)
        if math.isfinite(sum(values)):
            return values
        return [curve(step) for curve in self.alone]  # the first that is not finite says so


@dataclass
class _Number:
    """A scheduled number of a group."""

    place: Place
    start: float
    curve: Curve


def moves_of(plan: Plan, places: Sequence[Sequence[int]], reductions: Reductions) -> list[Move]:
    """All that is scheduled.

    Args:
        plan: The plan.
        places: Of each of its groups, where it stands in the optimizer.
        reductions: What has become of the curves that follow a metric.
    """
    families: dict[str, tuple[Mapping[str, Any], list[_Number]]] = {}
    for own, group in zip(places, plan.groups, strict=True):
        for name, curve in plan.bound(group).items():
            node, start = group.schedules[name], value_at(name, group.hyperparameters)
            _, numbers = families.setdefault(repr(node), (node, []))
            numbers += [_Number(_place(index, name, group.hyperparameters), start, curve) for index in own]
    return [move for node, numbers in families.values() for move in _moves(node, numbers, plan, reductions)]


def _moves(node: Mapping[str, Any], numbers: list[_Number], plan: Plan, reductions: Reductions) -> Iterator[Move]:
    """Those of the numbers that have the same schedule: one, or one for each distinct value."""
    schedule = schedule_of(node, "schedule")
    distinct: dict[str, list[_Number]] = {}
    for number in numbers:
        distinct.setdefault(repr(number.start), []).append(number)
    if len(distinct) >= _MANY and _is_arithmetic(schedule):
        starts = np.array([number.start for number in numbers], dtype=np.float64)
        together = reductions.over(schedule.curve(cast(float, starts), plan.horizon), node)
        alone = [reductions.over(number.curve, node) for number in numbers]
        yield Move([number.place for number in numbers], _Together(together, alone))
        return
    for same in distinct.values():
        yield Move([number.place for number in same], _Alike(reductions.over(same[0].curve, node), len(same)))


def _place(group: int, name: str, hyperparameters: Mapping[str, Any]) -> Place:
    if name in hyperparameters:
        return group, name, None
    whole, _, item = name.rpartition(".")
    return group, whole, int(item)


def _is_arithmetic(schedule: Schedule) -> bool:
    """Whether it and what is inside of it are of this package's schedules."""
    fields = [field if isinstance(field, (list, tuple)) else (field,) for field in vars(schedule).values()]
    inside = (part for field in fields for part in field if isinstance(part, Schedule))
    return type(schedule).__module__.startswith("lit_optim.schedules.") and all(map(_is_arithmetic, inside))
