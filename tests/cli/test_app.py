from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from lit_optim.cli.app import NewFolders, run_app
from lit_optim.cli.composition import unwritable
from lit_optim.cli.reporting import report
from lit_optim.errors import ConfigError, Mistake, PlanError

HERE = "hydra.run.dir=."


def test_calls_the_task_with_the_composed_config() -> None:
    seen: list[DictConfig] = []
    assert run_app(["optimizer=sgd", "seed=3"], seen.append, extra=[HERE]) == 0
    [config] = seen
    assert (config.seed, config.optimizer._target_) == (3, "torch.optim.SGD")


def test_what_goes_before_hydra_wins_over_the_user() -> None:
    seen: list[DictConfig] = []
    assert run_app(["seed=3"], seen.append, extra=[HERE, "seed=4"]) == 0
    assert seen[0].seed == 4


def test_the_task_sees_the_command_line_as_it_was_typed() -> None:
    typed, seen = list(sys.argv), []
    assert run_app(["seed=3"], lambda config: seen.append(list(sys.argv)), extra=[HERE]) == 0
    assert seen == [typed]
    assert sys.argv == typed


def test_the_working_directory_is_importable(tmp_path: Path) -> None:
    run_app(["--cfg", "job"], lambda config: None)
    assert sys.path[0] == str(tmp_path)
    run_app(["--cfg", "job"], lambda config: None)
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize("value", [None, "0", "1"])
def test_the_wish_for_a_traceback_reaches_the_task_and_stays(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", value)
    seen: list[str | None] = []
    assert run_app([], lambda config: seen.append(os.environ.get("HYDRA_FULL_ERROR")), extra=[HERE]) == 0
    assert seen == [value]
    assert os.environ.get("HYDRA_FULL_ERROR") == value
    assert run_app(["optimizer=nope"], lambda config: None) == 1
    assert os.environ.get("HYDRA_FULL_ERROR") == value


def refuse(config: DictConfig) -> None:
    raise PlanError(Mistake("rules.a", "this can't be", remedy="think again"))


def test_a_refusal_is_told_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app([], refuse, extra=[HERE]) == 1
    assert capsys.readouterr().err == "lit-optim: PlanError\nrules.a: this can't be\n    fix:     think again\n"


def test_a_refusal_comes_with_its_traceback_where_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert run_app([], refuse, extra=[HERE]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert "in refuse" in err
    assert err.endswith("    fix:     think again\n")


def test_a_fault_of_the_program_is_told_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: DictConfig) -> None:
        raise ZeroDivisionError("a bug")

    assert run_app([], fail, extra=[HERE]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: a bug" in err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (SIGTERMException(), 143, "terminated"),
        (SystemExit(0), 1, "ended before its time, by SystemExit: 0"),
    ],
)
def test_what_ends_a_run_early_is_no_success(
    raised: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(config: DictConfig) -> None:
        raise raised

    assert run_app([], stop, extra=[HERE]) == code
    assert capsys.readouterr().err == f"lit-optim: {said}\n"


@pytest.mark.parametrize(("rank", "told"), [("0", 1), ("1", 0)])
def test_of_several_processes_one_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str, told: int
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    report(ConfigError(Mistake("a", "b")))
    assert capsys.readouterr().err.count("lit-optim: ConfigError") == told


def test_every_job_of_a_sweep_runs_and_one_failure_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[int] = []

    def task(config: DictConfig) -> None:
        seen.append(config.seed)
        if config.seed != 2:
            refuse(config)

    assert run_app(["-m", "seed=1,2,3"], task) == 1
    assert seen == [1, 2, 3]
    assert capsys.readouterr().err.count("lit-optim: PlanError") == 2


def test_notes_the_folders_that_a_launch_makes(tmp_path: Path) -> None:
    there, seen = tmp_path / "there", []
    there.mkdir()
    run_app(
        ["hydra.run.dir=there/a/b"],
        lambda config: seen.extend([NewFolders.of(there / "a" / "b"), NewFolders.of(there)]),
    )
    assert seen == [{there / "a", there / "a" / "b"}, set()]


def test_of_a_sweep_the_jobs_folders_are_new_too(tmp_path: Path) -> None:
    sweep, seen = tmp_path / "sweep", []
    run_app(["-m", "seed=1,2", "hydra.sweep.dir=sweep"], lambda config: seen.append(NewFolders.of(sweep / "1")))
    assert seen == [{sweep, sweep / "1"}] * 2


def test_a_sweep_that_was_refused_throughout_leaves_nothing(tmp_path: Path) -> None:
    def task(config: DictConfig) -> None:
        for job in (tmp_path / "runs").rglob("[01]"):
            job.rmdir()  # as a refused run does

    assert run_app(["-m", "seed=1,2"], task) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_left_something_stays_with_its_list_of_jobs(tmp_path: Path) -> None:
    def task(config: DictConfig) -> None:
        [job, *_] = sorted((tmp_path / "mine").rglob("0"))
        (job / "result.txt").write_text("kept")

    assert run_app(["-m", "seed=1,2", "hydra.sweep.dir=mine"], task) == 0
    assert (tmp_path / "mine" / "multirun.yaml").exists()
    assert (tmp_path / "mine" / "0" / "result.txt").exists()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device", "/x/y"), ("No space left on device", "/x/y")),
        (PermissionError(13, "Permission denied", "/x"), ("Permission denied", "/x")),
        (OSError("odd"), ("odd",)),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_by_its_key(error: OSError, says: tuple[str, ...]) -> None:
    text = str(unwritable(error))
    assert text.startswith("hydra.run.dir: the run's folder can't be written")
    for words in says:
        assert words in text


def test_the_names_beside_an_unknown_key_are_those_of_the_other_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["trainer=fsdp", "trainer.strategy.save_distribted_checkpoint=x"], lambda config: None) == 1
    err = capsys.readouterr().err
    assert "nearest: save_distributed_checkpoint" in err
    assert "+trainer.strategy.save_distribted_checkpoint=" in err


