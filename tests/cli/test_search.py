"""Searches with Optuna, and grids: the shipped search spaces, what they refuse, what they keep."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lit_optim.conf
import optuna
import pytest
from forked import Server
from omegaconf import OmegaConf

from lit_optim.cli.overrides import as_typed
from lit_optim.cli.search import all_failed

SWEEPERS = Path(lit_optim.conf.__file__).parent / "hydra" / "sweeper"
BARE = ("data=digits", "data.batch_size=256", "model.hidden_dims=[8]", "test=false", "trainer.max_epochs=1",
        "callbacks=none", "logger=none")  # fmt: skip
LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
STORED = ("hydra.sweeper.storage=sqlite:///sweep.db", "hydra.sweeper.study_name=mine")


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="mine", storage=f"sqlite:///{folder}/sweep.db")


def overrides(folder: Path) -> list[dict[str, str]]:
    """What each job of the sweeps below a folder was told, in order."""
    files = sorted(folder.rglob("overrides.yaml"), key=lambda path: (path.parts[-4], int(path.parts[-3])))
    return [dict(one.split("=", 1) for one in as_typed([*OmegaConf.load(path)])) for path in files]


# --- the configs -----------------------------------------------------------------------------------------------------


def command_of(name: str) -> tuple[str, list[str]]:
    purpose, command = (line.removeprefix("# ") for line in (SWEEPERS / name).read_text().splitlines()[:2])
    return purpose, shlex.split(command)


def test_the_configs_are_there() -> None:
    names = {path.stem for path in SWEEPERS.iterdir()}
    assert names == {"grid_sgd", "grid_adamw", "tpe", "tpe_sgd", "tpe_adamw"}


def test_cfg_prints_the_space_and_runs_nothing(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", "hydra/sweeper=tpe_sgd", "--cfg", "hydra", "--package", "hydra.sweeper")
    assert (ended.code, ended.err) == (0, "")
    assert OmegaConf.create(ended.out).params == OmegaConf.load(SWEEPERS / "tpe_sgd.yaml").params
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tpe.yaml", "tpe_sgd.yaml", "tpe_adamw.yaml"])
def test_a_search_runs_a_trial_by_the_command_in_its_file(name: str, lit_optim_: Any, tmp_path: Path) -> None:
    purpose, (program, verb, multirun, *typed) = command_of(name)
    assert (program, verb, multirun) == ("lit-optim", "train", "-m")
    assert purpose.endswith((".", ";"))
    assert f"hydra/sweeper={name.removesuffix('.yaml')}" in typed
    ended = lit_optim_("train", "-m", *typed, *BARE, "hydra.sweeper.n_trials=1")
    assert (ended.code, ended.err) == (0, "")
    [told] = overrides(tmp_path)
    params = OmegaConf.load(SWEEPERS / name).get("params") or {"optimizer.lr": ""}
    assert {*params} <= {*told}
    [results] = tmp_path.rglob("optimization_results.yaml")
    metrics = json.loads((results.parent / "0" / "metrics.json").read_text())
    assert OmegaConf.load(results).best_value == metrics["final"]["val/acc"]


@pytest.mark.parametrize(
    ("name", "optimizer"), [("grid_sgd", "sgd"), ("grid_sgd", "nesterov"), ("grid_adamw", "adamw")]
)
def test_a_grid_runs_all_that_the_command_line_leaves_open(
    name: str, optimizer: str, lit_optim_: Any, tmp_path: Path
) -> None:
    _, (program, verb, multirun, *typed) = command_of(f"{name}.yaml")
    assert (program, verb, multirun, typed[0]) == ("lit-optim", "train", "-m", f"hydra/sweeper={name}")
    params = OmegaConf.load(SWEEPERS / f"{name}.yaml").params
    fixed = {"optimizer.weight_decay": "0.1", "optimizer.lr": "0.01"}
    ended = lit_optim_("train", "-m", *typed, *BARE, f"optimizer={optimizer}",
                       *(f"{key}={value}" for key, value in fixed.items()))  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    [open_] = {*params} - {*fixed} - {one.split("=")[0] for one in typed} or {None}
    told = overrides(tmp_path)
    assert all(one.items() >= fixed.items() for one in told)
    if open_ is not None:
        assert [one[open_] for one in told] == params[open_].split(",")
        assert ended.out.count("\nagain      ") == 1


def test_a_range_on_the_command_line_takes_the_place_of_the_config_s(lit_optim_: Any, tmp_path: Path) -> None:
    space = ("hydra/sweeper=tpe_sgd", "optimizer=momentum", "optimizer.momentum=0.9", "optimizer.lr=interval(0.2,0.3)")
    assert lit_optim_("train", *BARE, "-m", *space, "hydra.sweeper.n_trials=3", *STORED).code == 0
    assert len({one["optimizer.lr"] for one in overrides(tmp_path)}) == 3
    assert all(0.2 <= float(one["optimizer.lr"]) <= 0.3 for one in overrides(tmp_path))
    assert [{*trial.params} for trial in study(tmp_path).trials] == [{"++optimizer.lr", "++optimizer.weight_decay"}] * 3


# --- what a search keeps ---------------------------------------------------------------------------------------------


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(lit_optim_: Any, tmp_path: Path) -> None:
    search = ("hydra/sweeper=tpe", "optimizer.lr=interval(-0.6,0.4)", "hydra.sweeper.n_trials=4", *STORED)
    ended = lit_optim_("train", *BARE, "-m", *search)
    assert ended.code == 1
    trials = study(tmp_path).trials
    failed = {str(trial.number) for trial in trials if trial.params["++optimizer.lr"] < 0}
    assert 0 < len(failed) < len(trials) == 4
    assert {str(trial.number) for trial in trials if trial.state.name == "FAIL"} == failed
    assert all(trial.value is None for trial in trials if str(trial.number) in failed)
    runs = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("metrics.json")}
    assert {name for name, run in runs.items() if run["status"] == "refused"} == failed
    for trial in trials:
        assert trial.value == runs[str(trial.number)]["final"].get("val/acc")
    assert f"lit-optim: {len(failed)} of 4 jobs failed" in ended.err
    assert "Traceback" not in ended.err
    assert study(tmp_path).direction.name == "MAXIMIZE"
    again = shlex.split(ended.out.splitlines()[-1])
    assert f"optimizer.lr={study(tmp_path).best_params['++optimizer.lr']}" in again
    assert not any("hydra" in one for one in again)


def test_a_trial_without_a_number_fails_and_a_search_for_less_minimizes(lit_optim_: Any, tmp_path: Path) -> None:
    choices = ("optimizer=sgd", "schedule=none", "optimizer.lr=choice(0.1,1e30)", "optimized_metric=val/loss")
    ended = lit_optim_("train", *BARE, "-m", "hydra/sweeper=tpe", *choices, "hydra.sweeper.n_trials=4", *STORED)
    assert ended.code == 1
    states = {trial.params["++optimizer.lr"]: trial.state.name for trial in study(tmp_path).trials}
    assert states == {0.1: "COMPLETE", 1e30: "FAIL"}
    assert study(tmp_path).direction.name == "MINIMIZE"
    assert "(lower is better)" in ended.out


@pytest.mark.parametrize("more", [(), STORED], ids=["in memory", "stored"])
def test_a_search_of_which_every_trial_fails_tells_that_alone(
    more: tuple[str, ...], lit_optim_: Any, tmp_path: Path
) -> None:
    search = ("hydra/sweeper=tpe", "optimizer.lr=interval(-2,-1)", "hydra.sweeper.n_trials=2", *more)
    ended = lit_optim_("train", *BARE, "-m", *search)
    assert ended.code == 1
    assert "lit-optim: 2 of 2 jobs failed" in ended.err
    assert ended.err.count("Error") == 4  # twice for each job
    assert {path.name for path in tmp_path.iterdir()} == ({"sweep.db"} if more else set())
    assert not all_failed(ValueError("another"))


def test_the_same_seed_tries_the_same_and_a_stored_study_goes_on(lit_optim_: Any, tmp_path: Path) -> None:
    search = ("hydra/sweeper=tpe", LR, "hydra.sweeper.n_trials=2")
    whole, other = ("hydra.sweeper.n_trials=4",), ("hydra.sweeper.sampler.seed=1",)
    told = {}
    for name, more in (("a", ()), ("b", STORED), ("c", STORED), ("d", other), ("e", whole)):
        ended = lit_optim_("train", *BARE, f"name={name}", "-m", *search, *more)
        assert ended.code == 0
        told[name] = [line for line in ended.out.splitlines() if line.startswith(("study", "its best"))]
    a, b, c, d, e = ([one["optimizer.lr"] for one in overrides(tmp_path / "runs" / name)] for name in "abcde")
    assert a == b
    assert [*b, *c] == e
    assert not {*d} & {*e}
    assert len(study(tmp_path).trials) == 4
    best = study(tmp_path).best_trial
    where = "of another sweep" if best.number < 2 else f"run {best.number - 2}"
    assert told.pop("c") == [
        "study      mine, 4 trials by now: runs 0 to 1 are trials 2 to 3",
        f"its best   trial {best.number}, {where}, which has come to {best.value:.5g}",
    ]
    assert not any(told.values())


# --- one study, several sweeps at the same time ----------------------------------------------------------------------


def at_once(forked: Server, folder: Path, arguments: Sequence[tuple[str, ...]], *more: str) -> None:
    """Run commands side by side, which all have to succeed."""
    started = []
    try:
        for number, own in enumerate(arguments):
            with (folder / f"printed.{number}").open("w") as stream:
                command = (*own, *more)
                started.append(forked.start(*command, cwd=folder, stdout=stream.fileno(), stderr=stream.fileno()))
        codes = [one.wait(120) for one in started]
    finally:
        for one in started:
            one.send_signal(signal.SIGKILL)
    assert codes == [0] * len(codes), [path.read_text() for path in sorted(folder.glob("printed.*"))]


def sweeps_at_once(forked: Server, folder: Path, count: int, *more: str) -> list[optuna.trial.FrozenTrial]:
    """The trials of sweeps with one study that does not exist when they start; each was run once, and is its own."""
    space = ("hydra/sweeper=tpe_sgd", "optimizer=momentum", *STORED)
    commands = [("-m", "lit_optim", "train", "-m", *BARE, f"name=sweep_{number}") for number in range(count)]
    at_once(forked, folder, commands, *space, *more)
    trials = study(folder).trials
    assert [(trial.number, trial.state.name) for trial in trials] == [(n, "COMPLETE") for n in range(len(trials))]
    for key in ("++optimizer.lr", "++optimizer.momentum", "++optimizer.weight_decay"):
        assert len({trial.params[key] for trial in trials}) == len(trials)
    jobs = [
        {float(one["optimizer.lr"]) for one in overrides(folder / "runs" / f"sweep_{number}")}
        for number in range(count)
    ]
    assert [len(own) for own in jobs] == [len(trials) / count] * count
    assert set.union(*jobs) == {trial.params["++optimizer.lr"] for trial in trials}
    return trials


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_sweeps_that_start_at_the_same_time_share_a_study(count: int, forked: Server, tmp_path: Path) -> None:
    assert len(sweeps_at_once(forked, tmp_path, count, "hydra.sweeper.n_trials=2")) == 2 * count


@pytest.mark.slow
def test_a_trial_of_two_ranks_is_one(forked: Server, tmp_path: Path) -> None:
    two = ("trainer=ddp_cpu", "trainer.devices=2", "trainer.max_epochs=1", "data.batch_size=128")
    trials = sweeps_at_once(forked, tmp_path, 2, *two, "hydra.sweeper.n_trials=2")
    assert len(trials) == 4
    runs = [path.parent for path in tmp_path.rglob("metrics.json")]
    results = {
        OmegaConf.load(run / ".hydra" / "config.yaml").optimizer.lr: json.loads((run / "metrics.json").read_text())
        for run in runs
    }
    assert {rate: run["final"]["val/acc"] for rate, run in results.items()} == {
        trial.params["++optimizer.lr"]: trial.value for trial in trials
    }


@pytest.mark.slow
def test_the_tables_are_made_by_whoever_comes_first(forked: Server, tmp_path: Path) -> None:
    """Of Optuna's own attempts that begin in the same moment, more fail than not."""
    code = """
import os, time
from pathlib import Path
from omegaconf import OmegaConf
from lit_optim.cli.search import _check_study

def check(name):
    _check_study(OmegaConf.create({"storage": f"sqlite:///{name}.db", "study_name": "mine"}), "maximize")

check(f"own.{os.getpid()}")  # which imports what it takes
for number in range(4):
    Path(f"ready.{number}.{os.getpid()}").touch()
    bound = time.monotonic() + 20
    while len([*Path().glob(f"ready.{number}.*")]) < 3 and time.monotonic() < bound:
        time.sleep(0.001)
    check(number)
"""
    at_once(forked, tmp_path, [("-c", code)] * 3)
    for number in range(4):
        assert optuna.create_study(storage=f"sqlite:///{tmp_path}/{number}.db").trials == []


