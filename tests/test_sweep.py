import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lit_optim as lo
from lit_optim.sweep import Geometric, Sweep, smoothed, swept

FACTORS = tuple(10 ** (-5 + 8 * step / 99) for step in range(100))


def valley(centre: float) -> Sweep:
    """Flat, then a smooth fall around ``centre`` over two decades, then a rise."""
    logs = [math.log10(factor) - centre for factor in FACTORS]
    losses = [2.3 - 1.0 / (1 + math.exp(-4 * log)) + math.exp(6 * (log - 2)) for log in logs]
    return Sweep(FACTORS, tuple(losses), True)


@pytest.mark.parametrize("centre", [-3.0, -1.0, 0.5])
def test_the_suggestions_of_a_curve_with_known_answers(centre: float) -> None:
    sweep = valley(centre)
    found = {name: math.log10(factor) for name, factor in sweep.suggestions.items()}
    assert found["steepest"] == pytest.approx(centre, abs=0.15)
    lowest = FACTORS[min(range(100), key=sweep.losses.__getitem__)]
    assert found["min/10"] == pytest.approx(math.log10(lowest) - 1, abs=0.15)
    assert -5 < found["valley"] < math.log10(lowest)


def test_a_long_slight_fall_in_the_flat_part_is_no_valley() -> None:
    slight = [2.3 - 1e-4 * step for step in range(40)]
    losses = [*slight, *([2.3] * 20), *(2.3 - 0.1 * step for step in range(20)), *([9.0] * 20)]
    assert 1e-5 * 10 ** (8 * 60 / 99) < Sweep(FACTORS, tuple(losses), True).suggestions["valley"] < 1e2


@pytest.mark.parametrize(
    ("losses", "early", "told"),
    [
        ((2.3,) * 5, True, "the loss diverged at once"),
        ((2.3,) * 100, False, "the loss never falls"),
        (tuple(2.3 + 0.1 * step for step in range(30)), True, "lower --low"),
    ],
)
def test_a_curve_that_tells_nothing_is_refused(losses: tuple[float, ...], early: bool, told: str) -> None:
    with pytest.raises(lo.RunError, match=told):
        _ = Sweep(FACTORS[: len(losses)], losses, early).suggestions


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=80))
def test_smoothing_stays_between_the_extremes(losses: list[float]) -> None:
    curve = smoothed(losses)
    assert len(curve) == len(losses)
    assert min(losses) - 1e-9 <= min(curve)
    assert max(curve) <= max(losses) + 1e-9
    assert curve[0] == pytest.approx(losses[0])


def test_the_factor_grows_by_the_same_ratio_and_ends_where_it_should() -> None:
    sweep = Geometric(1e-3, 1e1, 5)
    assert [sweep.factor(step) for step in range(6)] == pytest.approx([1e-3, 1e-2, 1e-1, 1.0, 10.0, 10.0])
    assert sweep.curve(0.5, lo.Horizon(5))(3) == pytest.approx(0.5)


def test_the_recipe_of_a_sweep_moves_nothing_but_learning_rates() -> None:
    recipe = lo.Recipe.from_config(
        {
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
            "rules": {
                "stem": {"match": "0", "freeze_until": "50%"},
                "head": {"match": "2", "multiply": {"lr": 3.0}, "schedule": {"lr": None}},
            },
            "schedule": {"momentum": {"_target_": "lit_optim.schedules.Linear"}},
        }
    )
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    plan = lo.make_plan(model, swept(recipe, Geometric(0.1, 10.0, 3)), lo.Horizon(3))
    assert {name for group in plan.groups for name in group.schedules} == {"lr"}
    assert all(group.freeze_until == 0 for group in plan.groups)
    assert plan.curve("head", "lr") == pytest.approx([0.03, 0.3, 3.0])


def test_a_sweep_starts_from_what_the_batch_size_makes_of_the_learning_rates() -> None:
    recipe = lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.5}, "lr_batch_size": 32})
    plan = lo.make_plan(torch.nn.Linear(2, 2), swept(recipe, Geometric(0.1, 10.0, 3)), lo.Horizon(3, global_batch=64))
    assert list(plan.curve("default", "lr")) == pytest.approx([0.1, 1.0, 10.0])
