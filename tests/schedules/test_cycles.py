import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.schedules import CosineRestarts, OneCycle, Schedule

RUN = Horizon(total_steps=100, steps_per_epoch=10)
HALF_WAVE = 0.5 * (1 - math.cos(math.pi / 4))  # of the way, a quarter of the time in


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (CosineRestarts(), {0: 2.0, 12.5: 1.0, 25: 2.0, 50: 2.0, 75: 2.0, 100: 0.0, 150: 0.0}),
        (CosineRestarts(2, final_factor=0.5), {0: 2.0, 25: 1.5, 50: 2.0, 75: 1.5, 100: 1.0}),
        (CosineRestarts(2, peak_factor=0.5, final_value=1.0), {0: 2.0, 25: 1.5, 50: 1.0, 75: 1.0, 100: 1.0}),
        (CosineRestarts(period=10, growth=2), {0: 2.0, 5: 1.0, 10: 2.0, 20: 1.0, 30: 2.0, 50: 1.0, 70: 2.0, 110: 1.0}),
        (CosineRestarts(period="1epochs"), {0: 2.0, 5: 1.0, 10: 2.0, 990: 2.0, 995: 1.0}),
        (CosineRestarts(2, growth=3), {0: 2.0, 12.5: 1.0, 25: 2.0, 62.5: 1.0, 100: 0.0}),
        (CosineRestarts(2, warmup=20), {0: 0.0, 10: 1.0, 20: 2.0, 40: 1.0, 60: 2.0, 80: 1.0, 100: 0.0}),
        (CosineRestarts(2, warmup=20, duration=60), {20: 2.0, 30: 1.0, 40: 2.0, 50: 1.0, 60: 0.0, 99: 0.0}),
        (OneCycle(), {0: 0.08, 15: 1.04, 30: 2.0, 65: 1.0 + 4e-6, 100: 8e-6, 150: 8e-6}),
        (OneCycle(shape="linear", final_factor=0.0), {0: 0.08, 15: 1.04, 30: 2.0, 65: 1.0, 100: 0.0}),
        (
            OneCycle(three_phase=True, shape="linear", start_factor=0.5, final_factor=0.0),
            {0: 1.0, 15: 1.5, 30: 2.0, 45: 1.5, 60: 1.0, 80: 0.5, 100: 0.0},
        ),
        (
            OneCycle(start_value=0.95, peak_value=0.85, final_value=0.95),
            {0: 0.95, 15: 0.9, 30: 0.85, 65: 0.9, 100: 0.95},
        ),
        (OneCycle(warmup=0), {0: 2.0, 50: 1.0 + 4e-6, 100: 8e-6}),
        (OneCycle(warmup="50%", duration=80, final_factor=1.0), {0: 0.08, 50: 2.0, 65: 2.0, 80: 2.0}),
        (OneCycle(warmup="50%", three_phase=True), {0: 0.08, 50: 2.0, 100: 8e-6}),
    ],
    ids=repr,
)
def test_the_formula_by_hand(schedule: Schedule, values: dict[Any, float]) -> None:
    curve = schedule.curve(2.0, RUN)
    assert {step: curve(step) for step in values} == pytest.approx(values, rel=1e-12, abs=1e-12)


@given(st.integers(1, 12), st.integers(0, 50), st.integers(12, 500))
def test_equal_cycles_begin_at_the_first_step_that_is_theirs(cycles: int, warmup: int, rest: int) -> None:
    curve = CosineRestarts(cycles, warmup=warmup).curve(1.0, Horizon(warmup + rest))
    for number in range(cycles):
        begin = -(-number * rest // cycles)  # rounded up
        since = (begin * cycles - number * rest) / rest
        assert curve(warmup + begin) == pytest.approx(0.5 * (1 + math.cos(math.pi * since)), rel=1e-12)
        if begin and cycles * 2 < rest:
            assert curve(warmup + begin - 1) < curve(warmup + begin)
    assert curve(warmup + rest) == 0.0


@given(st.integers(1, 60), st.integers(2, 4))
def test_growing_cycles_of_whole_steps_begin_where_they_should(period: int, growth: int) -> None:
    curve = CosineRestarts(period=period, growth=growth).curve(1.0, Horizon(100))
    begin, length = 0, period
    for _ in range(6):
        assert curve(begin) == 1.0
        begin, length = begin + length, length * growth
        assert curve(begin - 1) < 0.9 or length == period * growth == growth  # a cycle of one step only peaks


def test_one_cycle_of_lr_and_momentum_turn_together() -> None:
    lr = OneCycle(warmup="40%").curve(0.1, RUN)
    momentum = OneCycle(warmup="40%", start_factor=1, peak_factor=0.9, final_factor=1).curve(0.95, RUN)
    steps = range(101)
    assert max(steps, key=lr) == min(steps, key=momentum) == 40
    assert momentum(0) == momentum(100) == 0.95


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (
            CosineRestarts(cycles=2, period=10),
            [
                "period: cycles and period both say how long a cycle is",
                "    given:   cycles=2, period=10",
                "    fix:     keep one of them",
            ],
        ),
        (CosineRestarts(period=0), ["period: a cycle of no step", "    given:   0", "    fix:     give at least 1"]),
        (
            CosineRestarts(cycles=90, warmup=20),
            [
                "cycles: 90 cycles need at least as many steps, and there are 80",
                "    given:   90",
                "    fix:     give fewer, or lengthen the run",
            ],
        ),
        (
            CosineRestarts(growth=0.5),
            [
                "growth: cycles that get shorter and shorter never reach the end of the run",
                "    given:   0.5",
                "    fix:     set growth to 1 or more",
            ],
        ),
        (
            OneCycle(warmup="60%", three_phase=True),
            [
                "warmup: rise and fall take 120 steps, more than the 100 of the duration",
                "    given:   '60%'",
                "    fix:     make it half or less",
            ],
        ),
        (
            OneCycle(warmup="60%", duration=50),
            [
                "duration: it is over at step 50, before the warm-up is (step 60); both are counted from step 0",
                "    given:   50",
                "    fix:     shorten the warm-up, or lengthen the duration",
            ],
        ),
    ],
    ids=repr,
)
def test_cycles_that_do_not_fit_are_refused(schedule: Schedule, text: list[str]) -> None:
    with pytest.raises(PlanError) as refused:
        schedule.curve(1.0, RUN)
    assert str(refused.value).splitlines() == text


def test_restarts_without_an_end_need_a_period() -> None:
    endless = Horizon(-1)
    assert CosineRestarts(period=10).curve(1.0, endless)(1_000_000) == 1.0
    with pytest.raises(PlanError, match="duration: '100%' can't be measured"):
        CosineRestarts().curve(1.0, endless)