def test_what_would_search_the_other_way_is_refused(lit_optim_: Any, tmp_path: Path) -> None:
    search = ("hydra/sweeper=tpe", LR, "hydra.sweeper.n_trials=1", *STORED)
    assert lit_optim_("train", *BARE, "-m", *search).code == 0
    ended = lit_optim_("train", *BARE, "-m", *search, "optimized_metric=val/loss")
    assert ended.code == 1
    assert "hydra.sweeper.study_name: this study is to maximize its metric, and the search to minimize it" in ended.err
    assert len(study(tmp_path).trials) == 1


def test_a_direction_that_is_said_is_taken_where_nothing_else_tells(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "mae.py").write_text(
        "import torch\n"
        "from lightning.pytorch import LightningModule\n\n"
        "class Mae(LightningModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "    def training_step(self, batch, _):\n"
        "        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])\n"
        "    def validation_step(self, batch, _):\n"
        "        self.log('val/score', 0.5)\n"
    )
    bare = [one for one in BARE if not one.startswith("model.")]
    space = ("~model", "+model._target_=mae.Mae", "optimized_metric=val/score", "hydra/sweeper=optuna", LR)
    ended = lit_optim_("train", *bare, *space, "-m", "hydra.sweeper.n_trials=2", *STORED)  # minimizes, unless told
    assert ended.code == 0, ended.err
    assert study(tmp_path).direction.name == "MINIMIZE"
    assert "by best val/score (lower is better)" in ended.out


