from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lit_optim.integration.callbacks import ProgressBar
from lit_optim.integration.tensorboard import RunLogger

# Lightning 2.6 asks for LeafSpec whenever it looks into loaders; torch 2.13 has deprecated it
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Batches:
    """A loader: Lightning takes a plain list for several loaders."""

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.ones(10, 4, 1).unbind())


class Tiny(LightningModule):
    """Its loss is 2.5 at every step, whatever it learns."""

    def __init__(self, lrs: tuple[float, ...] = (0.1,)) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.zeros(1) for _ in lrs)
        self.lrs = lrs

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return sum(weight.sum() * 0 for weight in self.weights) + batch.mean() * 2.5

    def on_train_epoch_start(self) -> None:
        self.print("an epoch starts")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([{"params": [w], "lr": lr} for w, lr in zip(self.weights, self.lrs, strict=True)])


class Validated(Tiny):
    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/acc", 0.9137, prog_bar=True, batch_size=4)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Counting(ProgressBar):
    read = 0

    def get_metrics(self, *args: Any) -> Any:
        self.read += 1
        return super().get_metrics(*args)


def fit(bar: ProgressBar, module: LightningModule, folder: Path, **options: Any) -> None:
    trainer = Trainer(
        max_epochs=2,
        logger=RunLogger(folder),
        callbacks=[bar],
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **options,
    )
    trainer.fit(module, Batches(), Batches() if isinstance(module, Validated) else None)


def test_a_log_gets_one_plain_line_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Validated(), tmp_path, accumulate_grad_batches=2)
    assert capsys.readouterr().out.splitlines() == [
        "an epoch starts",
        "epoch 1/2  train/loss 2.5  val/acc 0.914  lr 0.1",
        "an epoch starts",
        "epoch 2/2  train/loss 2.5  val/acc 0.914  lr 0.1",
    ]


def test_groups_that_differ_show_their_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Tiny((0.001, 0.02, 0.005)), tmp_path)
    assert capsys.readouterr().out.count("lr 0.001…0.02\n") == 2


class Scheduled(Tiny):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        halving = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": halving, "interval": "step"}}


def test_the_lr_is_the_one_that_the_step_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Scheduled((1.0,)), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("lr ")[1] for line in lines if line.startswith("epoch ")] == ["0.00195", "1.91e-06"]


def test_a_refresh_rate_of_zero_shows_nothing_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(refresh_rate=0), Tiny(), tmp_path)
    assert set(capsys.readouterr().out.splitlines()) == {"an epoch starts"}


def test_a_terminal_gets_a_bar_with_loss_and_lr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    fit(ProgressBar(refresh_rate=5), Validated(), tmp_path, accumulate_grad_batches=2)
    shown = re.split(r"[\r\n]", screen.getvalue())
    assert any("10/10" in line and "train/loss=2.500, val/acc=0.914, lr=0.1]" in line for line in shown)
    assert "v_num" not in screen.getvalue()
    assert "an epoch starts" in shown, "what is printed goes above the bar"
    assert not any(line.startswith("epoch ") for line in shown)


def test_the_loss_is_read_only_when_the_bar_is_redrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    bar = Counting(refresh_rate=5)
    fit(bar, Tiny(), tmp_path)
    assert bar.read == 2 * (2 + 1), "at batches 5 and 10 of each epoch, and at its end"
