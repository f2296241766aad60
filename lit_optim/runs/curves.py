"""The curves of rows: the mean over their seeds, and a band around it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lit_optim.errors import ConfigError, Mistake, nearest
from lit_optim.runs.logged import Curve, curve_of, tags_of
from lit_optim.runs.reading import Run

__all__ = ["Band", "Spread", "band", "bands", "recorded_tags"]

Spread = Literal["range", "std"]
"""What a band reaches over: from the lowest to the highest value, or a standard deviation to both sides of the mean."""

_ASKED = 20  # runs that are looked into for the tags there are


@dataclass(frozen=True)
class Band:
    """How a tag moves in the runs of one row.

    Args:
        name: Of the row.
        steps: The optimizer steps at which all of the runs have a value, rising.
        mean: Their mean at each.
        low: The lower end of the band at each; the mean itself where there is one run.
        high: The upper end.
        n: How many runs there are.
    """

    name: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int


def bands(
    named: Sequence[tuple[str, Sequence[Run]]],
    tag: str,
    problems: list[str],
    tick: Callable[[Run], None] = lambda run: None,
    spread: Spread = "range",
) -> list[Band]:
    """Read the curves of rows.

    Args:
        named: Each row's name and the runs that count in it.
        tag: What is drawn, ``val/loss``.
        problems: Takes what could not be read, a sentence each.
        tick: Called with each run before it is read.
        spread: What the bands reach over.

    Returns:
        A band a row; none for rows that have no value of this tag.

    Raises:
        ConfigError: No run has this tag.
    """
    found = []
    for name, runs in named:
        curves = []
        for run in runs:
            tick(run)
            curve, damaged = curve_of(run.folder, tag)
            problems += damaged if not run.may_be_cut_off else ()
            curves += [curve] if curve else []
        if curves:
            found.append(band(name, curves, spread))
    if not found:
        tags = recorded_tags([run for _, runs in named for run in runs])
        problem = "no run has recorded this" if tags else "no run has recorded any curve"
        remedy = "name one of these" if tags else "leave --plot out, or train with logger=tensorboard or csv"
        raise ConfigError(Mistake("--tag", problem, tag, tuple(tags), nearest(tag, tags), remedy))
    return found


def recorded_tags(runs: Sequence[Run]) -> list[str]:
    """The tags of all curves, as far as the first few runs have them, by name."""
    return sorted({tag for run in runs[:_ASKED] for tag in tags_of(run.folder)})


def band(name: str, curves: Iterable[Curve], spread: Spread = "range") -> Band:
    """One row's curves, one or more, as a band over the steps that they share."""
    each = list(curves)
    steps = tuple(step for step in each[0] if all(step in curve for curve in each))
    values = [[curve[step] for curve in each] for step in steps]
    nothing = [math.nan]  # where one of them is not finite
    values = [at_step if all(map(math.isfinite, at_step)) else nothing for at_step in values]
    means = [math.fsum(at_step) / len(at_step) for at_step in values]
    if spread == "range":
        ends = [(min(at_step), max(at_step)) for at_step in values]
    else:
        reach = [
            statistics.stdev(at_step, mean) if len(at_step) > 1 else 0.0
            for at_step, mean in zip(values, means, strict=True)
        ]
        ends = [(mean - std, mean + std) for mean, std in zip(means, reach, strict=True)]
    low, high = zip(*ends, strict=True) if ends else ((), ())
    return Band(name, steps, tuple(means), low, high, len(each))
