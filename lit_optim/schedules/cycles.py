"""Schedules that go up and down: restarts, and one cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lit_optim.durations import Duration, Horizon, steps_of
from lit_optim.errors import Mistake, PlanError
from lit_optim.schedules.arguments import chosen, flag, goal, number, until, whole
from lit_optim.schedules.base import Curve, Schedule
from lit_optim.schedules.shapes import SHAPES, Shape, half_cosine, through
from lit_optim.schedules.warmed import Warmed

__all__ = ["CosineRestarts", "OneCycle"]


@dataclass(frozen=True)
class CosineRestarts(Warmed):
    r"""Fall along half a cosine wave, jump back, and fall again.

    .. math:: v(t) = b + (s q^k - b) \cdot \tfrac{1}{2} (1 + \cos(\pi x_k / p_k)), \quad t \ge w

    in cycle number :math:`k` (from 0), which is :math:`p_k = p \cdot \mathrm{growth}^k` steps long, with :math:`x_k`
    the steps since it began, :math:`q` the ``peak_factor`` and :math:`b` the final value. The first cycle begins after
    the warm-up. Given ``cycles``, :math:`p` is such that the last one is over with the ``duration``, and the final
    value stands from there on; given ``period``, that is :math:`p`, and cycles follow each other without an end.

    Args:
        cycles: How many there are; 4 if neither this nor ``period`` is given.
        period: How long the first one is, in place of ``cycles``.
        growth: How much longer each is than the one before, at least 1.
        peak_factor: What each cycle begins with, of what the one before did; above 0.
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        duration: When the last of ``cycles`` is over, counted from step 0.

    Source: Loshchilov and Hutter, https://arxiv.org/abs/1608.03983

    >>> curve = CosineRestarts(cycles=2).curve(1.0, Horizon(100))
    >>> curve(0), round(curve(49), 3), curve(50), curve(100)
    (1.0, 0.001, 1.0, 0.0)
    """

    cycles: int | None = None
    period: Duration | None = None
    growth: float = 1.0
    peak_factor: float = 1.0
    final_factor: float | None = None
    final_value: float | None = None
    duration: Duration = "100%"

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        growth, shrink = number(self.growth, "growth"), number(self.peak_factor, "peak_factor", above=0.0)
        if growth < 1.0:
            problem = "cycles that get shorter and shorter never reach the end of the run"
            raise PlanError(Mistake("growth", problem, given=repr(self.growth), remedy="set growth to 1 or more"))
        final = goal(self, "final", start, 0.0)
        last, length, share = self._lengths(horizon, warmup, growth)

        def value(step: int) -> float:
            number, done = _cycle((step - warmup) * share, length, growth)
            if last is not None and number >= last:
                return final
            peak = start * shrink**number
            return peak + (final - peak) * half_cosine(done)

        return start, value

    def _lengths(self, horizon: Horizon, warmup: int, growth: float) -> tuple[int | None, float, int]:
        """How many cycles there are (None: no end), how long the first is, and in which share of a step.

        Equal cycles are measured in shares of a step in which they are whole, so that none begins a step too late.
        """
        if self.period is not None:
            if self.cycles is not None:
                problem = "cycles and period both say how long a cycle is"
                given = f"cycles={self.cycles}, period={self.period}"
                raise PlanError(Mistake("period", problem, given=given, remedy="keep one of them"))
            period = steps_of(self.period, horizon, "period")
            if period == 0:
                problem = "a cycle of no step"
                raise PlanError(Mistake("period", problem, given=repr(self.period), remedy="give at least 1"))
            return None, period, 1
        count = 4 if self.cycles is None else whole(self.cycles, "cycles")
        steps = until(self.duration, horizon, warmup) - warmup
        if steps < count:
            problem = f"{count} cycles need at least as many steps, and there are {steps}"
            raise PlanError(
                Mistake("cycles", problem, given=repr(self.cycles), remedy="give fewer, or lengthen the run")
            )
        if growth == 1.0:
            return count, steps, count
        return count, steps * (growth - 1.0) / (growth**count - 1.0), 1


def _cycle(at: int, length: float, growth: float) -> tuple[int, float]:
    """The cycle that a time falls into, and the share of it that is over."""
    if growth == 1.0:
        number, since = divmod(at, length)
        return int(number), since / length

    def begin(number: int) -> float:
        return length * (growth**number - 1.0) / (growth - 1.0)

    number = int(math.log(1.0 + at * (growth - 1.0) / length, growth) + 1e-9)
    return number, max(0.0, at - begin(number)) / (length * growth**number)


@dataclass(frozen=True)
class OneCycle(Schedule):
    r"""Rise to a peak and fall far below the start: one cycle for the whole run.

    .. math:: v(0) = a, \quad v(w) = p, \quad v(n) = b

    and between these a move of the ``shape`` :math:`f`, from :math:`v_0` at :math:`m_0` to :math:`v_1` at :math:`m_1`
    by :math:`v_0 + (v_1 - v_0) \cdot f((t - m_0) / (m_1 - m_0))`. :math:`a` is the first value, :math:`p` the peak (the
    group's own value), :math:`b` the final value, :math:`w` the ``warmup`` and :math:`n` the ``duration`` in steps.
    With ``three_phase`` it is back at :math:`a` at step :math:`2 w`. For the momentum, which moves against the learning
    rate, write a second one with the same lengths: start_factor 1, a ``peak_factor`` below 1, final_factor 1.

    Args:
        warmup: When the peak is reached.
        start_factor: Of the group's own value, at step 0; 0.04 unless ``start_value`` is given.
        start_value: The value itself, in place of ``start_factor``.
        peak_factor: Of the group's own value, at the turn; 1 unless ``peak_value`` is given.
        peak_value: The value itself, in place of ``peak_factor``.
        final_factor: Of the group's own value; 0.000004 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        shape: Of each move: cosine, linear or sqrt.
        three_phase: Whether it falls to where it started as fast as it rose, and to the final value after that.
        duration: When the final value is reached, counted from step 0.

    Source: Smith and Topin, https://arxiv.org/abs/1708.07120; two phases and the cosine are fastai's, as in torch

    >>> curve = OneCycle().curve(1.0, Horizon(100))
    >>> curve(0), curve(30), curve(100)
    (0.04, 1.0, 4e-06)
    """

    warmup: Duration = "30%"
    start_factor: float | None = None
    start_value: float | None = None
    peak_factor: float | None = None
    peak_value: float | None = None
    final_factor: float | None = None
    final_value: float | None = None
    shape: Shape = "cosine"
    three_phase: bool = False
    duration: Duration = "100%"

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        warmup = steps_of(self.warmup, horizon, "warmup")
        end = until(self.duration, horizon, warmup)
        first, peak, final = (
            goal(self, where, start, factor) for where, factor in (("start", 0.04), ("peak", 1.0), ("final", 4e-6))
        )
        points = [(0, first), (warmup, peak), (end, final)]
        if flag(self.three_phase, "three_phase"):
            if 2 * warmup > end + 1:  # half of an odd number of steps is rounded up
                problem = f"rise and fall take {2 * warmup} steps, more than the {end} of the duration"
                raise PlanError(Mistake("warmup", problem, given=repr(self.warmup), remedy="make it half or less"))
            points.insert(2, (min(2 * warmup, end), first))
        return through(points, SHAPES[chosen(self.shape, SHAPES, "shape")])
