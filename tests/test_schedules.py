import doctest
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim import schedules
from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Milestones,
    Polynomial,
    Schedule,
    WarmupCosine,
)

RUN = Horizon(total_steps=100, steps_per_epoch=10)
HALF_WAVE = 0.5 * (1 - math.cos(math.pi / 4))  # of the way, a quarter of the time in


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(), {0: 2.0, 99: 2.0, 500: 2.0}),
        (Constant(0.5), {0: 1.0, 99: 1.0}),
        (Linear(), {0: 2.0, 25: 1.5, 50: 1.0, 99: 0.02, 100: 0.0, 200: 0.0}),
        (Linear(final_factor=0.5), {0: 2.0, 50: 1.5, 100: 1.0}),
        (Linear(final_value=4.0), {0: 2.0, 50: 3.0, 100: 4.0}),
        (Linear(start_factor=0, final_factor=1, duration="2epochs"), {0: 0.0, 5: 0.5, 19: 1.9, 20: 2.0, 99: 2.0}),
        (Linear(final_factor=0.1, duration=0), {0: 0.2, 99: 0.2}),
        (Polynomial(), {0: 2.0, 50: 0.5, 100: 0.0, 101: 0.0}),
        (Polynomial(power=0.5, final_value=1.0, duration=50), {0: 2.0, 32: 1.6, 49: 1 + math.sqrt(0.02), 50: 1.0}),
        (Polynomial(power=1, final_factor=0.5), {0: 2.0, 50: 1.5, 100: 1.0}),
        (Cosine(), {0: 2.0, 25: 2 - 2 * HALF_WAVE, 50: 1.0, 75: 2 * HALF_WAVE, 100: 0.0, 150: 0.0}),
        (Cosine(final_factor=0.5, duration="50%"), {0: 2.0, 25: 1.5, 50: 1.0, 99: 1.0}),
        (Cosine(final_value=4.0), {0: 2.0, 50: 3.0, 100: 4.0}),
        (WarmupCosine(warmup=20), {0: 0.0, 1: 0.1, 19: 1.9, 20: 2.0, 40: 2 - 2 * HALF_WAVE, 60: 1.0, 100: 0.0}),
        (WarmupCosine(warmup="1epochs", start_factor=0.5, final_factor=0.1), {0: 1.0, 5: 1.5, 10: 2.0, 55: 1.1}),
        (WarmupCosine(warmup="10%", final_value=1.0), {0: 0.0, 10: 2.0, 55: 1.5, 100: 1.0, 120: 1.0}),
        (WarmupCosine(warmup=0), {0: 2.0, 50: 1.0}),
        (WarmupCosine(warmup="100%"), {0: 0.0, 50: 1.0, 99: 1.98}),
        (Exponential(rate=0.5), {0: 2.0, 5: 2 * math.sqrt(0.5), 10: 1.0, 20: 0.5}),
        (Exponential(rate=0.5, staircase=True), {0: 2.0, 9: 2.0, 10: 1.0, 19: 1.0, 20: 0.5}),
        (Exponential(rate=2.0, every="3steps", staircase=True), {0: 2.0, 2: 2.0, 3: 4.0, 6: 8.0}),
        (Milestones(at=[3, "50%"], values=[0.1, 0.01]), {0: 2.0, 2: 2.0, 3: 0.1, 49: 0.1, 50: 0.01, 99: 0.01}),
        (Milestones(at=["1epochs"], factors=[0.25]), {0: 2.0, 9: 2.0, 10: 0.5, 99: 0.5}),
        (Milestones(at=[10, 20], factors=[0.5, 0.5]), {10: 1.0, 20: 1.0}),
        (Milestones(at=[0], values=[7]), {0: 7.0, 99: 7.0}),
    ],
    ids=repr,
)
def test_the_formula_by_hand(schedule: Schedule, values: dict[int, float]) -> None:
    curve = schedule.curve(2.0, RUN)
    assert {step: curve(step) for step in values} == pytest.approx(values, rel=1e-14, abs=1e-14)


@pytest.mark.parametrize("schedule", [Linear(duration=30), Cosine(duration=30), Polynomial(duration=30)], ids=repr)
def test_a_decay_ends_exactly_where_it_says(schedule: Schedule) -> None:
    curve = schedule.curve(0.3, RUN)
    assert curve(0) == 0.3
    assert curve(30) == curve(31) == 0.0
    assert curve(29) > 0.0


