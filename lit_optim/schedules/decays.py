"""One move, after a warm-up if there is one: the schedules that most runs use."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lit_optim.durations import UNKNOWN_END, Duration, Horizon, steps_of
from lit_optim.errors import Mistake, PlanError
from lit_optim.schedules.arguments import chosen, flag, goal, number, until
from lit_optim.schedules.base import Curve
from lit_optim.schedules.shapes import SHAPES, Progress, Shape, half_cosine, moving, straight
from lit_optim.schedules.warmed import Warmed

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSquareRoot",
    "Linear",
    "Polynomial",
    "WarmupCosine",
    "WarmupStableDecay",
]


@dataclass(frozen=True)
class Constant(Warmed):
    r"""Hold :math:`s \cdot \mathrm{factor}` throughout.

    .. math:: v(t) = s \cdot \mathrm{factor}, \quad t \ge w

    Args:
        factor: Of the group's own value; 1 leaves it alone.

    >>> Constant().curve(0.1, Horizon(100))(50)
    0.1
    """

    factor: float = 1.0

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        value = start * number(self.factor, "factor")
        return value, lambda step: value


@dataclass(frozen=True)
class Linear(Warmed):
    r"""Move in a straight line to the final value, then hold it.

    .. math:: v(t) = a + (b - a) \cdot \min((t - w) / (n - w), 1), \quad t \ge w

    with :math:`b` the final value and :math:`n` the ``duration`` in steps; :math:`a` is :math:`s` after a warm-up, and
    :math:`s \cdot \mathrm{start\_factor}` where there is none. A duration of 0 is the final value at once.
    ``start_factor=0, final_factor=1`` is a warm-up by itself.

    Args:
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        start_factor: Of the group's own value, at step 0; if not given, 0 with a warm-up and 1 without.
        duration: When the move is over, counted from step 0.

    >>> Linear(final_value=0.2).curve(0.1, Horizon(100))(50)
    0.15000000000000002
    """

    final_factor: float | None = None
    final_value: float | None = None
    duration: Duration = "100%"

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        first = start
        if not warmup and self.start_factor is not None:
            first = start * number(self.start_factor, "start_factor")
        return first, _to_the_end(self, first, start, horizon, warmup, straight)


@dataclass(frozen=True)
class Polynomial(Warmed):
    r"""Move from the group's own value to the final one along a power of the remaining time.

    .. math:: v(t) = b + (s - b) \cdot (1 - \min((t - w) / (n - w), 1))^p, \quad t \ge w

    with :math:`b` the final value, :math:`n` the ``duration`` in steps and :math:`p` the ``power``; 1 is `Linear`.

    Args:
        power: Above 0; 2 falls fast and lands softly, 0.5 the other way round.
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        duration: When the move is over, counted from step 0.

    >>> Polynomial(power=2).curve(1.0, Horizon(100))(50)
    0.25
    """

    power: float = 2.0
    final_factor: float | None = None
    final_value: float | None = None
    duration: Duration = "100%"

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        power = number(self.power, "power", above=0.0)
        return start, _to_the_end(self, start, start, horizon, warmup, lambda time: 1.0 - (1.0 - time) ** power)


@dataclass(frozen=True)
class Cosine(Warmed):
    r"""Fall from the group's own value to the final one along half a cosine wave (SGDR without restarts).

    .. math:: v(t) = b + (s - b) \cdot \tfrac{1}{2} (1 + \cos(\pi \min((t - w) / (n - w), 1))), \quad t \ge w

    with :math:`b` the final value and :math:`n` the ``duration`` in steps. Step :math:`w` uses exactly :math:`s`.

    Args:
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.
        duration: When the fall is over, counted from step 0.

    Source: Loshchilov and Hutter, https://arxiv.org/abs/1608.03983

    >>> Cosine(final_factor=0.1).curve(1.0, Horizon(100))(100)
    0.1
    """

    final_factor: float | None = None
    final_value: float | None = None
    duration: Duration = "100%"

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        return start, _to_the_end(self, start, start, horizon, warmup, half_cosine)


@dataclass(frozen=True)
class WarmupCosine(Cosine):
    """`Cosine` with a warm-up of 5% unless told otherwise: what most transformers are trained with.

    A warm-up of 0 is `Cosine`; one as long as the run never falls.

    >>> WarmupCosine(warmup="10%").curve(1.0, Horizon(100))(5)
    0.5
    """

    warmup: Duration = field(default="5%", kw_only=True)


@dataclass(frozen=True)
class WarmupStableDecay(Warmed):
    r"""Rise, hold the group's own value, and fall to the final one over the last steps of the run.

    .. math:: v(t) = s + (b - s) \cdot f(\max(t - (T - d), 0) / d), \quad t \ge w

    with :math:`b` the final value, :math:`d` the ``decay`` in steps and :math:`f` the ``shape``: :math:`x` (linear),
    :math:`\tfrac{1}{2} (1 - \cos \pi x)` (cosine) or :math:`\sqrt{x}` (sqrt). As long as the fall has not begun, how
    long the run is makes no difference: a checkpoint of the stable phase can be trained further, or decayed.

    Args:
        warmup: How long the value rises before anything else happens.
        decay: How long the fall at the end takes; warm-up and decay fit into the run together.
        shape: Of the fall: linear, cosine or sqrt.
        final_factor: Of the group's own value; 0 unless ``final_value`` is given.
        final_value: The value itself, in place of ``final_factor``.

    Source: Hu et al., https://arxiv.org/abs/2404.06395; sqrt is the 1-sqrt of Hägele et al.,
    https://arxiv.org/abs/2405.18392

    >>> WarmupStableDecay(decay="20%").curve(1.0, Horizon(100))(90)
    0.5
    """

    warmup: Duration = field(default="5%", kw_only=True)
    decay: Duration = "20%"
    shape: Shape = "linear"
    final_factor: float | None = None
    final_value: float | None = None

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        final = goal(self, "final", start, 0.0)
        progress = SHAPES[chosen(self.shape, SHAPES, "shape")]
        decay = steps_of(self.decay, horizon, "decay")
        if not horizon.is_bounded:
            problem = "the decay ends with the run, and nobody knows how long the run is"
            raise PlanError(Mistake("decay", problem, given=repr(self.decay), remedy=UNKNOWN_END))
        begin = int(horizon.total_steps) - decay
        if begin == warmup - 1:  # both were rounded up, as 5% and 95% of 630 steps are
            begin, decay = warmup, decay - 1
        if begin < warmup:
            problem = f"warm-up ({warmup} steps) and decay ({decay}) are longer than the run ({horizon.total_steps})"
            raise PlanError(Mistake("decay", problem, given=repr(self.decay), remedy="shorten one of them"))
        fall = moving(start, final, decay, progress)
        return start, lambda step: start if step < begin else fall(step - begin)


@dataclass(frozen=True)
class Exponential(Warmed):
    r"""Multiply by the same rate over every stretch of equal length.

    .. math:: v(t) = s \cdot \mathrm{rate}^{(t - w) / n}, \quad t \ge w

    with :math:`n` the length of ``every`` in steps.

    Args:
        rate: Above 0; what is left after each stretch.
        every: The stretch; torch's ExponentialLR is ``every="1epochs", staircase=True``.
        staircase: Whether the value moves only at the end of a stretch (:math:`(t - w) / n` is rounded down).

    >>> Exponential(rate=0.5, every=10).curve(1.0, Horizon(100))(20)
    0.25
    """

    rate: float = 0.95
    every: Duration = "1epochs"
    staircase: bool = False

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        rate = number(self.rate, "rate", above=0.0)
        every = steps_of(self.every, horizon, "every")
        if horizon.epoch_steps and "epoch" in str(self.every):
            raise PlanError(Mistake("every", "epochs of this run differ", repr(self.every), remedy="write it in steps"))
        if every == 0:
            raise PlanError(Mistake("every", "a stretch of no step", given=repr(self.every), remedy="give at least 1"))
        if flag(self.staircase, "staircase"):
            return start, lambda step: start * float(rate ** ((step - warmup) // every))
        return start, lambda step: start * float(rate ** ((step - warmup) / every))


@dataclass(frozen=True)
class InverseSquareRoot(Warmed):
    r"""Fall with one over the square root of the step, without an end.

    .. math:: v(t) = s \cdot \sqrt{n / (n + t - w)}, \quad t \ge w

    with :math:`n` the ``timescale`` in steps. Where that is the warm-up, as it is if not given, :math:`v(t) = s \cdot
    \sqrt{w / t}`. It needs no end of the run, and a run that goes on continues the same curve.

    Args:
        timescale: After how long 71% of it is left (one over the square root of 2), counted from the end of the
            warm-up; it may be longer than the run. If not given, the warm-up, or 10,000 steps where there is none.

    Source: the schedule of Vaswani et al., https://arxiv.org/abs/1706.03762, with the group's own value as its peak

    >>> InverseSquareRoot(warmup=100).curve(1.0, Horizon(1000))(400)
    0.5
    """

    timescale: Duration | None = None

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """See `Warmed.rest`."""
        timescale = warmup or 10_000
        if self.timescale is not None:
            in_percent = "%" in str(self.timescale)
            timescale = steps_of(self.timescale, horizon if in_percent else horizon.without_end(), "timescale")
        if timescale == 0:
            problem = "a timescale of no step"
            raise PlanError(Mistake("timescale", problem, given=repr(self.timescale), remedy="give at least 1"))
        return start, lambda step: start * math.sqrt(timescale / (timescale + step - warmup))


def _to_the_end(
    schedule: Linear | Polynomial | Cosine,
    first: float,
    start: float,
    horizon: Horizon,
    warmup: int,
    progress: Progress,
) -> Curve:
    """From ``first`` at the end of the warm-up to the final value, which is reached once the duration is over."""
    final = goal(schedule, "final", start, 0.0)
    move = moving(first, final, until(schedule.duration, horizon, warmup) - warmup, progress)
    return lambda step: move(step - warmup)
