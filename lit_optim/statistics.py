"""The figures of a step, from what was summed over its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lit_optim.measurement import SUMS_OF, Measurement, numel_of

__all__ = ["Figures", "figures"]

_MEANS = ("effective_step", "zero_grads", "nonfinite_grads")
_Array = npt.NDArray[np.float64]


class Figures(NamedTuple):
    """The results of one step.

    Args:
        groups: Quantity → group → value. What a group lacks (gradients, a momentum) has no entry.
        totals: Quantity → its value over all groups.
        nonfinite: The parameters with a gradient that is infinite or NaN, in the order of the groups, each with the
            name of its group.
    """

    groups: dict[str, dict[str, float]]
    totals: dict[str, float]
    nonfinite: list[tuple[str, Tensor]]


def figures(measurements: Sequence[Measurement], values: Sequence[float]) -> Figures:
    """What the vectors of some measurements say, one behind the other, brought from the device and summed over ranks.

    Args:
        measurements: Of one step, with the same quantities.
        values: Their `Measurement.vector`s, concatenated.
    """
    names: list[str] = []
    numbers, present, group_of, numel = [], [], [], []
    parameters: list[Tensor] = []
    rest = np.array(values, dtype=np.float64)
    for one in measurements:
        own, rest = rest[: one.size], rest[one.size :]
        count = len(one.parameters)
        numbers.append(own.reshape(len(one.rows), count))
        present.append(np.array([one.present(row) for row in one.rows], dtype=bool).reshape(-1, count))
        group_of += [len(names) + group for group in one.group_of]
        numel += [numel_of(parameter) for parameter in one.parameters]
        parameters += one.parameters
        names += one.names
    if not measurements or not measurements[0].rows:
        return Figures({}, {}, [])
    of_each, is_there = np.hstack(numbers), np.hstack(present)
    sums = _by_group(np.where(is_there, of_each, 0.0), group_of, len(names))
    sizes = _by_group(is_there * np.array(numel, dtype=np.float64), group_of, len(names))
    place = {row: place for place, row in enumerate(measurements[0].rows)}
    with np.errstate(divide="ignore", invalid="ignore"):
        norms, means = np.sqrt(sums), sums / sizes
        ratios = norms[place["update"]] / norms[place["parameter"]] if {"update", "parameter"} <= {*place} else norms[0]
    of_groups: dict[str, dict[str, float]] = {}
    totals: dict[str, float] = {}
    for quantity in measurements[0].quantities:
        row = place[SUMS_OF[quantity][0]]
        values_of = ratios if quantity == "update_ratio" else means[row] if quantity in _MEANS else norms[row]
        *each, total = values_of.tolist()
        *there, somewhere = (sizes[row] > 0).tolist()
        of_groups[quantity] = {name: value for name, value, is_in in zip(names, each, there, strict=True) if is_in}
        if somewhere:
            totals[quantity] = total
    bad = (
        np.flatnonzero(is_there[place["nonfinite"]] & (of_each[place["nonfinite"]] > 0)) if "nonfinite" in place else ()
    )
    return Figures(of_groups, totals, [(names[group_of[one]], parameters[one]) for one in bad])


def _by_group(numbers: _Array, group_of: Sequence[int], count: int) -> _Array:
    """(rows, parameters) → (rows, groups + 1): sums over each group's parameters, and over all of them at the end."""
    rows = len(numbers)
    places = np.arange(rows)[:, np.newaxis] * count + np.array(group_of, dtype=np.intp)
    sums = np.bincount(places.ravel(), weights=numbers.ravel(), minlength=rows * count).reshape(rows, count)
    return np.column_stack([sums, sums.sum(axis=1)])
