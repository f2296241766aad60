"""How often things happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.cadence import Cadence
from lit_optim.errors import ConfigError


@given(every=st.integers(1, 20), gaps=st.lists(st.integers(1, 7), min_size=1, max_size=60))
def test_every_multiple_is_met_once_by_the_step_that_reaches_it(every: int, gaps: list[int]) -> None:
    cadence = Cadence.of(every, {}, ("it",))
    steps = [sum(gaps[:count]) for count in range(len(gaps) + 1)]
    due = [step for last, step in zip([-1, *steps], steps, strict=False) if cadence.due(step, last)]
    expected = {next(step for step in steps if step >= multiple) for multiple in range(0, steps[-1] + 1, every)}
    assert due == sorted(expected)


@given(every=st.integers(1, 20), step=st.integers(0, 100), window=st.integers(1, 30))
def test_what_is_due_soon_is_near(every: int, step: int, window: int) -> None:
    cadence = Cadence.of(every, {}, ("it",))
    soon = any(cadence.is_due("it", step + k, step + k - 1) for k in range(window))
    assert cadence.is_near("it", step, window) == soon


@given(every=st.integers(1, 20), early=st.integers(1, 20), window=st.integers(1, 30))
def test_the_first_steps_have_a_cadence_of_their_own(every: int, early: int, window: int) -> None:
    cadence = Cadence.of(every, {"own": every}, ("it", "own"), early)
    due = {step: cadence.due(step, step - 1) for step in range(3 * every + window)}
    for step, names in due.items():
        assert ("own" in names) == (step % every == 0)
        assert ("it" in names) == (step % every == 0 or (step < every and step % early == 0))
    for step in range(3 * every):
        soon = any("it" in due[step + k] for k in range(window))
        assert cadence.is_near("it", step, window) == soon


@pytest.mark.parametrize("off", [0, None])
def test_zero_and_none_are_never(off: int | None) -> None:
    cadence = Cadence.of(2, {"b": off, "c": 3}, ("a", "b", "c"))
    assert [cadence.due(step, step - 1) for step in range(4)] == [["a", "c"], [], ["a"], ["c"]]
    assert not cadence.is_near("b", 0, 10**9)
    assert Cadence.of(2, {"b": "every"}, ("a", "b")) == Cadence.of(2, {}, ("a", "b"))
    assert not Cadence.of(off, {}, ("a",))
    assert Cadence.of(2, {}, ("a",), early=off) == Cadence.of(2, {}, ("a",))
    assert not Cadence.of(off, {}, ("a",), early=1)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        Cadence.of(1.5, {"nrom": 1, "norm": False}, ("norm", "ratio"), early="5")  # type: ignore[arg-type]
    assert str(refusal.value) == (
        "nrom: no such quantity\n    given:   nrom\n    allowed: norm, ratio\n    nearest: norm\n"
        "    fix:     rename or remove it\n"
        "every: this is no number of steps\n    given:   1.5\n"
        "    allowed: 1 or more optimizer steps, 0 or null for never\n    fix:     correct the value\n"
        "early: this is no number of steps\n    given:   '5'\n"
        "    allowed: 1 or more optimizer steps, 0 or null for as many as every\n    fix:     correct the value\n"
        "norm: this is no number of steps\n    given:   False\n"
        "    allowed: 1 or more optimizer steps, 0 or null for never\n    fix:     correct the value"
    )