# --- what is refused before the first job ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            ("hydra/sweeper=tpe_sgd", "optimizer=adamw"),
            (
                "optimizer.momentum: torch.optim.AdamW has no hyperparameter 'momentum'",
                "given:   optimizer.momentum=interval(0.8, 0.99), by hydra/sweeper=tpe_sgd",
                "tpe_sgd optimizer=sgd, momentum, nesterov or rmsprop",
            ),
        ),
        (("hydra/sweeper=grid_sgd",), ("optimizer.momentum: torch.optim.AdamW has no",)),
        (("hydra/sweeper=tpe_adamw", "optimizer=momentum"), ("optimizer.betas: torch.optim.SGD has no",)),
        (("optimizer.momentun=0.8,0.9", "optimizer=sgd"), ("nearest: momentum", "leave it out, or")),
        (("hydra/sweeper=tpe_adamw", "hydra.sweeper.n_trails=5"), ("hydra.sweeper.n_trails: ", "nearest: n_trials")),
        ((LR,), ("optimizer.lr: this sweeper tries every value", "hydra/sweeper=tpe")),
        (("hydra/sweeper=tpe",), ("hydra.sweeper.params: nothing has a range", "hydra/sweeper=tpe_sgd")),
        (("hydra/sweeper=tpe", "optimizer.lr=0.1"), ("hydra.sweeper.params: nothing has a range",)),
        (("hydra/sweeper=tpe", LR, "seed=1,2"), ("seed: a search among seeds", "given:   seed=1,2")),
        (("hydra/sweeper=optuna", LR), ("hydra.sweeper.direction: more of val/acc is better", "=maximize")),
        (("hydra/sweeper=tpe", LR, "hydra.sweeper.direction=maximise"), ("direction: there is no", "nearest: max")),
        (("hydra/sweeper=tpe", LR, "hydra.sweeper.direction=[minimize,maximize]"), ("a run has one objective",)),
        (
            ("hydra/sweeper=tpe", LR, "hydra.sweeper.direction=maximize", "optimized_metric=val/loss"),
            ("hydra.sweeper.direction: less of val/loss is better", "=minimize"),
        ),
        (("hydra/sweeper=tpe", LR, "optimized_metric=val/score"), ("whether more or less of val/score is better",)),
        (("hydra/sweeper=tpe", LR, "optimized_metric=null"), ("optimized_metric: a search has nothing to look at",)),
        (("hydra/sweeper=tpe", LR, "hydra.sweeper.n_trials=0"), ("hydra.sweeper.n_trials: ", "given:   0")),
        (("hydra/sweeper=tpe", LR, "hydra.sweeper.sampler.seed=-1"), ("hydra.sweeper.sampler.seed: ", "given:   -1")),
        (("hydra/sweeper=tpe", LR, "hydra/launcher=joblib"), ("hydra.sweeper.n_jobs: ", "given:   -1")),
        (
            ("hydra/sweeper=tpe", LR, "hydra.sweeper.storage=sqlite:////no/such/folder.db", STORED[1]),
            ("hydra.sweeper.storage: the storage can't be used: (sqlite3.OperationalError) unable to open",),
        ),
        (
            ("hydra/sweeper=tpe", LR, "hydra.sweeper.storage=nonsense", STORED[1]),
            ("storage can't be used", "sqlite:///sweep.db"),
        ),
        (("hydra/sweeper=tpe", LR, STORED[0]), ("hydra.sweeper.study_name: a study without a name", "study_name=lr")),
        (("hydra/sweeper=tpe_sdg",), ("hydra/sweeper: there is no 'tpe_sdg'", "nearest: tpe_sgd")),
        (("hydra/launcher=jobllib",), ("hydra/launcher: there is no", "nearest: joblib")),
        (("hydra/sweper=tpe",), ("hydra/sweper: ", "nearest: hydra/sweeper")),
    ],
)  # fmt: skip
def test_one_error_and_no_job(typed: tuple[str, ...], told: tuple[str, ...], lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *BARE, "-m", *typed)
    assert ended.code == 1
    assert all(one in ended.err for one in told), ended.err
    assert ended.err.count("lit-optim: ") == 1
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_where_the_optimizer_is_swept_each_job_is_looked_at_by_itself(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *BARE, "-m", "optimizer=momentum,adamw", "optimizer.momentum=0.8,0.9")
    assert ended.code == 1
    statuses = [json.loads(path.read_text())["status"] for path in sorted(tmp_path.rglob("metrics.json"))]
    assert statuses == ["finished", "finished", "refused", "refused"]
    assert "torch.optim.AdamW has no hyperparameter 'momentum'" in ended.err
