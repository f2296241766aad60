"""The same curves in every tracker; each run has one of its own, however it goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandbfiles import offline_runs

from lit_optim.metrics_table import read_column, read_tags

# mlflow 3.17 loads its runs in a way that sqlalchemy 2.1 has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

TINY = (
    "data=digits",
    "trainer.max_epochs=1",
    "data.batch_size=256",
    "model.hidden_dims=[8]",
    "callbacks.progress=null",
)
ALL = ("logger=many", "logger@logger.wandb=wandb", "logger.wandb.offline=true", "logger@logger.mlflow=mlflow")
ALONE = {"csv": (), "wandb": ("logger.offline=true",), "mlflow": ()}
DIES = """
import os, signal
from lightning.pytorch import Callback

class Dies(Callback):
    def __init__(self, at: int, killed: bool = False) -> None:
        self.at, self.killed = at, killed

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == self.at:
            if self.killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the power went")
"""

Curves = dict[str, list[tuple[int, float]]]


def of_tensorboard(folder: Path) -> Curves:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def of_csv(folder: Path) -> Curves:
    path = folder / "metrics.csv"
    return {tag: [*read_column(path, tag)[0].items()] for tag in read_tags(path)}


def of_wandb(folder: Path) -> Curves:
    [written] = offline_runs(folder)
    tags = {
        tag for row in written.rows for tag in row if not tag.startswith(("_", "plan/")) and "global_step" not in tag
    }
    return {tag: written.curve(tag) for tag in tags}


def of_mlflow(database: str) -> Curves:
    client = MlflowClient(database)
    [run] = mlflow_runs(database)
    histories = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
    return {tag: sorted((one.step, one.value) for one in history) for tag, history in histories.items()}


def mlflow_runs(database: str) -> list[Any]:
    client = MlflowClient(database)
    experiment = client.get_experiment_by_name("default")
    return sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)


def rounded(curves: Curves) -> Curves:
    """As TensorBoard keeps them."""
    return {tag: [(step, float(np.float32(value))) for step, value in curve] for tag, curve in curves.items()}


@pytest.mark.slow
def test_each_tracker_has_the_same_curves(lit_optim_: Any, mlflow_database: str, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, *ALL, "hydra.run.dir=runs/one")
    assert ended.code == 0, ended.err
    folder = tmp_path / "runs" / "one"
    expected = {tag: curve for tag, curve in of_tensorboard(folder).items() if not tag.startswith("best/")}
    assert [step for step, _ in expected["train/loss"]] == [*range(6)]
    assert {"lr/no_decay", "grad_norm/default", "val/acc", "test/acc"} <= expected.keys()
    assert rounded(of_csv(folder)) == expected
    assert rounded(of_wandb(folder)) == expected
    assert rounded(of_mlflow(mlflow_database)) == expected

    [run], [written] = mlflow_runs(mlflow_database), offline_runs(folder)
    assert (run.info.status, run.info.run_name, run.data.params["optimizer.lr"]) == ("FINISHED", "one", "0.001")
    assert (written.exit_code, written.run.display_name) == (0, "one")
    assert written.config["optimizer"]["lr"] == 0.001
    assert "plan.json" in written.files
    [files] = (tmp_path / "runs" / "mlruns").glob("*/artifacts")
    assert (files / "plan.png").read_bytes() == (folder / "plan.png").read_bytes()
    assert [line for line in ended.out.splitlines() if line.startswith("dashboard")] == [
        "dashboard  tensorboard --logdir runs",
        "dashboard  runs/one/metrics.csv",
        f"dashboard  wandb sync {next((folder / 'wandb').glob('offline-run-*')).relative_to(tmp_path)}",
        "dashboard  mlflow ui --backend-store-uri sqlite:///runs/mlflow.db",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"one", "mlflow.db", "mlruns"}


@pytest.mark.parametrize("logger", ALONE)
def test_a_refused_launch_or_a_plan_begins_nothing(lit_optim_: Any, tmp_path: Path, logger: str) -> None:
    ended = lit_optim_("train", *TINY, f"logger={logger}", *ALONE[logger], "optimizer.lr=-1")
    assert (ended.code, "Traceback" in ended.err) == (1, False)
    assert ended.err.startswith("lit-optim: PlanError")
    assert lit_optim_("plan", *TINY, f"logger={logger}", *ALONE[logger]).code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_resume_that_a_tracker_refuses_leaves_the_run_as_it_was(lit_optim_: Any, tmp_path: Path) -> None:
    assert lit_optim_("train", *TINY, "logger=many", "hydra.run.dir=runs/one").code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    nowhere = ("logger@logger.mlflow=mlflow", "logger.mlflow.tracking_uri=sqlite:////proc/nowhere/runs.db")
    for verb in (("resume", "runs/one", "trainer.max_epochs=2"), ("train", *TINY, "logger=many")):
        ended = lit_optim_(*verb, *nowhere)
        assert (ended.code, "Traceback" in ended.err) == (1, False)
        assert "MLflow can't begin the run" in ended.err
        assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_refused(
    package: str, lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"{package}.tracking", raising=False)
    ended = lit_optim_("train", *TINY, f"logger={package}")
    assert ended.code == 1
    assert ended.err.startswith("lit-optim: ConfigError\nlogger: ")
    assert f'fix:     pip install "lit-optim[{package}]"; or choose another: logger=csv' in ended.err
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_config_may_name_loggers_alone(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "logger=many", "logger.csv._target_=shutil.rmtree")
    assert ended.code == 1
    assert "logger.csv._target_: shutil.rmtree is not a" in ended.err
    ended = lit_optim_("train", *TINY, "logger=none", "+logger._target_=lightning.pytorch.loggers.CSVLogger",
                       "+logger.save_dir=table", "+logger.name=null", "+logger.version=own", "test=false",
                       "hydra.run.dir=run")  # fmt: skip
    assert ended.code == 0, ended.err
    assert "train/loss" in (tmp_path / "table" / "own" / "metrics.csv").read_text()
    assert "dashboard  table/own/metrics.csv\n" in ended.out


@pytest.mark.slow
def test_each_job_of_a_sweep_has_a_run_of_its_own(lit_optim_: Any, mlflow_database: str, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    ended = lit_optim_(
        "train", *TINY, *ALL, "logger.tensorboard=null", "test=false", "+callbacks.dies._target_=dies.Dies",
        "-m", "+callbacks.dies.at=100,3,101",
    )  # fmt: skip
    assert ended.code == 1
    assert ended.err.count("RuntimeError: the power went") == 2  # then, and at the end of the sweep
    [sweep] = (tmp_path / "runs" / "default").iterdir()
    names = [f"{sweep.name}/{job}" for job in range(3)]
    runs = mlflow_runs(mlflow_database)
    assert [(run.info.run_name, run.info.status) for run in runs] == [
        (names[0], "FINISHED"), (names[1], "FAILED"), (names[2], "FINISHED"),
    ]  # fmt: skip
    assert {run.data.tags["sweep"] for run in runs} == {sweep.name}
    written = [one for job in range(3) for one in offline_runs(sweep / f"{job}")]
    assert [one.run.display_name for one in written] == names
    assert {one.run.run_group for one in written} == {sweep.name}
    assert len({one.run.run_id for one in written}) == 3
    assert [one.exit_code for one in written] == [0, 1, 0]
    steps = [len(one.curve("train/loss")) for one in written]
    assert steps == [6, 3, 6]
    assert [len(of_csv(sweep / f"{job}")["train/loss"]) for job in range(3)] == steps


@pytest.mark.slow
def test_a_killed_run_goes_on_as_the_same_run(
    lit_optim_: Any, process: Any, mlflow_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of this process, whose W&B would outlive the other
    common = (*TINY, "trainer.max_epochs=3", "callbacks.recorder.flush_every=2")
    killed = process("train", *common, *ALL, "hydra.run.dir=runs/cut", "+callbacks.dies._target_=dies.Dies",
                     "+callbacks.dies.at=15", "+callbacks.dies.killed=true")  # fmt: skip
    assert killed.code == -9
    cut = tmp_path / "runs" / "cut"
    assert len(of_csv(cut)["train/loss"]) == 14, "what came after the checkpoint at 12 is on disk too"
    ids = json.loads((cut / "trackers.json").read_text())
    [run] = mlflow_runs(mlflow_database)
    assert (run.info.status, run.info.run_id) == ("RUNNING", ids["mlflow"])

    ended = lit_optim_("resume", "runs/cut", "callbacks.dies=null", "trainer.log_every_n_steps=49")
    assert ended.code == 0, ended.err
    assert lit_optim_("train", *common, "logger=csv", "hydra.run.dir=runs/whole").code == 0
    whole = of_csv(tmp_path / "runs" / "whole")
    assert of_csv(cut) == whole
    rows = [len((folder / "metrics.csv").read_text().splitlines()) for folder in (cut, tmp_path / "runs" / "whole")]
    assert rows[0] == rows[1]

    assert json.loads((cut / "trackers.json").read_text()) == ids
    [run] = mlflow_runs(mlflow_database)
    assert (run.info.status, run.info.run_id) == ("FINISHED", ids["mlflow"])
    assert (run.data.params["trainer.log_every_n_steps"], run.data.tags["trainer.log_every_n_steps"]) == ("50", "49")
    losses = of_mlflow(mlflow_database)["train/loss"]
    assert [step for step, _ in losses] == sorted([*range(18), 12, 13]), "none is lost; MLflow takes none back"
    _, resumed = offline_runs(cut, killed=1)
    assert [path.stem for path in sorted(cut.glob("wandb/offline-run-*/*.wandb"))] == [f"run-{ids['wandb']}"] * 2
    assert [step for step, _ in resumed.curve("train/loss")] == [*range(12, 18)]
    assert (resumed.run.run_id, resumed.exit_code) == (ids["wandb"], 0)


def test_runs_with_a_table_alone_are_compared(lit_optim_: Any, tmp_path: Path) -> None:
    for seed in (1, 2):
        assert lit_optim_("train", *TINY, "logger=csv", f"seed={seed}", f"hydra.run.dir=runs/{seed}").code == 0
    assert lit_optim_("train", *TINY, "logger=none", "seed=3", "hydra.run.dir=runs/3").code == 0
    ended = lit_optim_("compare", "runs", "--tag", "train/loss", "--plot", "curves.png")
    assert ended.code == 0, ended.err
    assert (tmp_path / "curves.png").stat().st_size > 1000
    ended = lit_optim_("compare", "runs", "--metric", "val/acc", "--mode", "min", "--json", "-")
    assert ended.code == 0, ended.err
    assert ended.err.count("no curve of val/acc") == 1
    assert len(json.loads(ended.out)["rows"]) == 1, "seeds alone differ, whatever the loggers"
    refused = lit_optim_("compare", "runs", "--tag", "train/los", "--plot", "curves.png")
    assert "nearest: train/loss" in refused.err
