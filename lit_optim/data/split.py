"""The stratified split: which samples go to training, validation and test, fixed for ever."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["stratified_split"]


def stratified_split(labels: NDArray[Any], sizes: Sequence[int], seed: int = 0) -> tuple[NDArray[np.int64], ...]:
    """Deal samples out to parts of the given ``sizes``, each with about the class shares of the whole.

    The ``k``-th sample (from 0) of a class of ``c``, in an order drawn from ``seed``, stands at ``(k + 1/2) / c``.
    Sorted by that number the classes interleave evenly, and the parts are consecutive pieces.

    The draw is the raw output of PCG64, which numpy never changes; what ``Generator.permutation`` makes of it may
    change from one release to the next.

    Args:
        labels: Integers, shape (N,).
        sizes: Of the parts; they add up to N.
        seed: Of the order within a class.

    Returns:
        One ascending array of indices a part; together they hold ``0 … N-1`` once each.

    Raises:
        ValueError: The sizes don't add up to N, or one is negative.

    Example:
        >>> stratified_split(np.array([0, 0, 0, 0, 1, 1]), (3, 3))
        (array([2, 3, 4]), array([0, 1, 5]))
    """
    if sum(sizes) != len(labels) or min(sizes) < 0:
        raise ValueError(f"parts of {tuple(sizes)} do not add up to {len(labels)} samples")
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    by_class = np.lexsort((np.random.PCG64(seed).random_raw(len(labels)), classes))
    first = np.cumsum(counts) - counts
    place = np.arange(len(labels)) - first[classes[by_class]]
    interleaved = by_class[np.argsort((place + 0.5) / counts[classes[by_class]], kind="stable")]
    bounds = np.cumsum((0, *sizes))
    return tuple(np.sort(interleaved[start:end]) for start, end in pairwise(bounds))
