"""Values over seeds as mean and standard deviation, and the difference of two such samples with its confidence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["CONFIDENCE", "Difference", "Sample", "difference", "t_quantile"]

CONFIDENCE = 0.95
"""Of every interval."""

_TINY = 1e-300  # in place of a 0 that would be divided by
_MOST_TERMS = 100_000  # of a fraction that needs some square root of the degrees of freedom


@dataclass(frozen=True)
class Sample:
    """The values of one setting, by the seed that each is of."""

    by_seed: Mapping[Hashable, float]

    @property
    def n(self) -> int:
        """How many."""
        return len(self.by_seed)

    @property
    def mean(self) -> float:
        """NaN where a value is, or where there is none."""
        return _mean([*self.by_seed.values()])

    @property
    def std(self) -> float:
        """The sample's standard deviation, over n − 1; NaN for fewer than two values."""
        return math.sqrt(_variance([*self.by_seed.values()]))


@dataclass(frozen=True)
class Difference:
    """One sample's mean less another's.

    Args:
        mean: The difference of the means; of the pairs where they are paired.
        low: The lower end of the confidence interval; None where there are too few values for one.
        high: The upper end likewise.
        kind: ``paired`` where each value of one sample has its partner of the same seed, else ``Welch``.
        counts: The values on both sides that it is of.
    """

    mean: float
    low: float | None
    high: float | None
    kind: Literal["paired", "Welch"]
    counts: tuple[int, int]


def difference(one: Sample, other: Sample) -> Difference:
    """Compare two samples: pair by pair where all seeds of one are among the other's, else by Welch's test.

    Pairing takes away what a seed does to both sides (the same initial weights, the same order of samples). Welch's
    interval supposes independent samples and no equal variances, with the degrees of freedom of Welch and Satterthwaite
    (Welch, Biometrika 34, 1947).
    """
    shared = [seed for seed in one.by_seed if seed in other.by_seed]
    if shared and len(shared) == min(one.n, other.n):
        pairs = [one.by_seed[seed] - other.by_seed[seed] for seed in shared]
        error = math.sqrt(_variance(pairs) / len(pairs))
        return _difference(_mean(pairs), error, len(pairs) - 1, "paired", (len(pairs), len(pairs)))
    squares = [_variance([*sample.by_seed.values()]) / max(1, sample.n) for sample in (one, other)]
    freedom = 0.0
    if min(one.n, other.n) > 1:
        parts = sum(square**2 / (sample.n - 1) for square, sample in zip(squares, (one, other), strict=True))
        freedom = sum(squares) ** 2 / parts if parts > 0 else min(one.n, other.n) - 1
    return _difference(one.mean - other.mean, math.sqrt(sum(squares)), freedom, "Welch", (one.n, other.n))


def t_quantile(probability: float, freedom: float) -> float:
    """The value that Student's t stays below with this probability, right to 1e-8 of itself up to ten million degrees.

    Args:
        probability: From 0.5 up to, but not including, 1.
        freedom: Degrees of freedom, above 0, whole or not.
    """
    tail = 2 * (1 - probability)
    high = 1.0
    while _two_tails(high, freedom) > tail:
        high *= 2
    low = 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _two_tails(middle, freedom) > tail else (low, middle)
    return high


def _difference(
    mean: float, error: float, freedom: float, kind: Literal["paired", "Welch"], counts: tuple[int, int]
) -> Difference:
    if freedom <= 0 or not math.isfinite(error):
        return Difference(mean, None, None, kind, counts)
    reach = t_quantile((1 + CONFIDENCE) / 2, freedom) * error
    return Difference(mean, mean - reach, mean + reach, kind, counts)


def _mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _variance(values: list[float]) -> float:
    return statistics.variance(values) if len(values) > 1 else math.nan


def _two_tails(t: float, freedom: float) -> float:
    """The probability of being further from 0 than t (https://dlmf.nist.gov/8.17, with x = ν / (ν + t²))."""
    square = t * t
    return _incomplete_beta(freedom / (freedom + square), square / (freedom + square), freedom / 2, 0.5)


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """The regularized incomplete beta function; ``rest`` is 1 − x, which keeps its digits where x is nearly 1."""
    if min(x, rest) <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(rest, x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(log_front) * _continued_fraction(x, a, b) / a


def _continued_fraction(x: float, a: float, b: float) -> float:
    """https://dlmf.nist.gov/8.17.E22, evaluated from its front (Lentz, Applied Optics 15, 1976)."""
    value = upper = 1.0
    lower = 0.0
    for index in range(1, _MOST_TERMS):
        m = index // 2
        if index % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        upper = 1 + term / (upper or _TINY)
        lower = 1 / ((1 + term * lower) or _TINY)
        value *= upper * lower
        if abs(upper * lower - 1) < 1e-15:
            break
    return 1 / value