@pytest.mark.parametrize("schedule", [Linear(duration=5), Cosine(duration=5), Exponential(every=5)], ids=repr)
def test_what_is_counted_in_steps_needs_no_end(schedule: Schedule) -> None:
    endless = schedule.curve(0.3, Horizon(-1))
    bounded = schedule.curve(0.3, RUN)
    assert [endless(step) for step in range(100)] == [bounded(step) for step in range(100)]


durations = st.integers(0, 300) | st.floats(0, 100).map(lambda share: f"{share:.3f}%")
factors = st.just(0.0) | st.floats(1e-6, 4)
shapes = st.one_of(
    st.builds(Constant, factors),
    st.builds(Linear, final_factor=factors, start_factor=factors, duration=durations),
    st.builds(Linear, final_value=factors, duration=durations),
    st.builds(Polynomial, st.floats(0.1, 4), final_factor=factors, duration=durations),
    st.builds(Cosine, final_value=factors, duration=durations),
    st.builds(WarmupCosine, durations, factors, factors),
    st.builds(Exponential, st.floats(0.1, 1), st.integers(1, 300), st.booleans()),
    st.builds(lambda at, to: Milestones(at=[at], factors=[to]), durations, factors),
)


@given(shapes, st.floats(1e-8, 10), st.integers(300, 400))
def test_every_curve_is_finite_pure_and_never_negative(schedule: Schedule, start: float, total: int) -> None:
    curve = schedule.curve(start, Horizon(total))
    values = [curve(step) for step in range(total + 5)]
    assert all(type(value) is float and math.isfinite(value) and value >= 0 for value in values)
    again = schedule.curve(start, Horizon(total))
    assert values == [again(step) for step in reversed(range(total + 5))][::-1]


@given(st.integers(1, 200), st.integers(1, 200), factors, factors, st.floats(1e-8, 10))
def test_warmup_and_fall_meet_at_exactly_the_groups_own_value(
    warmup: int, rest: int, start_factor: float, final_factor: float, start: float
) -> None:
    curve = WarmupCosine(warmup, start_factor, final_factor).curve(start, Horizon(warmup + rest))
    assert curve(warmup) == start
    assert curve(0) == start * start_factor
    assert curve(warmup + rest) == start * final_factor
    rise = abs(start - start * start_factor) / warmup
    assert abs(curve(warmup) - curve(warmup - 1)) <= rise * (1 + 1e-9) + 1e-12
    fall = abs(start - start * final_factor) * math.pi / (2 * rest)  # the steepest that half a cosine gets
    assert abs(curve(warmup + 1) - curve(warmup)) <= fall * (1 + 1e-9) + 1e-12


@given(shapes.filter(lambda schedule: getattr(schedule, "final_value", None) is None), st.floats(1e-3, 10))
def test_factors_keep_the_ratio_between_groups(schedule: Schedule, start: float) -> None:
    one, ten = (schedule.curve(value, Horizon(300)) for value in (start, start * 1024))
    assert [one(step) * 1024 for step in range(0, 300, 7)] == [ten(step) for step in range(0, 300, 7)]


def _refused(schedule: Schedule, horizon: Horizon = RUN) -> list[str]:
    with pytest.raises(PlanError) as refused:
        schedule.curve(1.0, horizon)
    return str(refused.value).splitlines()


