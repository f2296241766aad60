"""How a value gets from one place to another: the shapes of a move, and curves made of moves."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from lit_optim.schedules.base import Curve

__all__ = ["SHAPES", "Progress", "Shape", "half_cosine", "moving", "straight", "through"]

Progress = Callable[[float], float]
"""From the share of the time that is over to the share of the way that is done; maps [0, 1] onto [0, 1]."""


def straight(time: float) -> float:
    """As much of the way as of the time."""
    return time


def half_cosine(time: float) -> float:
    r""":math:`\tfrac{1}{2} (1 - \cos \pi x)`: slow, fast, slow."""
    return 0.5 * (1.0 - math.cos(math.pi * time))


Shape = Literal["linear", "cosine", "sqrt"]

SHAPES: Mapping[str, Progress] = MappingProxyType({"linear": straight, "cosine": half_cosine, "sqrt": math.sqrt})
"""The shapes that a config may name; ``sqrt`` is fast at first."""


def moving(first: float, final: float, steps: int, progress: Progress) -> Curve:
    """From ``first`` at step 0 to exactly ``final`` at ``steps`` and after."""

    def value(step: int) -> float:
        return first + (final - first) * progress(step / steps) if step < steps else final

    return value


def through(points: Sequence[tuple[int, float]], progress: Progress) -> Curve:
    """Through each of the points ``(step, value)``, and on with the last one's value.

    Args:
        points: In the order of their steps; of two at one step the later one counts. There is no value before them.
        progress: Of the move between two of them.
    """
    steps = [step for step, _ in points]
    moves = [
        moving(value, then, until - step, progress)
        for (step, value), (until, then) in zip(points, [*points[1:], points[-1]], strict=True)
    ]

    def value(step: int) -> float:
        piece = bisect.bisect_right(steps, step) - 1
        return moves[piece](step - steps[piece])

    return value
