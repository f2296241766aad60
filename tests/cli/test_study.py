from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.distributions import UniformDistribution
from optuna.trial import TrialState
from runfolders import make_run

from lit_optim.cli.study import told_of
from lit_optim.runs.reading import Run, read_run

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # of create_trial
LR = "++optimizer.lr"


@pytest.fixture
def study() -> optuna.Study:
    """Three trials of other sweeps, the second of which is the best."""
    study = optuna.create_study(study_name="lr", direction="maximize")
    for lr, value in ((0.1, 0.5), (0.2, 0.9), (0.3, math.nan)):
        add(study, lr, value)
    return study


def add(study: optuna.Study, lr: float, value: float) -> None:
    fixed = {"data": "digits", "++model.hidden_dims": "[8]"}
    state = TrialState.FAIL if math.isnan(value) else TrialState.COMPLETE
    trial = optuna.trial.create_trial(
        state=state, value=None if math.isnan(value) else value, params={LR: lr}, user_attrs=fixed,
        distributions={LR: UniformDistribution(0.0, 1.0)},
    )  # fmt: skip
    study.add_trial(trial)


def run(name: str, lr: float) -> Run:
    folder = make_run(Path(name), lr=lr)
    typed = [f"{LR}={lr}", "data=digits", "++model.hidden_dims=[8]"]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(typed))
    return read_run(folder)


def test_runs_are_told_with_their_trials_and_the_best_of_another_sweep_with_its_command(study: optuna.Study) -> None:
    for lr in (0.4, 0.5):
        add(study, lr, 0.6)
    assert [*told_of(study, [run("sweep/0", 0.4), run("sweep/1", 0.5)])] == [
        "study      lr, 5 trials by now: runs 0 to 1 are trials 3 to 4",
        "its best   trial 1, of another sweep, which has come to 0.9",
        "again      lit-optim train optimizer.lr=0.2 data=digits 'model.hidden_dims=[8]'",
    ]


def test_of_equal_trials_a_run_is_the_latest(study: optuna.Study) -> None:
    for lr in (0.1, 0.7, 0.5):
        add(study, lr, 0.95 + lr / 100)
    runs = [run("sweep/0", 0.1), run("sweep/1", 0.5)]
    (lost := run("sweep/2", 0.6)).folder.joinpath(".hydra", "overrides.yaml").unlink()
    assert [*told_of(study, [*runs, lost])][:2] == [
        "study      lr, 6 trials by now: run 0 is trial 3, run 1 is trial 5",
        "its best   trial 4, of another sweep, which has come to 0.957",
    ]
    add(study, 0.6, 0.99)
    told = [*told_of(study, [*runs, run("sweep/3", 0.6)])]
    assert told[1:] == ["its best   trial 6, run 3, which has come to 0.99"]


def test_a_study_of_this_sweep_alone_has_the_numbers_of_its_jobs() -> None:
    study = optuna.create_study(study_name="lr", direction="maximize")
    add(study, 0.1, 0.5)
    assert [*told_of(study, [run("sweep/0", 0.1)])] == []


def test_a_study_without_a_result_has_no_best() -> None:
    study = optuna.create_study(study_name="lr", direction="maximize")
    add(study, 0.1, math.nan)
    assert [*told_of(study, [])] == ["study      lr, 1 trial by now"]
