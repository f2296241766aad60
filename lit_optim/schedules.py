r"""Learning-rate schedules, and schedules of any other hyperparameter: pure functions of the optimizer step.

A `Schedule` is what a config names (its lengths are durations such as ``"5%"``); bound to a group's own value and a
horizon it becomes a `Curve`, a function ``step -> value`` without state. The preview of the plan and the training loop
call the same function, and a resumed run needs nothing but its step.

Most schedules multiply the group's own value by a factor, so that the ratios between groups survive. Where a schedule
takes ``final_value`` (or ``values``) in place of ``final_factor`` (``factors``), the number is the value itself.

Notation: :math:`t` is the step, counted from 0 for the first optimizer step; :math:`T` the steps of the run; :math:`s`
the group's own value. A decay that lasts until the end reaches its final value at :math:`t = T`, just after the last
step, as in torch, transformers and optax.
"""

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lit_optim.durations import UNKNOWN_END, Duration, Horizon, steps_of
from lit_optim.errors import Mistake, PlanError

__all__ = [
    "Constant",
    "Cosine",
    "Curve",
    "Exponential",
    "Linear",
    "Milestones",
    "Polynomial",
    "Schedule",
    "WarmupCosine",
]

Curve = Callable[[int], float]
"""A hyperparameter's value at an optimizer step, counted from 0."""


class Schedule(ABC):
    """What a config names; own schedules subclass it (a frozen dataclass is enough) and implement `curve`."""

    @abstractmethod
    def curve(self, start: float, horizon: Horizon) -> Curve:
        """Bind the schedule to a group's own value and a run.

        Args:
            start: The value that the recipe gives the group.
            horizon: The run that durations are measured against.

        Returns:
            A pure function from the step (0 for the first) to the value which that step uses.

        Raises:
            PlanError: A field that makes no sense, or not in this run. Its keys are field names (``warmup``).
        """


@dataclass(frozen=True)
class Constant(Schedule):
    r"""Hold :math:`s \cdot \mathrm{factor}` throughout.

    Args:
        factor: Of the group's own value; 1 leaves it alone.

    >>> Constant().curve(0.1, Horizon(100))(50)
    0.1
    """

    factor: float = 1.0

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        value = start * _number(self.factor, "factor")
        return lambda step: value


@dataclass(frozen=True)
class Linear(Schedule):
    r"""Move in a straight line from ``start_factor`` to the final value, then hold it.

    .. math:: v(t) = a + (b - a) \cdot \min(t / n, 1)

    with :math:`a = s \cdot \mathrm{start\_factor}`, :math:`b` the final value and :math:`n` the ``duration`` in steps.
    A duration of 0 is the final value at once. ``start_factor=0, final_factor=1`` is a warm-up.

    Args:
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        start_factor: Of the group's own value, at step 0.
        duration: How long the move takes.

    >>> Linear(final_value=0.2).curve(0.1, Horizon(100))(50)
    0.15000000000000002
    """

    final_factor: float | None = None
    final_value: float | None = None
    start_factor: float = 1.0
    duration: Duration = "100%"

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        first = start * _number(self.start_factor, "start_factor")
        return _moving(first, _final(self, start), steps_of(self.duration, horizon, "duration"), lambda done: done)


