"""Schedules that may begin with a warm-up: a rise in a straight line to where the rest begins."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from lit_optim.durations import Duration, Horizon, steps_of
from lit_optim.schedules.arguments import number
from lit_optim.schedules.base import Curve, Schedule
from lit_optim.schedules.shapes import moving, straight

__all__ = ["Warmed", "rising"]


@dataclass(frozen=True, kw_only=True)
class Warmed(Schedule):
    r"""Rise in a straight line, and then go on as the subclass says.

    .. math:: v(t) = a + (p - a) \cdot t / w, \quad t < w

    with :math:`a = s \cdot \mathrm{start\_factor}` and :math:`p` the value that the rest begins with.

    Args:
        warmup: How long the value rises before anything else happens.
        start_factor: Of the group's own value, at step 0 of a warm-up. 0 if not given, which makes the first step a
            dry run that only fills the optimizer's moments, as transformers' does.

    Source: the warm-up of Goyal et al., https://arxiv.org/abs/1706.02677
    """

    warmup: Duration = 0
    start_factor: float | None = None

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`."""
        warmup = steps_of(self.warmup, horizon, "warmup")
        first = start * (0.0 if self.start_factor is None else number(self.start_factor, "start_factor"))
        peak, rest = self.rest(start, horizon, warmup)
        return rising(first, peak, warmup, rest)

    @abstractmethod
    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        """What comes after the warm-up.

        Args:
            start: The group's own value.
            horizon: The run.
            warmup: The step at which it begins.

        Returns:
            The value that the warm-up leads to, and the curve from step ``warmup`` on, of the step in the run.
        """


def rising(first: float, peak: float, warmup: int, rest: Curve) -> Curve:
    """In a straight line from ``first`` at step 0 to ``peak`` at step ``warmup``, where the rest takes over."""
    if warmup == 0:
        return rest
    rise = moving(first, peak, warmup, straight)
    return lambda step: rise(step) if step < warmup else rest(step)