@pytest.mark.parametrize(
    ("group", "plugin", "choice", "extra"),
    [
        ("sweeper", "optuna", "tpe_sgd", "sweep"),
        ("launcher", "joblib", "joblib", "sweep"),
        ("launcher", "submitit_slurm", "slurm", "slurm"),
        ("launcher", "submitit_local", "local", "slurm"),
    ],
)
def test_a_plugin_that_is_not_installed_is_told_with_how_to_get_it(
    group: str,
    plugin: str,
    choice: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Plugins.instance()  # finds what is installed, once
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"][group], f"{plugin}.yaml", raising=False)
    assert run_app(["-m", f"hydra/{group}={choice}", "seed=1,2"], lambda config: None) == 1
    assert capsys.readouterr().err.splitlines() == [
        "lit-optim: ConfigError",
        f"hydra/{group}: {plugin} is not installed",
        f"    given:   {plugin}",
        f'    fix:     pip install "lit-optim[{extra}]"',
    ]


def test_a_config_file_of_another_encoding_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_bytes(b"# @package _global_\nname: caf\xe9\n")
    assert run_app(["--config-dir", "own", "experiment=mine"], lambda config: None) == 1
    assert capsys.readouterr().err.splitlines() == [
        "lit-optim: ConfigError",
        "config: a config file is not text in UTF-8: invalid continuation byte",
        "    given:   after 'name: caf'",
        "    fix:     save it as UTF-8",
    ]


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--help"], ["--info", "config"]])
def test_hydras_own_flags_do_not_run_the_task(arguments: list[str]) -> None:
    seen: list[Any] = []
    assert run_app(arguments, seen.append) == 0
    assert seen == []


@pytest.mark.parametrize(("typed", "near"), [("--multrun", "--multirun"), ("--cnfig-dir=a", "--config-dir")])
def test_an_unknown_flag_is_told_with_the_nearest(typed: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app([typed, "seed=1"], lambda config: None) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["lit-optim: ConfigError", f"{typed.partition('=')[0]}: no such flag"]
    assert any(line.startswith(f"    nearest: {near}") for line in lines)


@pytest.mark.parametrize("verb", ["plan", "lr-find"])
def test_a_verbs_own_flags_are_among_the_nearest(verb: str, lit_optim_: Any) -> None:
    ended = lit_optim_(verb, "--plt", "a.png")
    assert ended.code == 1
    assert "--plt: no such flag" in ended.err
    assert "    nearest: --plot" in ended.err


@pytest.mark.parametrize(
    ("typed", "near"),
    [("hydra.job.chdr=true", "chdir"), ("hydra.jb.chdir=true", "job"), ("hydra.swep.dir=a", "sweep, sweeper")],
)
def test_an_unknown_key_of_hydras_own_is_told_with_the_nearest(
    typed: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app([typed], lambda config: None) == 1
    err = capsys.readouterr().err
    assert f"    nearest: {near}" in err
    assert err.endswith("    fix:     correct the name\n")
