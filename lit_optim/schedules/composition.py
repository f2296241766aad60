"""Schedules made of schedules: a warm-up in front of any, and one after the other."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lit_optim.durations import Duration, Horizon, steps_of
from lit_optim.errors import LitOptimError, Mistake, PlanError
from lit_optim.schedules.arguments import number, thresholds
from lit_optim.schedules.base import Curve, Schedule
from lit_optim.schedules.warmed import rising

__all__ = ["Joined", "Warmup"]


@dataclass(frozen=True)
class Warmup(Schedule):
    r"""Rise in a straight line to where another schedule begins, then follow that one from its own step 0.

    .. math::
        v(t) = \begin{cases}
            a + (u(0) - a) \cdot t / w & t < w \\
            u(t - w) & t \ge w
        \end{cases}

    with :math:`a = s \cdot \mathrm{start\_factor}` and :math:`u` the curve of the other, for which the run is what
    comes after the warm-up: its percentages are of that. This is for schedules of your own; those of this package take
    ``warmup`` themselves, and count their lengths from the beginning of the run.

    Args:
        schedule: What follows the warm-up.
        warmup: How long the rise takes.
        start_factor: Of the group's own value, at step 0.

    >>> from lit_optim.schedules import Milestones
    >>> curve = Warmup(Milestones(at=["50%"], factors=[0.1]), warmup=20).curve(1.0, Horizon(100))
    >>> [curve(step) for step in (0, 10, 20, 59, 60)]
    [0.0, 0.5, 1.0, 1.0, 0.1]
    """

    schedule: Schedule
    warmup: Duration = "5%"
    start_factor: float = 0.0

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        warmup = steps_of(self.warmup, horizon, "warmup")
        first = start * number(self.start_factor, "start_factor")
        rest = _from(warmup, None, self.schedule, "schedule", start, horizon)
        return rising(first, rest(warmup), warmup, rest)


@dataclass(frozen=True)
class Joined(Schedule):
    r"""Follow one schedule after the other, each from its own step 0.

    .. math:: v(t) = u_k(t - m_k), \quad m_k \le t < m_{k+1}, \quad m_0 = 0

    with :math:`u_k` the curve of schedule number :math:`k`, for which the run is the stretch from :math:`m_k` to
    :math:`m_{k+1}`: its percentages are of that. Each starts from the group's own value.

    Args:
        schedules: At least one.
        at: The step from which on each after the first is followed: one less than there are schedules.

    >>> from lit_optim.schedules import Constant, Linear
    >>> curve = Joined([Constant(), Linear(final_factor=0.5)], at=["50%"]).curve(1.0, Horizon(100))
    >>> [curve(step) for step in (0, 50, 75, 100)]
    [1.0, 1.0, 0.75, 0.5]
    """

    schedules: Sequence[Schedule]
    at: Sequence[Duration] = ()

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        if (
            isinstance(self.schedules, (Schedule, str))
            or not isinstance(self.schedules, Sequence)
            or not self.schedules
        ):
            problem, remedy = "a list of schedules is needed", "write schedules: [{_target_: …}, {_target_: …}]"
            raise PlanError(Mistake("schedules", problem, given=repr(self.schedules), remedy=remedy))
        begins = [0, *thresholds(self.at, horizon)]
        if len(begins) != len(self.schedules) or 0 in begins[1:]:
            problem = f"{len(self.schedules)} schedules meet at {len(self.schedules) - 1} steps after step 0"
            remedy = "give one step for each schedule after the first"
            raise PlanError(Mistake("at", problem, given=repr(list(self.at)), remedy=remedy))
        ends = [end for _, end in pairwise([*begins, None])]
        curves = [
            _from(begin, end, schedule, f"schedules.{place}", start, horizon)
            for place, (begin, end, schedule) in enumerate(zip(begins, ends, self.schedules, strict=True))
        ]
        return lambda step: curves[bisect.bisect_right(begins, step) - 1](step)


def _from(begin: int, end: int | None, schedule: object, key: str, start: float, horizon: Horizon) -> Curve:
    """The curve of a schedule that is followed in a stretch of the run, of the step in the run."""
    if not isinstance(schedule, Schedule):
        remedy = f"write {key}: {{_target_: lit_optim.schedules.Cosine}}, say"
        raise PlanError(Mistake(key, "a schedule is needed", given=repr(schedule), remedy=remedy))
    try:
        curve = schedule.curve(start, horizon.stretch(begin, end))
    except LitOptimError as error:
        raise PlanError(*(mistake.under(key) for mistake in error.mistakes)) from error
    return lambda step: curve(step - begin)
