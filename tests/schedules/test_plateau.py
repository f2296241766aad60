import doctest
import math
from typing import Any

import pytest

from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.schedules import plateau
from lit_optim.schedules.plateau import Plateau, Standing

RUN = Horizon(total_steps=100, steps_per_epoch=10)


def after(plateau: Plateau, *values: float) -> Standing:
    standing = plateau.begin()
    for value in values:
        standing = plateau.look(standing, value)
    return standing


@pytest.mark.parametrize(
    ("plateau", "values"),
    [
        (Plateau("m"), {0: 2.0, 99: 2.0, 500: 2.0}),
        (Plateau("m", warmup=4), {0: 0.0, 1: 0.5, 3: 1.5, 4: 2.0, 99: 2.0}),
        (Plateau("m", warmup="1epochs", start_factor=0.5), {0: 1.0, 5: 1.5, 9: 1.9, 10: 2.0}),
        (Plateau("m", warmup="10%", start_factor=2.0), {0: 4.0, 5: 3.0, 10: 2.0}),
    ],
    ids=repr,
)
def test_beforehand_it_is_the_warm_up_and_then_the_groups_own_value(plateau: Plateau, values: dict[int, float]) -> None:
    curve = plateau.curve(2.0, RUN)
    assert {step: curve(step) for step in values} == pytest.approx(values, rel=1e-15)


@pytest.mark.parametrize(
    ("plateau", "values", "standing"),
    [
        (Plateau("m"), (), Standing(math.inf)),
        (Plateau("m", mode="max"), (), Standing(-math.inf)),
        (Plateau("m", patience=1), (1.0, 1.0), Standing(1.0, 0, 1)),
        (Plateau("m", patience=1), (1.0, 1.0, 1.0), Standing(1.0, 1)),
        (Plateau("m", patience=1), (1.0, 2.0, 0.5, 0.6), Standing(0.5, 0, 1)),
        (Plateau("m", patience=0, mode="max"), (1.0, 2.0, 1.5, 3.0), Standing(3.0, 1)),
        (Plateau("m", patience=0, cooldown=2), (1.0, 1.0), Standing(1.0, 1, 0, 2)),
        (Plateau("m", patience=0, cooldown=2), (1.0, 1.0, 1.0, 1.0), Standing(1.0, 1)),
        (Plateau("m", patience=0, cooldown=2), (1.0, 1.0, 1.0, 1.0, 1.0), Standing(1.0, 2, 0, 2)),
        (Plateau("m", threshold=0.1), (1.0, 0.91), Standing(1.0, 0, 1)),
        (Plateau("m", threshold=0.1), (10.0, 8.9), Standing(8.9)),
        (Plateau("m", threshold=0.1, threshold_mode="abs"), (10.0, 9.89), Standing(9.89)),
        (Plateau("m", patience=3), (math.nan, 1.0, math.nan, math.nan), Standing(1.0, 0, 2)),
    ],
    ids=repr,
)
def test_what_comes_of_the_looks(plateau: Plateau, values: tuple[float, ...], standing: Standing) -> None:
    assert after(plateau, *values) == standing


def test_a_reduction_multiplies_down_to_the_least_factor() -> None:
    plateau = Plateau("m", factor=0.5, min_factor=0.2)
    assert [plateau.reduced(8.0, count) for count in range(5)] == [8.0, 4.0, 2.0, 1.6, 1.6]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ({"monitor": ""}, ["monitor"]),
        ({"monitor": 3}, ["monitor"]),
        ({"mode": "lowest", "threshold_mode": "relative"}, ["mode", "threshold_mode"]),
        ({"factor": 1.0}, ["factor"]),
        ({"factor": 0}, ["factor"]),
        ({"factor": math.nan}, ["factor"]),
        ({"factor": "0.1"}, ["factor"]),
        ({"patience": -1, "cooldown": 1.5}, ["patience", "cooldown"]),
        ({"patience": True}, ["patience"]),
        ({"threshold": -0.1, "min_factor": 1.1}, ["threshold", "min_factor"]),
        ({"start_factor": math.inf}, ["start_factor"]),
        ({"warmup": 101}, ["warmup"]),
        ({"warmup": "soon"}, ["warmup"]),
    ],
)
def test_what_makes_no_sense_is_refused_all_at_once(arguments: dict[str, Any], keys: list[str]) -> None:
    with pytest.raises(PlanError) as refused:
        Plateau(**{"monitor": "m", **arguments}).curve(1.0, RUN)
    assert [mistake.key for mistake in refused.value.mistakes] == keys


def test_a_refusal_reads_like_this() -> None:
    with pytest.raises(PlanError) as refused:
        Plateau("m", mode="lowest", factor=2).curve(1.0, RUN)
    assert str(refused.value).splitlines() == [
        "mode: no such choice",
        "    given:   'lowest'",
        "    allowed: min, max",
        "    fix:     write min or max",
        "factor: a number above 0 and below 1 is needed",
        "    given:   2",
        "    fix:     correct the value",
    ]


def test_the_example_runs() -> None:
    assert doctest.testmod(plateau).failed == 0
