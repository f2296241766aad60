from __future__ import annotations

import math
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lit_optim.runs.intervals import Sample, difference, t_quantile

VALUES = st.lists(st.floats(-100, 100).map(lambda value: round(value, 6)), min_size=2, max_size=8)


def sample(*values: float, seeds: tuple[Hashable, ...] | None = None) -> Sample:
    return Sample(dict(zip(seeds or range(len(values)), values, strict=True)))


@pytest.mark.parametrize(
    ("freedom", "expected"),  # NIST/SEMATECH e-Handbook, section 1.3.6.7.2, column 0.975
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042), (100, 1.984)],
)
def test_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(expected, abs=5e-4)


def test_quantiles_that_have_a_closed_form() -> None:
    for probability in (0.6, 0.9, 0.975, 0.9995):
        cauchy = math.tan(math.pi * (probability - 0.5))
        assert t_quantile(probability, 1) == pytest.approx(cauchy, rel=1e-12)
        middle = 4 * probability * (1 - probability)
        assert t_quantile(probability, 2) == pytest.approx(2 * (probability - 0.5) * math.sqrt(2 / middle), rel=1e-12)
    assert t_quantile(0.5, 3) == pytest.approx(0, abs=1e-12)


@given(st.floats(0.51, 0.9999), st.floats(0.5, 1e7))
def test_quantiles_are_scipys(probability: float, freedom: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), rel=2e-8)


def test_the_standard_deviation_is_the_samples() -> None:
    assert sample(1, 2, 3, 4).mean == 2.5
    assert sample(1, 2, 3, 4).std == pytest.approx(math.sqrt(5 / 3))
    assert math.isnan(sample(1).std)
    assert math.isnan(sample().mean)
    assert math.isnan(sample(1, math.nan).mean)


@given(VALUES, st.data())
def test_pairs_are_compared_as_scipy_does(values: list[float], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.floats(-100, 100), min_size=len(values), max_size=len(values)))
    one, other = sample(*values), Sample(dict(reversed([*enumerate(others)])))
    found = difference(one, other)
    assert found.kind == "paired"
    assert found.counts == (len(values), len(values))
    if one.std + other.std > 1e-3 and stats.tstd([a - b for a, b in zip(values, others, strict=True)]) > 1e-3:
        theirs = stats.ttest_rel(values, others).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-9)


@given(VALUES, VALUES)
def test_what_does_not_pair_is_compared_by_welch_as_scipy_does(values: list[float], others: list[float]) -> None:
    one, other = sample(*values), sample(*others, seeds=tuple(range(100, 100 + len(others))))
    found = difference(one, other)
    assert found.kind == "Welch"
    assert found.counts == (len(values), len(others))
    if one.std > 1e-3 and other.std > 1e-3:
        theirs = stats.ttest_ind(values, others, equal_var=False).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-9)


def test_seeds_pair_where_all_of_one_row_are_in_the_other() -> None:
    found = difference(sample(3, 5, 100, seeds=(1, 2, 3)), sample(1, 2, seeds=(2, 1)))
    assert (found.kind, found.counts) == ("paired", (2, 2))
    assert found.mean == pytest.approx((3 - 2 + 5 - 1) / 2)
    assert difference(sample(1, 2, seeds=(1, 2)), sample(1, 2, seeds=(2, 3))).kind == "Welch"


@pytest.mark.parametrize("seeds", [(7,), (0,)])
def test_one_value_has_no_interval(seeds: tuple[int, ...]) -> None:
    found = difference(sample(3, 5), sample(1, seeds=seeds))
    assert (found.low, found.high) == (None, None)


def test_values_that_do_not_vary_have_an_interval_of_no_width() -> None:
    for seeds in ((0, 1), (5, 6)):
        found = difference(sample(3, 3), sample(1, 1, seeds=seeds))
        assert (found.mean, found.low, found.high) == (2, 2, 2)