@dataclass(frozen=True)
class Polynomial(Schedule):
    r"""Move from the group's own value to the final one along a power of the remaining time.

    .. math:: v(t) = b + (s - b) \cdot (1 - \min(t / n, 1))^p

    with :math:`b` the final value, :math:`n` the ``duration`` in steps and :math:`p` the ``power``; 1 is `Linear`.

    Args:
        power: Above 0; 2 falls fast and lands softly, 0.5 the other way round.
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        duration: How long the move takes.

    >>> Polynomial(power=2).curve(1.0, Horizon(100))(50)
    0.25
    """

    power: float = 2.0
    final_factor: float | None = None
    final_value: float | None = None
    duration: Duration = "100%"

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        power = _number(self.power, "power", above=0.0)
        steps = steps_of(self.duration, horizon, "duration")
        return _moving(start, _final(self, start), steps, lambda done: 1.0 - (1.0 - done) ** power)


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Fall from the group's own value to the final one along half a cosine wave (SGDR without restarts).

    .. math:: v(t) = b + (s - b) \cdot \tfrac{1}{2} (1 + \cos(\pi \min(t / n, 1)))

    with :math:`b` the final value and :math:`n` the ``duration`` in steps.

    Args:
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        duration: How long the fall takes.

    Source: Loshchilov and Hutter, https://arxiv.org/abs/1608.03983

    >>> Cosine(final_factor=0.1).curve(1.0, Horizon(100))(100)
    0.1
    """

    final_factor: float | None = None
    final_value: float | None = None
    duration: Duration = "100%"

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        steps = steps_of(self.duration, horizon, "duration")
        return _moving(start, _final(self, start), steps, _half_cosine)


@dataclass(frozen=True)
class WarmupCosine(Schedule):
    r"""Rise in a straight line to the group's own value, then fall along half a cosine wave until the end of the run.

    .. math::
        v(t) = \begin{cases}
            a + (s - a) \cdot t / w & t < w \\
            b + (s - b) \cdot \tfrac{1}{2} (1 + \cos(\pi (t - w) / (T - w))) & t \ge w
        \end{cases}

    with :math:`a = s \cdot \mathrm{start\_factor}`, :math:`w` the ``warmup`` in steps and :math:`b` the final value.
    Step :math:`w` uses exactly :math:`s`. A warm-up of 0 is `Cosine`; one as long as the run never falls.

    Args:
        warmup: How long the rise takes, at most the run.
        start_factor: Of the group's own value, at step 0. The default 0 makes the first step a dry run that
            only fills the optimizer's moments, as transformers' does.
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.

    Source: the warm-up of Goyal et al., https://arxiv.org/abs/1706.02677

    >>> WarmupCosine(warmup="10%").curve(1.0, Horizon(100))(5)
    0.5
    """

    warmup: Duration = "5%"
    start_factor: float = 0.0
    final_factor: float | None = None
    final_value: float | None = None

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        if not horizon.is_bounded:
            raise PlanError(
                Mistake(
                    "warmup",
                    "the fall ends with the run, and nobody knows how long the run is",
                    remedy=UNKNOWN_END,
                )
            )
        first, final = start * _number(self.start_factor, "start_factor"), _final(self, start)
        warmup = steps_of(self.warmup, horizon, "warmup")
        rise = _moving(first, start, warmup, lambda done: done)
        fall = _moving(start, final, int(horizon.total_steps) - warmup, _half_cosine)
        return lambda step: rise(step) if step < warmup else fall(step - warmup)


@dataclass(frozen=True)
class Exponential(Schedule):
    r"""Multiply by the same rate over every stretch of equal length.

    .. math:: v(t) = s \cdot \mathrm{rate}^{t / n}

    with :math:`n` the length of ``every`` in steps.

    Args:
        rate: Above 0; what is left after each stretch.
        every: The stretch; torch's ExponentialLR is ``every="1epochs", staircase=True``.
        staircase: Whether the value moves only at the end of a stretch (:math:`t / n` is rounded down).

    >>> Exponential(rate=0.5, every=10).curve(1.0, Horizon(100))(20)
    0.25
    """

    rate: float = 0.95
    every: Duration = "1epochs"
    staircase: bool = False

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        rate = _number(self.rate, "rate", above=0.0)
        every = steps_of(self.every, horizon, "every")
        if horizon.epoch_steps and "epoch" in str(self.every):
            raise PlanError(Mistake("every", "epochs of this run differ", repr(self.every), remedy="write it in steps"))
        if every == 0:
            raise PlanError(Mistake("every", "a stretch of no step", given=repr(self.every), remedy="give at least 1"))
        if self.staircase:
            return lambda step: float(start * rate ** (step // every))
        return lambda step: float(start * rate ** (step / every))


@dataclass(frozen=True)
class Milestones(Schedule):
    """Re-assign the value each time the step passes a threshold, and hold it in between.

    Before the first milestone the group's own value stands. Step number ``m`` (counted from 0) is the first that uses
    what milestone ``m`` brings: exactly ``m`` steps were taken with the value before.

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

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        given = {name: getattr(self, name) for name in ("values", "factors") if getattr(self, name) is not None}
        if len(given) != 1:
            raise PlanError(
                Mistake(
                    "values",
                    "either `values` or `factors` is needed, not " + ("both" if given else "neither"),
                    remedy="values: [0.01, 0.001] re-assigns, factors: [0.1, 0.01] keeps the ratios between groups",
                )
            )
        [(name, steps_up)] = given.items()
        for field, items in (("at", self.at), (name, steps_up)):
            if isinstance(items, str) or not isinstance(items, Sequence):
                raise PlanError(Mistake(field, "this is a list", given=repr(items), remedy=f"write {field}: [{items}]"))
        if len(self.at) != len(steps_up) or not self.at:
            raise PlanError(
                Mistake(
                    name,
                    f"one for each of the {len(self.at)} thresholds in `at` (at least one)",
                    given=repr(list(steps_up)),
                    remedy="make the two lists equally long",
                )
            )
        thresholds = [steps_of(duration, horizon, "at") for duration in self.at]
        if any(a >= b for a, b in pairwise(thresholds)):
            raise PlanError(
                Mistake(
                    "at",
                    f"the thresholds are steps {thresholds}",
                    given=repr(list(self.at)),
                    remedy="sort them, each once",
                )
            )
        scale = 1.0 if name == "values" else start
        levels = [start, *(scale * _number(item, name) for item in steps_up)]
        return lambda step: levels[bisect.bisect_right(thresholds, step)]


def _half_cosine(done: float) -> float:
    return 0.5 * (1.0 - math.cos(math.pi * done))


def _moving(first: float, final: float, steps: int, progress: Callable[[float], float]) -> Curve:
    """From ``first`` at step 0 to exactly ``final`` at ``steps`` and after; ``progress`` maps [0, 1] onto [0, 1]."""

    def value(step: int) -> float:
        return first + (final - first) * progress(step / steps) if step < steps else final

    return value


def _final(schedule: Linear | Polynomial | Cosine | WarmupCosine, start: float) -> float:
    """The value that a decay ends on: ``final_value``, or ``final_factor`` (0 if not given) of ``start``."""
    if schedule.final_value is None:
        return start * (0.0 if schedule.final_factor is None else _number(schedule.final_factor, "final_factor"))
    if schedule.final_factor is not None:
        raise PlanError(
            Mistake(
                "final_value",
                "final_factor and final_value both say where it ends",
                given=f"final_factor={schedule.final_factor}, final_value={schedule.final_value}",
                remedy="keep final_factor (of each group's own value) or final_value (the same for every group)",
            )
        )
    return _number(schedule.final_value, "final_value")


def _number(value: object, key: str, above: float = -math.inf) -> float:
    """``value`` as a finite float above a bound, or a refusal under ``key``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > above:
        return float(value)
    bound = "" if above == -math.inf else f" above {above:g}"
    raise PlanError(
        Mistake(key, f"a finite number{bound} is needed", given=repr(value), remedy=f"set {key} to such a number")
    )
