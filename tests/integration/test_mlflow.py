from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import MLFlowLogger
from mlflow import MlflowClient

from lit_optim.errors import ConfigError, RunError
from lit_optim.integration.mlflow import MLFlowRunLogger
from lit_optim.integration.rows import Row, log_rows

# mlflow 3.17 loads its runs in a way that sqlalchemy 2.1 has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")


@pytest.fixture
def logger(mlflow_database: str, tmp_path: Path) -> MLFlowRunLogger:
    return MLFlowRunLogger(tmp_path / "run", tracking_uri=mlflow_database)


def again(logger: MLFlowRunLogger) -> MLFlowRunLogger:
    """In the process that resumes the run."""
    return MLFlowRunLogger(logger.save_dir, tracking_uri=logger._tracking_uri)


def the_run(logger: MLFlowRunLogger) -> Any:
    client = MlflowClient(logger._tracking_uri)
    [run] = client.search_runs([client.get_experiment_by_name("default").experiment_id])
    return run


def curve(logger: MLFlowLogger, tag: str) -> list[tuple[int, int, float]]:
    history = MlflowClient(logger._tracking_uri).get_metric_history(logger.run_id, tag)
    return sorted((one.step, one.timestamp, one.value) for one in history)


@pytest.mark.parametrize("own", [True, False], ids=["ours", "Lightning's"])
def test_rows_come_at_once_with_their_steps_and_times(
    own: bool, logger: MLFlowRunLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(logger._tracking_uri)
    client.create_experiment("lightning_logs", (tmp_path / "files").as_uri())
    other = logger if own else MLFlowLogger(tracking_uri=logger._tracking_uri, prefix="its")
    calls: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(kwargs["metrics"]))
        return log_batch(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    rows = [Row(step, 1000.5 + step, {"train/loss": step / 2, "lr/head.no_decay": 0.1}) for step in range(600)]
    log_rows([other], [*rows, Row(600, 2000.0, {"train/loss": float("nan")})])
    assert calls == [1000, 201]
    tag = "train/loss" if own else "its-train/loss"
    assert curve(other, tag)[:-1] == [(step, 1_000_500 + 1000 * step, step / 2) for step in range(600)]
    assert len(curve(other, "lr/head.no_decay" if own else "its-lr/head.no_decay")) == 600


def test_nothing_begins_before_something_is_logged(tmp_path: Path) -> None:
    logger = MLFlowRunLogger(tmp_path / "run", tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert hasattr(logger, "experiment")  # so Lightning looks at it when a fit begins
    logger.finalize("failed")
    logger.close()
    assert list(tmp_path.iterdir()) == []
    assert logger.save_dir == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda logger: logger.finalize("success"), "RUNNING"),  # after the fit, with a test to come
        (lambda logger: logger.close(), "FINISHED"),
        (lambda logger: logger.finalize("failed"), "FAILED"),
    ],
    ids=["a stage", "the run", "a crash"],
)
def test_the_run_says_how_it_ended(logger: MLFlowRunLogger, end: Any, status: str) -> None:
    logger.log_metrics({"val/acc": 0.5, "epoch": 0}, step=3)
    assert "MLFLOW_TRACKING_URI" not in os.environ, "the next run may be for another place"
    (Path(logger.save_dir) / "findings.txt").write_text("step 3: …\n")
    end(logger)
    run = the_run(logger)
    assert run.info.status == status
    assert run.data.metrics == {"val/acc": 0.5}
    files = [one.path for one in MlflowClient(logger._tracking_uri).list_artifacts(run.info.run_id)]
    assert files == ([] if status == "RUNNING" else ["findings.txt"])


def test_a_resumed_run_is_the_same_run(logger: MLFlowRunLogger) -> None:
    logger.log_metrics({"val/acc": 0.5}, step=3)
    logger.finalize("failed")
    resumed = again(logger)
    resumed.log_metrics({"val/acc": 0.75}, step=6)
    assert the_run(logger).info.status == "RUNNING"
    resumed.close()
    assert the_run(logger).info.status == "FINISHED"
    assert [(step, value) for step, _, value in curve(resumed, "val/acc")] == [(3, 0.5), (6, 0.75)]
    assert [path.name for path in Path(logger.save_dir).iterdir()] == ["trackers.json"]
    (Path(logger.save_dir) / "trackers.json").write_text('{"mlflow": "gone"}')
    with pytest.raises(RunError, match=r"remove .*/run/trackers\.json and another one begins"):
        again(logger).log_metrics({"val/acc": 1.0}, step=7)


