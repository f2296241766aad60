from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger

from lit_optim.integration.rows import Row, log_rows, mark_resume, row_of

ROWS = [Row(0, 1.5, {"a": 1.0}), Row(1, 2.5, {"a": 2.0, "b": 3.0})]
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorboard", "tensorboardX", "mlflow", "wandb"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger
from torch.utils.data import DataLoader

import lit_optim as lo

class Mine(Logger):
    name = version = "mine"
    rows = []
    def log_hyperparams(self, *args, **kwargs): pass
    def log_metrics(self, metrics, step=None): self.rows.append((step, metrics))

class Tiny(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
    def training_step(self, batch, batch_idx): return self.layer(batch).square().mean()
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.1)

mine = Mine()
callbacks = [lo.callbacks.Recorder(), lo.callbacks.OptimizerMonitor(every=2, histograms=2)]
trainer = Trainer(max_epochs=1, logger=[mine, CSVLogger(".", name=None, version="table")], callbacks=callbacks,
    accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Tiny(), DataLoader(torch.ones(8, 3), batch_size=2))
assert [step for step, row in mine.rows if "train/loss" in row] == [0, 1, 2, 3]
assert [step for step, row in mine.rows if "grad_norm/group0" in row] == [0, 2]
assert not {"tensorboard", "mlflow", "wandb"} & {*sys.modules}
"""


@pytest.mark.slow
def test_recorder_and_monitor_need_no_package_of_a_tracker(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    table = (tmp_path / "table" / "metrics.csv").read_text()
    assert "train/loss" in table
    assert "grad_norm/group0" in table


class Plain(Logger):
    name = version = "plain"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []

    def log_hyperparams(self, *args: object, **kwargs: object) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls.append((step, metrics))


class AtOnce(Plain):
    def log_rows(self, rows: list[Row]) -> None:
        self.calls.append(rows)

    def mark_resume(self, step: int) -> None:
        self.calls.append(step)


def test_a_logger_gets_rows_as_it_can_take_them() -> None:
    plain, at_once = Plain(), AtOnce()
    log_rows([plain, at_once], ROWS)
    mark_resume([plain, at_once], 7)
    assert plain.calls == [(0, {"a": 1.0}), (1, {"a": 2.0, "b": 3.0})]
    assert at_once.calls == [ROWS, 7]


def test_lightnings_own_table_gets_them_too(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name=None, version="table")
    log_rows([logger], ROWS)
    logger.save()
    assert (tmp_path / "table" / "metrics.csv").read_text().split() == ["a,b,step", "1.0,,0", "2.0,3.0,1"]


def test_the_epoch_of_lightning_is_no_metric() -> None:
    step, _, values = row_of({"val/acc": 0.5, "epoch": 3}, None)
    assert (step, values) == (0, {"val/acc": 0.5})
