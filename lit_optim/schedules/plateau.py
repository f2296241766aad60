r"""Reduce on plateau: a value shrinks whenever a metric has stopped getting better.

Only the warm-up is known before a run, so the curve holds no more than that. The rest is a pure function as well, of
what was seen: `Plateau.look` makes of one `Standing` and a value of the metric the next, and `Plateau.reduced` says
what a value has become after so many reductions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from lit_optim.durations import Horizon, steps_of
from lit_optim.errors import Mistake, PlanError
from lit_optim.schedules.base import Curve
from lit_optim.schedules.warmed import Warmed

__all__ = ["Plateau", "Standing"]

_CHOICES = {"mode": ("min", "max"), "threshold_mode": ("rel", "abs")}

_NUMBERS = {
    "factor": (math.ulp(0.0), 1 - math.ulp(0.5), "above 0 and below 1"),
    "threshold": (0.0, sys.float_info.max, "of at least 0"),
    "min_factor": (0.0, 1.0, "from 0 to 1"),
}


@dataclass(frozen=True)
class Standing:
    """What has come of a metric's values so far.

    Args:
        best: The best value; before the first, infinity (or minus infinity where the metric is to rise).
        reductions: How many times the value was reduced.
        bad: Looks since the best one, or since a reduction.
        cooldown: Looks to come in which nothing counts as bad.
    """

    best: float
    reductions: int = 0
    bad: int = 0
    cooldown: int = 0


@dataclass(frozen=True)
class Plateau(Warmed):
    r"""Rise to the group's own value, then multiply by ``factor`` whenever a metric has stopped getting better.

    .. math:: v(t) = s \cdot \max(\mathrm{factor}^r, \mathrm{min\_factor}), \quad t \ge w

    with :math:`r` the number of reductions so far. Groups with the same schedule share :math:`r`, so that their ratios
    survive. Every fresh value of the metric is one look; what it was before the warm-up was over doesn't
    count. Decisions are those of torch's ReduceLROnPlateau: after more than ``patience`` looks in a row that
    were not better than the best one by the threshold, the value is reduced, and in the ``cooldown`` looks that follow
    none counts as bad. NaN is never better.

    Args:
        monitor: The name under which the metric is logged.
        mode: ``min`` where a lower value is better, ``max`` where a higher one is.
        factor: What is left after each reduction; above 0 and below 1.
        patience: Looks without improvement that are borne.
        threshold: By how much a value has to be better than the best one.
        threshold_mode: Whether the threshold is a share of the best value (``rel``) or a difference (``abs``).
        cooldown: Looks after a reduction in which nothing counts as bad.
        min_factor: What is left at least, of the group's own value; from 0 to 1.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html

    >>> plateau = Plateau(monitor="val/loss", patience=1)
    >>> standing = plateau.begin()
    >>> for value in (2.0, 1.0, 1.0, 1.0):
    ...     standing = plateau.look(standing, value)
    >>> plateau.reduced(0.5, standing.reductions)
    0.05
    """

    monitor: str
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_factor: float = 0.0

    @property
    def label(self) -> str:
        """What its curve leaves out, for who sees it."""
        return f"depends on {self.monitor}"

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """The group's own value; see `Warmed.rest`."""
        mistakes = tuple(self._mistakes())
        if mistakes:
            raise PlanError(*mistakes)
        return start, lambda step: start

    def first_look(self, horizon: Horizon) -> int:
        """The steps that have to be taken before the metric counts."""
        return steps_of(self.warmup, horizon, "warmup")

    def begin(self) -> Standing:
        """Where it stands before the first look."""
        return Standing(math.inf if self.mode == "min" else -math.inf)

    def look(self, standing: Standing, value: float) -> Standing:
        """Where it stands after one more value of the metric."""
        better = self._is_better(value, standing.best)
        best = value if better else standing.best
        bad = 0 if better or standing.cooldown else standing.bad + 1
        if bad > self.patience:
            return Standing(best, standing.reductions + 1, 0, self.cooldown)
        return Standing(best, standing.reductions, bad, max(0, standing.cooldown - 1))

    def reduced(self, value: float, reductions: int) -> float:
        """What the curve's value has become after so many reductions."""
        return value * max(self.factor**reductions, self.min_factor)

    def _is_better(self, value: float, best: float) -> bool:
        worse = -self.threshold if self.mode == "min" else self.threshold
        bound = best * (1.0 + worse) if self.threshold_mode == "rel" else best + worse
        return value < bound if self.mode == "min" else value > bound

    def _mistakes(self) -> Iterator[Mistake]:
        if not isinstance(self.monitor, str) or not self.monitor:
            yield Mistake(
                "monitor", "the name of a metric is needed", repr(self.monitor), remedy="for example val/loss"
            )
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            if value not in choices:
                yield Mistake(field, "no such choice", repr(value), choices, remedy=f"write {' or '.join(choices)}")
        for field in ("patience", "cooldown"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                yield Mistake(field, "a number of looks is needed", repr(value), remedy="write 0 or more")
        for field, (least, most, words) in _NUMBERS.items():
            value = getattr(self, field)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
                yield Mistake(field, f"a number {words} is needed", repr(value), remedy="correct the value")
