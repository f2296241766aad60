"""The figures of a step, from what was summed over its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from lit_optim.measurement import SUMS_OF, Measurement, numel_of

__all__ = ["Figures", "figures"]

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
    wanted = measurements[0].rows
    of_each, is_there = np.hstack(numbers), np.hstack(present)
    sums = _by_group(np.where(is_there, of_each, 0.0), group_of, len(names))
    sizes = _by_group(is_there * np.array(numel, dtype=np.float64), group_of, len(names))
    of_groups: dict[str, dict[str, float]] = {}
    totals: dict[str, float] = {}
    for quantity in measurements[0].quantities:
        rows_of = [wanted.index(row) for row in SUMS_OF[quantity]]
        *each, total = _quantity(quantity, sums[rows_of], sizes[rows_of[0]]).tolist()
        *there, somewhere = (sizes[rows_of[0]] > 0).tolist()
        of_groups[quantity] = {name: value for name, value, is_in in zip(names, each, there, strict=True) if is_in}
        if somewhere:
            totals[quantity] = total
    bad = (
        is_there[wanted.index("nonfinite")] & (of_each[wanted.index("nonfinite")] > 0) if "nonfinite" in wanted else []
    )
    nonfinite = [(names[group_of[place]], parameters[place]) for place in np.flatnonzero(bad)]
    return Figures(of_groups, totals, nonfinite)


def _by_group(numbers: _Array, group_of: Sequence[int], count: int) -> _Array:
    """(rows, parameters) → (rows, groups + 1): sums over each group's parameters, and over all of them at the end."""
    rows = len(numbers)
    places = np.arange(rows)[:, np.newaxis] * count + np.array(group_of, dtype=np.intp)
    sums = np.bincount(places.ravel(), weights=numbers.ravel(), minlength=rows * count).reshape(rows, count)
    return np.column_stack([sums, sums.sum(axis=1)])


def _quantity(quantity: str, sums: _Array, sizes: _Array) -> _Array:
    """A quantity of several groups, from the sums that it is made of and the number of elements summed over."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if quantity in ("effective_step", "zero_grads", "nonfinite_grads"):
            result: _Array = sums[0] / sizes
        elif quantity == "update_ratio":
            result = np.sqrt(sums[0]) / np.sqrt(sums[1])
        else:
            result = np.sqrt(sums[0])
    return result
