from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runfolders import make_run

import lit_optim as lo
from lit_optim.runs.curves import Band, band, bands
from lit_optim.runs.reading import Run, read_run

CURVES = st.lists(st.dictionaries(st.integers(0, 9), st.floats(-1e6, 1e6), min_size=1), min_size=1, max_size=4)


def runs(tmp_path: Path, *curves: list[float]) -> list[Run]:
    return [
        read_run(make_run(tmp_path / f"{number}", metrics={"val/acc": curve})) for number, curve in enumerate(curves)
    ]


def test_a_band_goes_from_the_lowest_to_the_highest_around_the_mean() -> None:
    assert band("a", [{0: 1.0, 5: 2.0}, {0: 3.0, 5: 2.0}]) == Band("a", (0, 5), (2.0, 2.0), (1.0, 2.0), (3.0, 2.0), 2)


def test_or_a_standard_deviation_to_both_sides_of_it() -> None:
    found = band("a", [{0: 1.0, 5: 2.0, 6: math.nan}, {0: 3.0, 5: 2.0, 6: 1.0}], "std")
    assert (found.mean[:2], found.n) == ((2.0, 2.0), 2)
    assert (found.low[:2], found.high[:2]) == ((2.0 - math.sqrt(2), 2.0), (2.0 + math.sqrt(2), 2.0))
    assert math.isnan(found.low[2])
    assert band("a", [{0: 1.0}], "std") == Band("a", (0,), (1.0,), (1.0,), (1.0,), 1)


@given(CURVES)
def test_it_stands_at_the_steps_that_all_share_and_holds_every_value(curves: list[dict[int, float]]) -> None:
    curves = [dict(sorted(curve.items())) for curve in curves]
    found = band("a", curves)
    assert [*found.steps] == sorted(set.intersection(*map(set, curves)))
    for step, low, mean, high in zip(found.steps, found.low, found.mean, found.high, strict=True):
        values = [curve[step] for curve in curves]
        assert (low, high) == (min(values), max(values))
        assert low - 1e-9 <= mean <= high + 1e-9


def test_there_is_a_gap_where_a_value_is_not_finite() -> None:
    found = band("a", [{0: 1.0, 1: math.nan, 2: 3.0}, {0: 1.0, 1: 2.0, 2: math.inf}])
    for values in (found.mean, found.low, found.high):
        assert [math.isnan(value) for value in values] == [False, True, True]


def test_every_row_that_has_the_tag_has_a_band(tmp_path: Path) -> None:
    one, two, other = runs(tmp_path, [0.5, 0.25], [0.5, 0.75], [1.0])
    (tmp_path / "none").mkdir()
    without = Run(tmp_path / "none", "finished")
    problems: list[str] = []
    ticked: list[Run] = []
    found = bands([("a", [one, two]), ("b", [other, without]), ("c", [without])], "val/acc", problems, ticked.append)
    assert [(one.name, one.mean, one.n) for one in found] == [("a", (0.5, 0.5), 2), ("b", (1.0,), 1)]
    assert (ticked, problems) == ([one, two, other, without, without], [])


def test_damage_is_told_but_not_of_a_run_that_is_still_writing(tmp_path: Path) -> None:
    [one] = runs(tmp_path, [0.5, 0.25, 0.75])
    [events] = one.folder.glob("events*")
    events.write_bytes(events.read_bytes()[:-3])
    problems: list[str] = []
    [found] = bands([("a", [one])], "val/acc", problems)
    assert found.mean == (0.5, 0.25)
    assert problems == [f"{events}: it is cut off or damaged; what stands before that is used"]
    for status in ("running", "killed"):
        assert bands([("a", [Run(one.folder, status)])], "val/acc", problems) == [found]
    assert len(problems) == 1


def test_a_tag_that_no_run_has_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(lo.ConfigError) as refusal:
        bands([("a", runs(tmp_path, [0.5]))], "val/ac", [])
    assert str(refusal.value).splitlines() == [
        "--tag: no run has recorded this",
        "    given:   val/ac",
        "    allowed: val/acc",
        "    nearest: val/acc",
        "    fix:     name one of these",
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(lo.ConfigError, match="no run has recorded any curve"):
        bands([("a", [Run(tmp_path / "none", "finished")])], "val/acc", [])
