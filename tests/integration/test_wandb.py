from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure
from wandbfiles import offline_runs

from lit_optim.errors import ConfigError, RunError
from lit_optim.integration.rows import Row, log_rows
from lit_optim.integration.wandb import WandbRunLogger


@pytest.fixture(autouse=True)
def _finished() -> Iterator[None]:
    yield
    if wandb.run is not None:
        wandb.run.finish()


@pytest.mark.parametrize("own", [True, False], ids=["ours", "Lightning's"])
def test_rows_come_with_their_steps_and_times_in_any_order(own: bool, tmp_path: Path) -> None:
    logger = WandbRunLogger(tmp_path, offline=True) if own else WandbLogger(save_dir=tmp_path, offline=True)
    logger.log_metrics({"val/acc": 0.5}, step=9)  # ahead of rows that were held back
    log_rows([logger], [Row(step, 1000.5 + step, {"train/loss": step / 2}) for step in range(12)])
    logger.log_metrics({"test/acc": 0.25}, step=5)
    logger.experiment.finish()
    [written] = offline_runs(tmp_path)
    assert written.curve("train/loss") == [(step, step / 2) for step in range(12)]
    assert [row["_timestamp"] for row in written.rows if "train/loss" in row] == [1000.5 + step for step in range(12)]
    assert written.curve("val/acc") == [(9, 0.5)]
    assert written.curve("test/acc") == [(5, 0.25)]


def test_nothing_begins_before_something_is_logged(tmp_path: Path) -> None:
    logger = WandbRunLogger(tmp_path / "run", offline=True)
    assert hasattr(logger, "experiment")  # so Lightning looks at it when a fit begins
    logger.finalize("failed")
    logger.close()
    assert list(tmp_path.iterdir()) == []
    assert wandb.run is None


def test_the_run_says_how_it_ended(tmp_path: Path) -> None:
    for name in ("ends", "dies"):
        logger = WandbRunLogger(tmp_path / name, offline=True)
        logger.log_metrics({"val/acc": 0.5, "epoch": 0}, step=3)
        (tmp_path / name / "findings.txt").write_text("step 3: …\n")
        logger.finalize("success")  # after the fit, with a test to come
        assert wandb.run is not None
        logger.close() if name == "ends" else logger.finalize("failed")
        assert wandb.run is None
    [ended], [died] = offline_runs(tmp_path / "ends"), offline_runs(tmp_path / "dies")
    assert (ended.exit_code, died.exit_code) == (0, 1)
    assert "findings.txt" in ended.files
    assert "epoch" not in ended.rows[0]
    assert ended.run.run_id != died.run.run_id


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    for step in (3, 6):
        logger = WandbRunLogger(tmp_path, offline=True)
        logger.log_metrics({"val/acc": step / 10}, step)
        logger.close()
    first, second = offline_runs(tmp_path)
    assert first.run.run_id == second.run.run_id
    assert (first.curve("val/acc"), second.curve("val/acc")) == ([(3, 0.3)], [(6, 0.6)])


def test_a_run_that_was_left_open_is_not_gone_on_with(tmp_path: Path) -> None:
    WandbRunLogger(tmp_path / "0", offline=True).log_metrics({"a": 1.0}, step=0)
    second = WandbRunLogger(tmp_path / "1", offline=True)
    second.log_metrics({"a": 2.0}, step=0)
    second.close()
    [left], [own] = offline_runs(tmp_path / "0"), offline_runs(tmp_path / "1")
    assert (left.curve("a"), left.exit_code) == ([(0, 1.0)], 1)
    assert (own.curve("a"), own.exit_code) == ([(0, 2.0)], 0)


def test_a_job_has_the_name_of_its_sweep(tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").touch()
    logger = WandbRunLogger(tmp_path / "3", "project", offline=True)
    logger.log_hyperparams({"optimizer.lr": 0.1, "optimizer.betas": [0.9, 0.99], "seed": 1, "a": 1, "a.b": 2})
    logger.close()
    [written] = offline_runs(tmp_path / "3")
    assert (written.run.display_name, written.run.run_group) == (f"{tmp_path.name}/3", tmp_path.name)
    assert written.run.project == "project"
    config = {name: value for name, value in written.config.items() if name != "_wandb"}
    assert config == {"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "seed": 1, "a": 1, "a.b": 2}


def test_the_plan_is_shown(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    Figure(figsize=(2, 1), dpi=50).savefig(tmp_path / "plan.png")
    logger = WandbRunLogger(tmp_path, offline=True)
    logger.show("two groups", "seed: 1", tmp_path / "plan.png")
    logger.close()
    [written] = offline_runs(tmp_path)
    assert "plan.json" in written.files
    [row] = [row for row in written.rows if "plan/width" in row]
    assert (row["plan/width"], row["plan/height"]) == (100, 50)


def test_a_run_that_cannot_begin_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**settings: object) -> None:
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refused)
    with pytest.raises(RunError, match=r"W&B can't begin the run: No API key configured\.(.|\n)*wandb login"):
        WandbRunLogger(tmp_path).log_metrics({"a": 1.0}, step=0)


def test_without_the_package_the_way_to_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r'pip install "lit-optim\[wandb\]"'):
        WandbRunLogger(tmp_path)