LISTS = "    fix:     values: [0.01, 0.001] re-assigns, factors: [0.1, 0.01] keeps the ratios between groups"
ONE_END = "    fix:     keep final_factor (of each group's own value) or final_value (the same for every group)"
BAD_ARGUMENTS: list[tuple[Schedule, list[str]]] = [
    (Milestones(at=[1]), ["values: either `values` or `factors` is needed, not neither", LISTS]),
    (
        Milestones(at=[1], values=[1], factors=[1]),
        ["values: either `values` or `factors` is needed, not both", LISTS],
    ),
    (
        Milestones(at=[1, 2], factors=[1]),
        [
            "factors: one for each of the 2 thresholds in `at` (at least one)",
            "    given:   [1]",
            "    fix:     make the two lists equally long",
        ],
    ),
    (
        Milestones(at=[], values=[]),
        [
            "values: one for each of the 0 thresholds in `at` (at least one)",
            "    given:   []",
            "    fix:     make the two lists equally long",
        ],
    ),
    (
        Milestones(at=["20%", 10], values=[1, 1]),
        ["at: the thresholds are steps [20, 10]", "    given:   ['20%', 10]", "    fix:     sort them, each once"],
    ),
    (
        Milestones(at=[10, "1epochs"], values=[1, 1]),
        ["at: the thresholds are steps [10, 10]", "    given:   [10, '1epochs']", "    fix:     sort them, each once"],
    ),
    (Milestones(at=5, values=[1]), ["at: this is a list", "    given:   5", "    fix:     write at: [5]"]),  # type: ignore[arg-type]
    (Milestones(at="5%", values=[1]), ["at: this is a list", "    given:   '5%'", "    fix:     write at: [5%]"]),
    (
        Milestones(at=[5], values=0.1),  # type: ignore[arg-type]
        ["values: this is a list", "    given:   0.1", "    fix:     write values: [0.1]"],
    ),
    (
        Milestones(at=[5], values=["a"]),  # type: ignore[list-item]
        ["values: a finite number is needed", "    given:   'a'", "    fix:     set values to such a number"],
    ),
    *(
        (
            kind(final_factor=1, final_value=0.1),
            [
                "final_value: final_factor and final_value both say where it ends",
                "    given:   final_factor=1, final_value=0.1",
                ONE_END,
            ],
        )
        for kind in (Linear, Polynomial, Cosine, WarmupCosine)
    ),
    *(
        (
            schedule,
            [
                f"{field}: a finite number is needed",
                f"    given:   {value}",
                f"    fix:     set {field} to such a number",
            ],
        )
        for schedule, field, value in [
            (Constant(math.nan), "factor", "nan"),
            (Linear(final_value="x"), "final_value", "'x'"),  # type: ignore[arg-type]
            (Linear(start_factor=True), "start_factor", "True"),
            (Cosine(final_factor=math.inf), "final_factor", "inf"),
            (WarmupCosine(start_factor=None), "start_factor", "None"),  # type: ignore[arg-type]
        ]
    ),
    *(
        (
            schedule,
            [
                f"{field}: a finite number above 0 is needed",
                "    given:   0",
                f"    fix:     set {field} to such a number",
            ],
        )
        for schedule, field in [(Polynomial(power=0), "power"), (Exponential(rate=0), "rate")]
    ),
    (Exponential(every=0), ["every: a stretch of no step", "    given:   0", "    fix:     give at least 1"]),
]


@pytest.mark.parametrize(("schedule", "text"), BAD_ARGUMENTS, ids=lambda item: type(item).__name__)
def test_bad_arguments_are_refused(schedule: Schedule, text: list[str]) -> None:
    assert _refused(schedule) == text


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (Linear(duration=101), "duration"),
        (Polynomial(duration=101), "duration"),
        (Cosine(duration=101), "duration"),
        (WarmupCosine(warmup=101), "warmup"),
        (Exponential(every=101), "every"),
        (Milestones(at=[101], values=[1]), "at"),
    ],
    ids=repr,
)
def test_nothing_lasts_longer_than_the_run(schedule: Schedule, field: str) -> None:
    assert _refused(schedule)[0] == f"{field}: 101 is 101 steps, past the end of a run of 100"


@pytest.mark.parametrize("warmup", [5, "5%", "1epochs"])
def test_a_fall_to_the_end_needs_an_end(warmup: Any) -> None:
    assert _refused(WarmupCosine(warmup), Horizon(-1, 10)) == [
        "warmup: the fall ends with the run, and nobody knows how long the run is",
        "    fix:     set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too",
    ]


def test_the_examples_of_the_docstrings_run() -> None:
    assert doctest.testmod(schedules) == (0, 8)


def test_the_base_can_not_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Schedule()  # type: ignore[abstract]


def test_a_stretch_of_epochs_that_differ_is_refused() -> None:
    run = Horizon(total_steps=14, steps_per_epoch=4, epoch_steps=((0, 4), (2, 3)))
    with pytest.raises(PlanError, match="every: epochs of this run differ"):
        Exponential(every="1epochs").curve(1.0, run)
    assert Exponential(rate=0.5, every=4).curve(1.0, run)(4) == 0.5
