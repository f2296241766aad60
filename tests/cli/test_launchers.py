"""Sweeps whose jobs other processes run: submitit's, on this machine; of SLURM's, what would be handed in."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lit_optim.conf
import pytest
import submitit

LAUNCHERS = Path(lit_optim.conf.__file__).parent / "hydra" / "launcher"
README = (LAUNCHERS.parent.parent.parent / "README.md").read_text(encoding="utf-8")
TINY = ("data=digits", "data.batch_size=256", "model.hidden_dims=[8]", "test=false", "trainer.max_epochs=1")
BARE = (*TINY, "callbacks=none", "logger=none")


def command_of(name: str) -> list[str]:
    purpose, command = (line.removeprefix("# ") for line in (LAUNCHERS / name).read_text().splitlines()[:2])
    assert purpose.endswith(" (extra slurm).")
    program, verb, multirun, *typed = shlex.split(command)
    assert (program, verb, multirun, typed[0]) == ("lit-optim", "train", "-m", f"hydra/launcher={Path(name).stem}")
    assert f"\n{command}" in README
    return typed


def statuses(folder: Path) -> list[str]:
    [sweep] = (folder / "runs" / "default").iterdir()
    return [json.loads((sweep / name / "metrics.json").read_text())["status"] for name in "01"]


def test_the_configs_are_there() -> None:
    assert {path.name for path in LAUNCHERS.iterdir()} == {"local.yaml", "slurm.yaml"}


@pytest.mark.slow
def test_jobs_run_in_processes_of_their_own(process: Any, tmp_path: Path) -> None:
    typed = [one for one in command_of("local.yaml") if not one.startswith("seed=")]
    ended = process("train", "-m", *typed, *BARE, "seed=1,2", timeout=180)
    assert ended.code == 0, ended.err
    assert statuses(tmp_path) == ["finished", "finished"]
    [sweep] = (tmp_path / "runs" / "default").iterdir()
    logs = [path.read_text() for path in sorted((sweep / ".submitit").glob("*_log.out"))]
    assert sum(log.count("run        6 steps, runs/default/") for log in logs) == 2


@pytest.fixture
def handed_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What sbatch would get; the jobs then run here."""
    texts: list[str] = []
    srun = tmp_path / "bin" / "srun"  # which submitit looks for, and Lightning as well
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)

    def here(auto: Any, function: Any, *arguments: Any) -> list[Any]:
        executor = auto._executor
        executor.parameters["map_count"] = len(arguments[0])
        texts.append(executor._make_submission_file_text("the command", "id"))
        srun.unlink()
        done = [function(*own) for own in zip(*arguments, strict=True)]
        return [SimpleNamespace(results=lambda one=one: [one]) for one in done]

    monkeypatch.setattr(submitit.AutoExecutor, "map_array", here)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")  # as in a job
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "1")
    monkeypatch.setenv("PATH", f"{srun.parent}", prepend=":")
    return texts


def test_slurm_gets_an_array_of_jobs(handed_in: list[str], lit_optim_: Any, tmp_path: Path) -> None:
    typed = [one for one in command_of("slurm.yaml") if not one.startswith(("seed=", "optimizer="))]
    ended = lit_optim_("train", "-m", *typed, *BARE, "seed=1,2")
    assert ended.code == 0, ended.err
    assert statuses(tmp_path) == ["finished", "finished"]
    asked = {line.removeprefix("#SBATCH --") for line in handed_in[0].splitlines() if line.startswith("#SBATCH")}
    assert asked >= {"array=0-1%2", "cpus-per-task=4", "job-name=default", "nodes=1", "partition=gpu", "time=240"}
