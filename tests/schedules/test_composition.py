from dataclasses import dataclass
from typing import Any

import pytest

from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.schedules import Constant, Cosine, Curve, Joined, Linear, Milestones, Schedule, Warmup

RUN = Horizon(total_steps=100, steps_per_epoch=10)


@dataclass(frozen=True)
class Halving(Schedule):
    """One that knows nothing of warm-ups."""

    every: int = 10

    def curve(self, start: float, horizon: Horizon) -> Curve:
        return lambda step: start * 0.5 ** (step // self.every)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Warmup(Halving(), warmup="20%"), {0: 0.0, 10: 1.0, 20: 2.0, 29: 2.0, 30: 1.0, 40: 0.5}),
        (Warmup(Halving(), warmup=20, start_factor=0.5), {0: 1.0, 10: 1.5, 20: 2.0}),
        (Warmup(Halving(), warmup=0), {0: 2.0, 10: 1.0}),
        (Warmup(Halving(), warmup="100%"), {0: 0.0, 50: 1.0, 99: 1.98}),
        (Warmup(Linear(), warmup=20), {20: 2.0, 60: 1.0, 100: 0.0}),
        (Warmup(Milestones(at=["1epochs"], factors=[0.5]), warmup="2epochs"), {20: 2.0, 29: 2.0, 30: 1.0}),
        (Warmup(Constant(0.5), warmup=10), {0: 0.0, 5: 0.5, 10: 1.0}),
        (Joined([Halving()]), {0: 2.0, 10: 1.0}),
        (Joined([Constant(), Halving()], at=[50]), {49: 2.0, 50: 2.0, 60: 1.0}),
        (
            Joined([Linear(), Linear(final_factor=0.5), Constant(0.1)], at=["20%", "8epochs"]),
            {
                0: 2.0,
                10: 1.0,
                20: 2.0,
                50: 1.5,
                79: 2.0 - 59 / 60,
                80: 0.2,
                99: 0.2,
            },
        ),
        (Warmup(Joined([Constant(), Constant(0.5)], at=["50%"]), warmup=20), {10: 1.0, 59: 2.0, 60: 1.0}),
    ],
    ids=repr,
)
def test_the_formula_by_hand(schedule: Schedule, values: dict[int, float]) -> None:
    curve = schedule.curve(2.0, RUN)
    assert {step: curve(step) for step in values} == pytest.approx(values, rel=1e-12, abs=1e-12)


def test_a_warmup_in_front_of_a_run_without_end() -> None:
    curve = Warmup(Halving(), warmup=10).curve(1.0, Horizon(-1))
    assert [curve(step) for step in (0, 5, 10, 20)] == [0.0, 0.5, 1.0, 0.5]
    with pytest.raises(PlanError, match=r"schedule.duration: '100%' can't be measured"):
        Warmup(Cosine(), warmup=10).curve(1.0, Horizon(-1))


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (
            Warmup("cosine"),  # type: ignore[arg-type]
            [
                "schedule: a schedule is needed",
                "    given:   'cosine'",
                "    fix:     write schedule: {_target_: lit_optim.schedules.Cosine}, say",
            ],
        ),
        (
            Warmup(Cosine(duration=90), warmup=20),
            [
                "schedule.duration: 90 is 90 steps, past the end of a run of 80",
                "    given:   90",
                "    allowed: 0% to 100%, 0 to 80 steps",
                "    fix:     shorten it, write it as a percentage, or lengthen the run (trainer.max_epochs)",
            ],
        ),
        (
            Joined([]),
            [
                "schedules: a list of schedules is needed",
                "    given:   []",
                "    fix:     write schedules: [{_target_: …}, {_target_: …}]",
            ],
        ),
        (
            Joined([Cosine(), Cosine()]),
            [
                "at: 2 schedules meet at 1 steps after step 0",
                "    given:   []",
                "    fix:     give one step for each schedule after the first",
            ],
        ),
        (
            Joined([Cosine(), Cosine(final_factor="x")], at=[50]),  # type: ignore[arg-type]
            [
                "schedules.1.final_factor: a finite number is needed",
                "    given:   'x'",
                "    fix:     set final_factor to such a number",
            ],
        ),
    ],
    ids=repr,
)
def test_what_does_not_fit_together_is_refused(schedule: Schedule, text: list[str]) -> None:
    with pytest.raises(PlanError) as refused:
        schedule.curve(1.0, RUN)
    assert str(refused.value).splitlines() == text


@pytest.mark.parametrize("at", [[0], [50, 60], [60, 50]])
def test_thresholds_that_leave_a_schedule_no_step_are_refused(at: Any) -> None:
    with pytest.raises(PlanError, match=r"^at: "):
        Joined([Cosine(), Cosine()], at=at).curve(1.0, RUN)
