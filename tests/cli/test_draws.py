from __future__ import annotations

from statistics import median
from typing import Any

import optuna
import pytest

from lit_optim.cli.draws import ByTrial

TPE = "optuna.samplers.TPESampler"
SPACE = {
    "x": optuna.distributions.UniformDistribution(0.0, 1.0),
    "kind": optuna.distributions.CategoricalDistribution(("a", "b", "c")),
}


def tried(seed: int, *sweeps: int, sampler: str = TPE, **arguments: Any) -> list[dict[str, Any]]:
    """What sweeps of so many trials each try in turn, in one study."""
    storage = optuna.storages.InMemoryStorage()
    for count in sweeps:
        study = optuna.create_study(
            study_name="one", storage=storage, sampler=ByTrial(sampler, seed, **arguments), load_if_exists=True
        )
        for _ in range(count):
            trial = study.ask(SPACE)
            study.tell(trial, trial.params["x"])
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", [TPE, "optuna.samplers.RandomSampler"])
def test_sweeps_in_turn_try_what_one_would_have_tried(sampler: str) -> None:
    more = {"n_startup_trials": 4} if sampler == TPE else {}  # then it learns
    whole = tried(0, 8, sampler=sampler, **more)
    assert tried(0, 3, 1, 4, sampler=sampler, **more) == whole
    assert len({params["x"] for params in whole}) == 8


def test_it_learns_as_the_sampler_does() -> None:
    values = [params["x"] for params in tried(0, 40)]
    assert median(values[20:]) < 0.5 * median(values[:20])


def test_another_seed_draws_nothing_that_one_has_drawn() -> None:
    assert not {params["x"] for params in tried(0, 8)} & {params["x"] for params in tried(1, 8)}


def test_what_the_sampler_refuses_is_refused_before_a_trial() -> None:
    with pytest.raises(TypeError, match="n_startup"):
        ByTrial(TPE, 0, n_startup=3)
