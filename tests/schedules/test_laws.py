"""What holds for every schedule of the package."""

import dataclasses
import doctest
import importlib
import inspect
import math
import pkgutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim import schedules
from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.plan import Plan
from lit_optim.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSquareRoot,
    Joined,
    Linear,
    Milestones,
    OneCycle,
    Piecewise,
    Plateau,
    Polynomial,
    Schedule,
    Warmup,
    WarmupCosine,
    WarmupStableDecay,
)
from lit_optim.targets import instantiate

SHORTEST = 300  # of the runs below; lengths fit into it

factors = st.just(0.0) | st.floats(1e-6, 4)
shapes = st.sampled_from(["linear", "cosine", "sqrt"])
early = {
    "warmup": st.integers(0, SHORTEST // 2) | st.floats(0, 50).map(lambda share: f"{share:.3f}%"),
    "start_factor": factors | st.none(),
}
late = st.integers(SHORTEST // 2 + 60, SHORTEST) | st.floats(75, 100).map(lambda share: f"{share:.3f}%")
points = st.lists(
    st.tuples(st.integers(0, SHORTEST), factors), min_size=1, max_size=4, unique_by=lambda point: point[0]
)

after_warmup = points.map(lambda found: [(SHORTEST // 2 + 1 + at // 2, factor) for at, factor in found]).filter(
    lambda found: len({at for at, _ in found}) == len(found)
)


def _at_points(cls: Any, at_and_factors: list[tuple[int, float]], **more: Any) -> Schedule:
    at, factors = zip(*sorted(at_and_factors), strict=True)
    return cls(at=list(at), factors=list(factors), **more)


warmed = st.one_of(
    st.builds(Constant, factors, **early),
    st.builds(Linear, final_factor=factors, duration=late, **early),
    st.builds(Polynomial, st.floats(0.1, 4), final_factor=factors, duration=late, **early),
    st.builds(Cosine, final_factor=factors, duration=late, **early),
    st.builds(WarmupCosine, final_factor=factors, **early),
    st.builds(WarmupStableDecay, st.integers(0, 60), shape=shapes, final_factor=factors, **early),
    st.builds(Exponential, st.floats(0.1, 1), st.integers(1, SHORTEST), st.booleans(), **early),
    st.builds(InverseSquareRoot, st.none() | st.integers(1, 10**6), **early),
    st.builds(
        CosineRestarts,
        st.integers(1, 6),
        growth=st.just(1.0) | st.floats(1.0, 3.0),
        peak_factor=st.floats(0.2, 1.0),
        final_factor=factors,
        duration=late,
        **early,
    ),
    st.builds(
        CosineRestarts,
        period=st.integers(1, 100),
        growth=st.just(1.0) | st.just(2.0) | st.floats(1.0, 3.0),
        final_factor=factors,
        **early,
    ),
    st.builds(lambda at, **more: _at_points(Milestones, at, **more), points, **early),
    st.builds(lambda at, **more: _at_points(Piecewise, at, **more), after_warmup, shape=shapes, **early),
)
one_cycles = st.builds(
    OneCycle,
    st.integers(0, 140),
    start_factor=factors,
    peak_factor=factors,
    final_factor=factors,
    shape=shapes,
    three_phase=st.booleans(),
    duration=st.integers(280, SHORTEST),
)
by_factor = st.one_of(
    warmed,
    one_cycles,
    st.builds(Warmup, st.builds(Cosine, final_factor=factors), st.integers(0, SHORTEST), factors),
    st.builds(lambda one, two, at: Joined([one, two], [at]), st.builds(Constant, factors), st.just(Cosine()), late),
)
by_value = st.builds(Linear, final_value=factors, duration=late) | st.builds(Cosine, final_value=factors, **early)


@given(by_factor | by_value, st.floats(1e-8, 10), st.integers(SHORTEST, 400))
def test_every_curve_is_finite_pure_and_never_negative(schedule: Schedule, start: float, total: int) -> None:
    curve = schedule.curve(start, Horizon(total))
    values = [curve(step) for step in range(total + 5)]
    assert all(type(value) is float and math.isfinite(value) and value >= 0 for value in values)
    again = schedule.curve(start, Horizon(total))
    assert values == [again(step) for step in reversed(range(total + 5))][::-1]


@given(
    by_factor | by_value | st.builds(Plateau, st.just("val/loss"), **early),
    st.lists(st.floats(1e-8, 10), min_size=2, max_size=4),
    st.integers(SHORTEST, 400),
)
def test_an_array_of_values_gives_what_each_gives_alone(schedule: Schedule, starts: list[float], total: int) -> None:
    given_together = np.array(starts)
    together: Any = schedule.curve(given_together, Horizon(total))  # type: ignore[arg-type]
    alone = [schedule.curve(start, Horizon(total)) for start in starts]
    for step in range(total + 5):
        values = np.broadcast_to(together(step), len(starts)).tolist()
        assert values == [curve(step) for curve in alone]
    assert given_together.tolist() == starts


@given(warmed, st.floats(1e-3, 10))
def test_a_warmup_is_a_straight_line_to_where_the_rest_begins(schedule: Any, start: float) -> None:
    run = Horizon(SHORTEST)
    curve = schedule.curve(start, run)
    warmup = round(float(schedule.warmup[:-1]) * 3) if isinstance(schedule.warmup, str) else schedule.warmup
    first = start * (schedule.start_factor or 0.0)
    length = int(warmup)
    at_its_end = curve(length)
    for step in range(length):
        line = first + (at_its_end - first) * step / length
        assert curve(step) == pytest.approx(line, rel=1e-12, abs=1e-12)


@given(by_factor, st.floats(1e-3, 10))
def test_factors_keep_the_ratio_between_groups(schedule: Schedule, start: float) -> None:
    one, ten = (schedule.curve(value, Horizon(SHORTEST)) for value in (start, start * 1024))
    assert [one(step) * 1024 for step in range(0, 300, 7)] == [ten(step) for step in range(0, 300, 7)]


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (Linear(duration=101), "duration"),
        (Polynomial(duration=101), "duration"),
        (Cosine(duration=101), "duration"),
        (WarmupCosine(warmup=101), "warmup"),
        (OneCycle(warmup=101), "warmup"),
        (WarmupStableDecay(decay=101), "decay"),
        (Exponential(every=101), "every"),
        (CosineRestarts(period=101), "period"),
        (Milestones(at=[101], values=[1]), "at"),
        (Piecewise(at=[101], values=[1]), "at"),
        (Warmup(Cosine(), warmup=101), "warmup"),
        (Joined([Cosine(), Cosine()], at=[101]), "at"),
    ],
    ids=repr,
)
def test_nothing_lasts_longer_than_the_run(schedule: Schedule, field: str) -> None:
    with pytest.raises(PlanError) as refused:
        schedule.curve(1.0, Horizon(100))
    assert str(refused.value).startswith(f"{field}: 101 is 101 steps, past the end of a run of 100")


PUBLIC = [
    cls
    for cls in (getattr(schedules, name) for name in schedules.__all__)
    if inspect.isclass(cls) and issubclass(cls, Schedule) and cls is not Schedule
]
TAKE_WARMUP = [cls for cls in PUBLIC if cls is not Joined]


@pytest.mark.parametrize("cls", TAKE_WARMUP)
def test_each_takes_a_warmup_as_one_number(cls: Any) -> None:
    needed = {"Milestones": {"at": [50], "factors": [0.5]}, "Piecewise": {"at": [50], "factors": [0.5]}}
    needed["Plateau"] = {"monitor": "val/loss"}
    needed["Warmup"] = {"schedule": {"_target_": "lit_optim.schedules.Cosine"}}
    target = f"lit_optim.schedules.{cls.__name__}"
    node = {"_target_": target, "warmup": "10%", **needed.get(cls.__name__, {})}
    curve = instantiate(node, (Schedule,), "schedule.lr").curve(1.0, Horizon(100, 10))
    values = [curve(step) for step in range(11)]
    assert values == sorted(values)
    assert values[0] < values[5] < values[10]
    assert values[10] == 1.0


@pytest.mark.parametrize("name", [found.name for found in pkgutil.iter_modules(schedules.__path__)])
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    module = importlib.import_module(f"lit_optim.schedules.{name}")
    failed, tried = doctest.testmod(module)
    assert failed == 0
    public = [cls for cls in PUBLIC if cls.__module__ == module.__name__]
    assert tried >= len(public)


@pytest.mark.parametrize("cls", PUBLIC)
def test_each_says_its_formula_its_arguments_and_shows_an_example(cls: Any) -> None:
    doc = inspect.cleandoc(cls.__doc__)
    assert ">>> " in doc
    own = [name for name in inspect.get_annotations(cls) if name not in ("warmup", "start_factor")]
    assert all(f"\n    {name}: " in doc for name in own)
    assert "v(" in doc or not own  # the formula
    assert dataclasses.is_dataclass(cls)


def test_the_base_can_not_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Schedule()  # type: ignore[abstract]


def test_schedules_inside_of_schedules_are_plain_data_in_a_plan() -> None:
    import torch

    import lit_optim as lo

    inner = {"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.1}
    node = {"_target_": "lit_optim.schedules.Joined", "schedules": [inner, inner], "at": ["50%"]}
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}, "schedule": {"lr": node}}
    plan = lo.make_plan(torch.nn.Linear(2, 2), recipe, Horizon(100))
    again = Plan.from_json(plan.to_json())
    assert again.hash == plan.hash
    assert again.curve("default", "lr")[[0, 25, 49, 50, 75]].tolist() == pytest.approx(
        [1.0, 0.55, plan.curve("default", "lr")[49], 1.0, 0.55]
    )


@pytest.mark.parametrize("total", [*range(20, 700, 7), 630])
def test_shares_that_make_a_whole_fit_into_any_run(total: int) -> None:
    run = Horizon(total)
    for warmup in (5, 15, 50):
        curve = WarmupStableDecay(f"{100 - warmup}%", warmup=f"{warmup}%").curve(1.0, run)
        assert curve(total) == 0.0
        assert max(curve(step) for step in range(total)) == 1.0
    curve = OneCycle("50%", three_phase=True, final_factor=0.0).curve(1.0, run)
    assert curve(0) == 0.04
    assert curve(total) == 0.0


def test_a_schedule_is_told_as_it_was_written() -> None:
    assert str(Warmup(Cosine(), warmup="10%")) == "Warmup(schedule=Cosine(), warmup='10%')"
    assert str(Joined([Constant(), Cosine(final_factor=0.1)], at=[5])) == (
        "Joined(schedules=[Constant(), Cosine(final_factor=0.1)], at=[5])"
    )
