from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from lit_optim.integration.callbacks import Recorder
from lit_optim.integration.csv_file import CSVRunLogger
from lit_optim.integration.rows import Row
from lit_optim.metrics_table import read_column, read_tags

# Lightning 2.6 asks for LeafSpec whenever it looks into loaders; torch 2.13 has deprecated it
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Batches:
    """A loader: Lightning takes a plain list for several loaders."""

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.ones(3, 4, 3).unbind())


class Tiny(LightningModule):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()  # Lightning then hands them to the logger at the start of fit
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch).square().mean(), batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_fit_leaves_one_file_of_tags_and_nothing_else(tmp_path: Path) -> None:
    logger = CSVRunLogger(tmp_path)
    trainer = Trainer(
        max_epochs=2, logger=logger, callbacks=[Recorder()], accelerator="cpu", enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(Tiny(), Batches(), Batches())
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    path = tmp_path / "metrics.csv"
    assert read_tags(path) == ["train/loss", "lr/group0", "weight_decay/group0", "momentum/group0", "val/loss"]
    assert read_column(path, "lr/group0") == (dict.fromkeys(range(6), 0.1), True)
    assert [*read_column(path, "val/loss")[0]] == [2, 5]
    assert len(path.read_text().splitlines()) == 1 + 6 + 2
    assert isinstance(logger, CSVLogger)
    assert logger.log_dir == trainer.log_dir == str(tmp_path)


def test_a_second_logger_goes_on_with_the_file(tmp_path: Path) -> None:
    first = CSVRunLogger(tmp_path, prefix="run")
    first.log_rows([Row(step, 1.0, {"a": float(step)}) for step in range(4)])
    second = CSVRunLogger(tmp_path, prefix="run")
    _ = second.experiment  # at which Lightning looks when a fit begins
    second.mark_resume(2)
    second.log_metrics({"a": torch.tensor(20.0), "epoch": 1}, step=2)
    second.log_metrics({"epoch": 1}, step=3)
    assert read_tags(tmp_path / "metrics.csv") == ["run-a"]
    assert read_column(tmp_path / "metrics.csv", "run-a") == ({0: 0.0, 1: 1.0, 2: 20.0}, True)
