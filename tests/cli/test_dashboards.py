from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

from lit_optim.cli.dashboards import dashboards, shown
from lit_optim.integration.csv_file import CSVRunLogger
from lit_optim.integration.mlflow import MLFlowRunLogger


def test_each_kind_says_where_to_look(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "my runs" / "one"
    loggers = [
        TensorBoardLogger(folder),
        CSVRunLogger(folder),
        CSVLogger(tmp_path, name="table", version=0),
        MLFlowRunLogger(folder, tracking_uri="http://there:5000"),
        MLFlowRunLogger(folder, tracking_uri=f"sqlite:///{tmp_path}/my runs/mlflow.db"),
        MLFlowRunLogger(folder, tracking_uri="postgresql://me:secret@there/runs"),
    ]
    assert [*dashboards(loggers, folder)] == [
        "tensorboard --logdir runs",
        "'runs/my runs/one/metrics.csv'",
        "table/version_0/metrics.csv",
        "http://there:5000",
        "mlflow ui --backend-store-uri sqlite:///'my runs/mlflow.db'",
    ]


@pytest.mark.parametrize(("offline", "line"), [(True, "wandb sync run/wandb/offline-run-1"), (False, "https://w/1")])
def test_a_run_of_wandb_is_synced_or_looked_at(offline: bool, line: str, tmp_path: Path) -> None:
    run = SimpleNamespace(offline=offline, url="https://w/1", dir=f"{tmp_path}/run/wandb/offline-run-1/files")
    assert [*dashboards([WandbLogger(experiment=run)], tmp_path / "run")] == [line]


def test_looking_begins_no_run(tmp_path: Path) -> None:
    loggers = [WandbLogger(save_dir=tmp_path, offline=True), MLFlowRunLogger(tmp_path / "run")]
    assert [*dashboards(loggers, tmp_path / "run")] == ["mlflow ui --backend-store-uri sqlite:///runs/mlflow.db"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_elsewhere_is_shown_whole(tmp_path: Path) -> None:
    assert shown(tmp_path / "run") == Path("run")
    assert shown(Path("/elsewhere/run")) == Path("/elsewhere/run")
