"""A sweep of the learning rate: the recipe that makes it, the losses that it met, and the factors that they suggest.

One factor runs over all param groups, so the ratios between their learning rates stay as the recipe has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from lit_optim.durations import Horizon
from lit_optim.errors import Mistake, RunError
from lit_optim.recipe import Recipe
from lit_optim.rules import Rule
from lit_optim.schedules import Curve, Schedule

__all__ = ["Geometric", "Sweep", "smoothed", "swept"]

_FEWEST = 8  # losses that a curve can be told from
_FALL = 0.02  # of the first loss: what falls less is flat
_WIDTH = 1 / 50  # of the sweep: the standard deviation of the smoothing


@dataclass(frozen=True)
class Geometric(Schedule):
    r"""Multiply the group's own value by a factor that grows by the same ratio with every step.

    .. math:: v(t) = s \cdot \mathrm{low} \cdot (\mathrm{high} / \mathrm{low})^{t / (n - 1)}

    with :math:`n` the ``steps``; the last factor is held.

    Args:
        low: The factor of the first step.
        high: The factor of the last.
        steps: How many, 2 or more.

    >>> Geometric(low=0.01, high=1.0, steps=3).curve(0.5, Horizon(3))(1)
    0.05
    """

    low: float
    high: float
    steps: int

    def factor(self, step: int) -> float:
        """The factor of a step."""
        done = min(step / (self.steps - 1), 1.0)
        return float(self.low * (self.high / self.low) ** done)

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        return lambda step: start * self.factor(step)


def swept(recipe: Recipe, sweep: Geometric) -> Recipe:
    """The recipe with one schedule, the sweep of every learning rate, and nothing frozen for a time only.

    Other hyperparameters stand still, or the losses would tell of their schedules as well. Layer decay, factors,
    clipping and what is frozen for good stay.
    """
    node = {"_target_": "lit_optim.sweep.Geometric", "low": sweep.low, "high": sweep.high, "steps": sweep.steps}
    return replace(recipe, rules=tuple(map(_unscheduled, recipe.rules)), schedule={"lr": node})


def _unscheduled(rule: Rule) -> Rule:
    # freeze: false, since a time takes back what an earlier rule freezes for good
    freeze = rule.freeze if rule.freeze_until is None else False
    return replace(rule, schedule={}, freeze=freeze, freeze_until=None)


@dataclass(frozen=True)
class Sweep:
    """What a sweep met.

    Args:
        factors: Of each step, what every group's own learning rate was multiplied by; rising.
        losses: Of each step, before its update, as measured; finite.
        stopped_early: Whether the loss diverged before the last step.
    """

    factors: tuple[float, ...]
    losses: tuple[float, ...]
    stopped_early: bool = False

    @cached_property
    def smoothed(self) -> tuple[float, ...]:
        """The losses, smoothed."""
        return smoothed(self.losses)

    @cached_property
    def suggestions(self) -> dict[str, float]:
        """Factors by the rule that suggests each.

        ``steepest``: where the smoothed loss falls fastest over the logarithm of the factor, away from the ends.
        ``valley``: the middle of the stretch down which it falls the most, before its minimum (after fastai's
        suggestion of that name, which looks for the longest falling subsequence).
        ``min/10``: a tenth of the factor where it is lowest.

        Sources: https://docs.fast.ai/callback.schedule.html and Smith, https://arxiv.org/abs/1506.01186, who looks at
        the same curve.

        Raises:
            RunError: The loss diverged at once, or never fell.
        """
        lowest = self._lowest()
        return {
            "steepest": self.factors[_steepest(self.factors, self.smoothed, lowest)],
            "valley": self.factors[_valley(self.smoothed[: lowest + 1])],
            "min/10": self.factors[lowest] / 10,
        }

    def _lowest(self) -> int:
        """The position of the smoothed loss's minimum, if the curve tells anything."""
        if len(self.losses) < _FEWEST:
            given = f"{len(self.losses)} losses"
            remedy = "lower --low, or take more --steps"
            raise RunError(
                Mistake("lr-find", "the loss diverged at once: there is no curve to read", given, (), (), remedy)
            )
        curve = self.smoothed
        lowest = min(range(len(curve)), key=curve.__getitem__)
        if curve[0] - curve[lowest] <= _FALL * abs(curve[0]):
            given = f"smoothed loss {curve[0]:.4g} at first, {curve[lowest]:.4g} at its lowest"
            remedy = "lower --low" if self.stopped_early else "raise --high, take more --steps, or look at the data"
            problem = "the loss never falls, so no learning rate can be told from it"
            raise RunError(Mistake("lr-find", problem, given, remedy=remedy))
        return lowest


def smoothed(losses: Sequence[float]) -> tuple[float, ...]:
    """A Gaussian mean over neighbours on both sides; a running mean of the past would move every feature to the right.

    Args:
        losses: Any number of them.
    """
    deviation = max(1.0, _WIDTH * len(losses))
    reach = math.ceil(3 * deviation)
    weights = [math.exp(-((offset / deviation) ** 2) / 2) for offset in range(reach + 1)]
    means = []
    for here in range(len(losses)):
        reached = min(reach, here, len(losses) - 1 - here)  # as many on both sides, or the ends of a slope are bent
        near = range(here - reached, here + reached + 1)
        total = sum(weights[abs(there - here)] for there in near)
        means.append(sum(weights[abs(there - here)] * losses[there] for there in near) / total)
    return tuple(means)


def _steepest(factors: Sequence[float], curve: Sequence[float], lowest: int) -> int:
    """Where the slope over the logarithm is lowest; the ends, where few neighbours smooth it, don't count."""
    margin = max(2, len(curve) // 20)
    inside = range(margin, min(lowest, len(curve) - 1 - margin) + 1) or range(1, max(2, lowest))

    def slope(here: int) -> float:
        width = math.log(factors[here + 1] / factors[here - 1])
        return (curve[here + 1] - curve[here - 1]) / width

    return min(inside, key=slope)


def _valley(curve: Sequence[float]) -> int:
    """The middle of the stretch that only falls and falls the most, and so in its second third.

    The longest may be noise, where the loss doesn't move yet.
    """
    best, start = (0, 0), 0
    for here, (one, other) in enumerate(pairwise(curve), 1):
        if other >= one:
            start = here
        elif curve[start] - other > curve[best[0]] - curve[best[1]]:
            best = (start, here)
    return sum(best) // 2