def test_a_run_that_another_process_has_trained_is_finished_by_this_one(logger: MLFlowRunLogger) -> None:
    again(logger).log_metrics({"val/acc": 0.5}, step=3)
    logger.finalize("failed")  # as after a resume that was refused
    assert the_run(logger).info.status == "RUNNING"
    logger.close()
    assert the_run(logger).info.status == "FINISHED"


def test_parameters_are_flat_and_what_a_resume_changes_is_a_tag(logger: MLFlowRunLogger) -> None:
    many = {f"rules.r{number}.lr": 0.1 for number in range(150)}
    logger.log_hyperparams({"optimizer": {"lr": 0.1}, "long": "x" * 9000, **many})
    logger.log_hyperparams(Namespace(width=3))
    params = the_run(logger).data.params
    assert len(params) == 153
    assert (params["optimizer.lr"], params["width"]) == ("0.1", "3")
    assert params["long"] == "x" * 6000
    again(logger).log_hyperparams({"rules.r0.lr": 0.1, "rules.r1.lr": 0.2, "rules.new.lr": 0.3})
    run = the_run(logger)
    assert (run.data.params["rules.r1.lr"], run.data.tags["rules.r1.lr"]) == ("0.1", "0.2")
    assert run.data.params["rules.new.lr"] == "0.3"
    assert "rules.r0.lr" not in run.data.tags


def test_a_name_that_mlflow_refuses_is_told_and_replaced(logger: MLFlowRunLogger) -> None:
    allowed = {"train/loss", "lr/head.no_decay", "val/größe", "dead_relu/net.layer.1", "a b:c-d_e"}
    logger.log_metrics(dict.fromkeys(allowed, 1.0), step=0)
    with pytest.warns(UserWarning, match=r"MLflow takes no such name as 'loss\+/#1': it has 'loss_/_1' instead"):
        logger.log_metrics({"loss+/#1": 2.0}, step=0)
    with pytest.warns(UserWarning, match="it has '_/_/a' instead"):
        logger.log_metrics({"/../a": 3.0}, step=0)
    with pytest.warns(UserWarning, match="takes no such name"):
        logger.log_metrics({"n" * 300: 4.0}, step=0)
    expected = {**dict.fromkeys(allowed, 1.0), "loss_/_1": 2.0, "_/_/a": 3.0, "n" * 250: 4.0}
    assert the_run(logger).data.metrics == expected


def test_a_job_has_the_name_of_its_sweep(mlflow_database: str, tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").touch()
    logger = MLFlowRunLogger(tmp_path / "3", "default", tracking_uri=mlflow_database, tags={"mine": "x"})
    logger.log_metrics({"a": 1.0}, step=0)
    run = the_run(logger)
    assert run.info.run_name == f"{tmp_path.name}/3"
    assert (run.data.tags["sweep"], run.data.tags["mine"]) == (tmp_path.name, "x")


def test_files_lie_beside_the_database(logger: MLFlowRunLogger, tmp_path: Path) -> None:
    (tmp_path / "plan.png").write_bytes(b"PNG")
    logger.show("two groups", "seed: 1", tmp_path / "plan.png")
    [folder] = (tmp_path / "runs" / "mlruns").iterdir()
    shown = {path.name: path.read_bytes() for path in (folder / "artifacts").iterdir()}
    assert shown == {"plan.txt": b"two groups", "config.yaml": b"seed: 1", "plan.png": b"PNG"}


def test_the_environment_says_where_unless_the_config_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    assert MLFlowRunLogger(tmp_path)._tracking_uri == "http://there"
    assert MLFlowRunLogger(tmp_path, tracking_uri="http://here")._tracking_uri == "http://here"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert MLFlowRunLogger(tmp_path)._tracking_uri == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_a_place_that_does_not_answer_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    logger = MLFlowRunLogger(tmp_path / "run", tracking_uri=f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(RunError, match="MLflow can't begin the run"):
        logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("failed")
    secret = MLFlowRunLogger(tmp_path / "run", tracking_uri="strange://me:secret@there/x")
    with pytest.raises(RunError) as refusal:
        secret.log_metrics({"a": 1.0}, step=0)
    assert refusal.value.mistakes[0].given == "strange://there/x"
    assert "secret" not in str(refusal.value)


def test_without_the_package_the_way_to_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ConfigError, match=r'pip install "lit-optim\[mlflow\]"'):
        MLFlowRunLogger(tmp_path)
