import pytest

from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.schedules import Milestones, Piecewise, Schedule

RUN = Horizon(total_steps=100, steps_per_epoch=10)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Milestones(at=[3, "50%"], values=[0.1, 0.01]), {0: 2.0, 2: 2.0, 3: 0.1, 49: 0.1, 50: 0.01, 99: 0.01}),
        (Milestones(at=["1epochs"], factors=[0.25]), {0: 2.0, 9: 2.0, 10: 0.5, 99: 0.5}),
        (Milestones(at=[10, 20], factors=[0.5, 0.5]), {10: 1.0, 20: 1.0}),
        (Milestones(at=[0], values=[7]), {0: 7.0, 99: 7.0}),
        (Milestones(at=["50%"], factors=[0.1], warmup="10%"), {0: 0.0, 5: 1.0, 10: 2.0, 49: 2.0, 50: 0.2}),
        (Milestones(at=[5], factors=[0.5], warmup=10), {0: 0.0, 5: 0.5, 10: 1.0, 99: 1.0}),
        (Piecewise(at=[50, 100], factors=[1.5, 0.0]), {0: 2.0, 25: 2.5, 50: 3.0, 75: 1.5, 100: 0.0, 150: 0.0}),
        (Piecewise(at=[0, 50], values=[0.0, 1.0]), {0: 0.0, 25: 0.5, 50: 1.0, 99: 1.0}),
        (Piecewise(at=["50%"], values=[4.0], shape="cosine"), {0: 2.0, 25: 3.0, 50: 4.0}),
        (Piecewise(at=[64], values=[4.0], shape="sqrt"), {0: 2.0, 16: 3.0, 64: 4.0}),
        (Piecewise(at=[50], factors=[0.0], warmup=10), {0: 0.0, 5: 1.0, 10: 2.0, 30: 1.0, 50: 0.0}),
    ],
    ids=repr,
)
def test_the_formula_by_hand(schedule: Schedule, values: dict[int, float]) -> None:
    curve = schedule.curve(2.0, RUN)
    assert {step: curve(step) for step in values} == pytest.approx(values, rel=1e-14, abs=1e-14)


LISTS = "    fix:     values: [0.01, 0.001] re-assigns, factors: [0.1, 0.01] keeps the ratios between groups"


@pytest.mark.parametrize("cls", [Milestones, Piecewise])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"at": [1]}, ["values: either `values` or `factors` is needed, not neither", LISTS]),
        (
            {"at": [1], "values": [1], "factors": [1]},
            ["values: either `values` or `factors` is needed, not both", LISTS],
        ),
        (
            {"at": [1, 2], "factors": [1]},
            [
                "factors: one for each of the 2 thresholds in `at` (at least one)",
                "    given:   [1]",
                "    fix:     make the two lists equally long",
            ],
        ),
        (
            {"at": [], "values": []},
            [
                "values: one for each of the 0 thresholds in `at` (at least one)",
                "    given:   []",
                "    fix:     make the two lists equally long",
            ],
        ),
        (
            {"at": ["20%", 10], "values": [1, 1]},
            ["at: the thresholds are steps [20, 10]", "    given:   ['20%', 10]", "    fix:     sort them, each once"],
        ),
        (
            {"at": [10, "1epochs"], "values": [1, 1]},
            [
                "at: the thresholds are steps [10, 10]",
                "    given:   [10, '1epochs']",
                "    fix:     sort them, each once",
            ],
        ),
        ({"at": 5, "values": [1]}, ["at: this is a list", "    given:   5", "    fix:     write at: [5]"]),
        ({"at": "5%", "values": [1]}, ["at: this is a list", "    given:   '5%'", "    fix:     write at: [5%]"]),
        (
            {"at": [5], "values": 0.1},
            ["values: this is a list", "    given:   0.1", "    fix:     write values: [0.1]"],
        ),
        (
            {"at": [5], "values": ["a"]},
            ["values: a finite number is needed", "    given:   'a'", "    fix:     set values to such a number"],
        ),
    ],
)
def test_bad_lists_are_refused(cls: type[Schedule], arguments: dict[str, object], text: list[str]) -> None:
    with pytest.raises(PlanError) as refused:
        cls(**arguments).curve(1.0, RUN)
    assert str(refused.value).splitlines() == text


def test_a_point_within_the_warmup_is_refused() -> None:
    with pytest.raises(PlanError) as refused:
        Piecewise(at=[10, 50], factors=[1, 0.1], warmup="10%").curve(1.0, RUN)
    assert str(refused.value).splitlines() == [
        "at: the first point is at step 10, and the warm-up lasts until step 10",
        "    given:   [10, 50]",
        "    fix:     begin later, or drop the warm-up",
    ]
