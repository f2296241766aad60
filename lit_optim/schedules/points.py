"""Values at given steps: held from there on, or moved between."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from lit_optim.durations import Duration, Horizon
from lit_optim.errors import Mistake, PlanError
from lit_optim.schedules.arguments import chosen, levels, thresholds
from lit_optim.schedules.base import Curve
from lit_optim.schedules.shapes import SHAPES, Shape, through
from lit_optim.schedules.warmed import Warmed

__all__ = ["Milestones", "Piecewise"]


@dataclass(frozen=True)
class Milestones(Warmed):
    r"""Re-assign the value each time the step passes a threshold, and hold it in between.

    .. math:: v(t) = v_k, \quad m_k \le t < m_{k+1}, \quad v_0 = s

    Before the first milestone the group's own value stands. Step number :math:`m` (counted from 0) is the first that
    uses what milestone :math:`m` brings: exactly :math:`m` steps were taken with the value before. They are counted
    from step 0, whatever the warm-up.

    Args:
        at: The thresholds, each later than the one before.
        values: The value that each threshold assigns, the same for every group.
        factors: In place of ``values``: of the group's own value (not of the value before), so that ratios survive.

    >>> curve = Milestones(at=[2, 4], values=[0.01, 0.001]).curve(0.1, Horizon(6))
    >>> [curve(step) for step in range(6)]
    [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """

    at: Sequence[Duration] = ()
    values: Sequence[float] | None = None
    factors: Sequence[float] | None = None

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        held = [start, *levels(self.values, self.factors, self.at, start)]
        steps = thresholds(self.at, horizon)

        def value(step: int) -> float:
            return held[bisect.bisect_right(steps, step)]

        return value(warmup), value


@dataclass(frozen=True)
class Piecewise(Warmed):
    r"""Move from point to point, and hold the last one's value.

    .. math:: v(t) = v_k + (v_{k+1} - v_k) \cdot f((t - m_k) / (m_{k+1} - m_k)), \quad m_k \le t < m_{k+1}

    with :math:`m_0 = w`, :math:`v_0 = s` and :math:`f` the ``shape``: :math:`x` (linear), :math:`\tfrac{1}{2} (1 -
    \cos \pi x)` (cosine) or :math:`\sqrt{x}` (sqrt). Without a warm-up, a first point at 0 says where it starts.

    Args:
        at: The steps of the points, each later than the one before, counted from step 0 and after the warm-up.
        values: The value at each point, the same for every group.
        factors: In place of ``values``: of the group's own value (not of the value before), so that ratios survive.
        shape: Of each move: linear, cosine or sqrt.

    >>> curve = Piecewise(at=[2, 4], factors=[1.0, 0.5]).curve(0.1, Horizon(6))
    >>> [round(curve(step), 3) for step in range(6)]
    [0.1, 0.1, 0.1, 0.075, 0.05, 0.05]
    """

    at: Sequence[Duration] = ()
    values: Sequence[float] | None = None
    factors: Sequence[float] | None = None
    shape: Shape = "linear"

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        values = levels(self.values, self.factors, self.at, start)
        points = list(zip(thresholds(self.at, horizon), values, strict=True))
        if warmup and points[0][0] <= warmup:
            problem = f"the first point is at step {points[0][0]}, and the warm-up lasts until step {warmup}"
            raise PlanError(
                Mistake("at", problem, given=repr(list(self.at)), remedy="begin later, or drop the warm-up")
            )
        return start, through([(warmup, start), *points], SHAPES[chosen(self.shape, SHAPES, "shape")])
