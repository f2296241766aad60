from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lit_optim.cli import job
from lit_optim.cli.app import run_app
from lit_optim.cli.job import Ended, Job, hydra_files, is_sweep
from lit_optim.errors import ConfigError, Mistake
from lit_optim.integration.run_folder import RunFolder
from lit_optim.runs.finding import find_runs
from lit_optim.runs.reading import read_run


def refuse(config: DictConfig) -> None:
    raise ConfigError(Mistake("seed", "not this one", str(config.seed)))


def test_it_crosses_to_another_process_with_what_it_has_to_know_there() -> None:
    one = Job(refuse, ["lit-optim", "train"], [], None, ("made.net",))
    assert pickle.loads(pickle.dumps(one)) == one
    assert isinstance(pickle.loads(pickle.dumps(Ended(SystemExit(3)))).by, SystemExit)


def test_a_job_knows_whether_it_is_one_of_a_sweep() -> None:
    seen: list[bool] = []
    assert run_app(["hydra.run.dir=."], lambda config: seen.append(is_sweep())) == 0
    assert run_app(["-m", "seed=1"], lambda config: seen.append(is_sweep())) == 0
    assert seen == [False, True]


def test_what_goes_into_hydras_folder_is_resolved_as_far_as_it_can_be() -> None:
    seen: list[dict[str, str]] = []
    run_app(["hydra.run.dir=.", "seed=3", "data=digits"], lambda config: seen.append(hydra_files(config)))
    run_app(["hydra.run.dir=.", "name='${nowhere}'"], lambda config: seen.append(hydra_files(config, ["a=1"])))
    sound, unsound = seen
    assert OmegaConf.create(sound["config.yaml"]).data.seed == 3
    assert "${" not in sound["config.yaml"]
    assert OmegaConf.create(sound["overrides.yaml"]) == ["seed=3", "data=digits"]
    assert OmegaConf.create(sound["hydra.yaml"]).hydra.job.name == "train"
    assert "name: ${nowhere}" in unsound["config.yaml"]
    assert OmegaConf.create(unsound["overrides.yaml"]) == ["a=1"]


@pytest.mark.parametrize("kind", ["refused", "crashed"])
def test_what_never_began_is_recorded_as_refused_or_as_a_fault(kind: str, tmp_path: Path) -> None:
    def task(config: DictConfig) -> None:
        if config.seed == 1:  # comes to something, so that the sweep stays
            (Path(HydraConfig.get().runtime.output_dir) / "metrics.json").write_text('{"status": "finished"}')
        elif kind == "refused":
            refuse(config)
        else:
            raise ZeroDivisionError

    assert run_app(["-m", "seed=1,2", "hydra.sweep.dir=sweep"], task) == 1
    _, run = map(read_run, find_runs(["sweep"]))
    assert (run.folder.name, run.status, run.seed, run.steps) == ("1", kind, 2, 0)
    said = {"refused": "ConfigError: seed: not this one\n    given:   2", "crashed": "ZeroDivisionError"}
    assert run.error == said[kind]


@pytest.mark.parametrize("away", [False, True])
def test_what_can_not_be_recorded_is_counted_here_and_raised_elsewhere(
    away: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write", full)
    if away:
        home = os.getpid()
        monkeypatch.setattr(job.os, "getpid", lambda: home + (sys._getframe(1).f_code.co_name == "__call__"))
    assert run_app(["-m", "seed=1,2"], refuse) == 1
    err = capsys.readouterr().err
    assert ("0 │ lit-optim: ConfigError" if away else "lit-optim: ConfigError") in err.splitlines()
    assert not [*tmp_path.rglob("metrics.json"), *tmp_path.rglob(".hydra")]
