import math

import pytest

from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSquareRoot,
    Linear,
    Polynomial,
    Schedule,
    WarmupCosine,
    WarmupStableDecay,
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
        (Exponential(rate=0.5, every=10, warmup=20), {10: 1.0, 20: 2.0, 30: 1.0, 40: 0.5}),
        (Constant(0.5, warmup=10), {0: 0.0, 5: 0.5, 10: 1.0, 99: 1.0}),
        (Linear(warmup=20), {0: 0.0, 10: 1.0, 20: 2.0, 60: 1.0, 100: 0.0}),
        (Linear(warmup=20, start_factor=0.5, duration=60, final_value=1.0), {0: 1.0, 10: 1.5, 40: 1.5, 60: 1.0}),
        (Polynomial(warmup=20, final_factor=0.5), {10: 1.0, 20: 2.0, 60: 1.25, 100: 1.0}),
        (Cosine(warmup=20), {0: 0.0, 10: 1.0, 20: 2.0, 60: 1.0, 100: 0.0}),
        (Cosine(warmup=20, duration=20), {0: 0.0, 19: 1.9, 20: 0.0}),
        (InverseSquareRoot(warmup=25), {0: 0.0, 24: 1.92, 25: 2.0, 100: 1.0, 400: 0.5}),
        (InverseSquareRoot(timescale=300), {0: 2.0, 100: math.sqrt(3)}),
        (InverseSquareRoot(timescale="60epochs", warmup=10), {10: 2.0, 210: math.sqrt(3)}),
        (InverseSquareRoot(timescale=50), {0: 2.0, 50: math.sqrt(2), 150: 1.0}),
        (InverseSquareRoot(timescale="50%", warmup=10), {10: 2.0, 160: 1.0}),
        (InverseSquareRoot(), {0: 2.0, 30_000: 1.0}),
        (WarmupStableDecay(), {0: 0.0, 4: 1.6, 5: 2.0, 80: 2.0, 90: 1.0, 100: 0.0, 200: 0.0}),
        (WarmupStableDecay(decay=40, shape="cosine", final_factor=0.5), {60: 2.0, 80: 1.5, 100: 1.0}),
        (WarmupStableDecay(decay=64, warmup=0, shape="sqrt", final_value=1.0), {0: 2.0, 36: 2.0, 52: 1.5, 100: 1.0}),
        (WarmupStableDecay(warmup="100%", decay=0), {50: 1.0, 99: 1.98}),
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


@pytest.mark.parametrize(
    "schedule",
    [Linear(duration=5), Cosine(duration=5, warmup=2), Exponential(every=5), InverseSquareRoot(warmup=5), Constant()],
    ids=repr,
)
def test_what_is_counted_in_steps_needs_no_end(schedule: Schedule) -> None:
    endless = schedule.curve(0.3, Horizon(-1))
    bounded = schedule.curve(0.3, RUN)
    assert [endless(step) for step in range(100)] == [bounded(step) for step in range(100)]


def _refused(schedule: Schedule, horizon: Horizon = RUN) -> list[str]:
    with pytest.raises(PlanError) as refused:
        schedule.curve(1.0, horizon)
    return str(refused.value).splitlines()


def test_a_warmup_cosine_is_a_cosine_with_a_warmup() -> None:
    ours = WarmupCosine(final_factor=0.1).curve(2.0, RUN)
    plain = Cosine(warmup="5%", final_factor=0.1).curve(2.0, RUN)
    assert [ours(step) for step in range(120)] == [plain(step) for step in range(120)]


def test_what_is_stable_does_not_know_how_long_the_run_is() -> None:
    short, long = (WarmupStableDecay(warmup=5, decay=20).curve(2.0, Horizon(total)) for total in (100, 300))
    assert [short(step) for step in range(81)] == [long(step) for step in range(81)]
    assert short(81) < long(81)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (
            Cosine(warmup=20, duration="10%"),
            [
                "duration: it is over at step 10, before the warm-up is (step 20); both are counted from step 0",
                "    given:   '10%'",
                "    fix:     shorten the warm-up, or lengthen the duration",
            ],
        ),
        (
            WarmupStableDecay(warmup="60%", decay="50%"),
            [
                "decay: warm-up (60 steps) and decay (50) are longer than the run (100)",
                "    given:   '50%'",
                "    fix:     shorten one of them",
            ],
        ),
        (
            WarmupStableDecay(shape="cosin"),  # type: ignore[arg-type]
            [
                "shape: there is no such choice",
                "    given:   'cosin'",
                "    allowed: linear, cosine, sqrt",
                "    nearest: cosine",
                "    fix:     set shape to one of these",
            ],
        ),
        (Exponential(every=0), ["every: a stretch of no step", "    given:   0", "    fix:     give at least 1"]),
        (
            InverseSquareRoot(timescale=0),
            ["timescale: a timescale of no step", "    given:   0", "    fix:     give at least 1"],
        ),
    ],
    ids=repr,
)
def test_lengths_that_do_not_fit_are_refused(schedule: Schedule, text: list[str]) -> None:
    assert _refused(schedule) == text


@pytest.mark.parametrize(
    ("schedule", "field"),
    [(Linear(warmup=5), "duration"), (WarmupCosine(warmup=5), "duration"), (WarmupStableDecay(5, warmup=5), "decay")],
    ids=repr,
)
def test_a_fall_to_the_end_needs_an_end(schedule: Schedule, field: str) -> None:
    problem, *_, fix = _refused(schedule, Horizon(-1, 10))
    assert problem.startswith(f"{field}: ")
    assert problem.endswith("nobody knows how long the run is")
    assert fix == (
        "    fix:     set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too"
    )


def test_a_stretch_of_epochs_that_differ_is_refused() -> None:
    run = Horizon(total_steps=14, steps_per_epoch=4, epoch_steps=((0, 4), (2, 3)))
    with pytest.raises(PlanError, match="every: epochs of this run differ"):
        Exponential(every="1epochs").curve(1.0, run)
    assert Exponential(rate=0.5, every=4).curve(1.0, run)(4) == 0.5
