"""A progress bar that shows loss and learning rate, and one plain line an epoch where no terminal shows bars."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor

from lit_optim.integration.callbacks.recorder import batch_loss

__all__ = ["ProgressBar"]


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with the last batch's loss and the learning rate beside the metrics logged to it.

    The loss is read from the device only when the bar is redrawn. The learning rate is the first group's, or
    ``min…max`` where groups differ; it is the one that the last step used.

    Where stdout is not a terminal (a CI log, a file, a notebook) no bar is drawn, since each redraw would stay there as
    a line of its own; one plain line an epoch says the same::

        epoch 1/10  train/loss 0.412  val/acc 0.913  lr 0.00085

    Args:
        refresh_rate: Batches from one redraw to the next; 0 shows nothing, not even the plain lines.
        leave: Whether the bar of a finished epoch stays on the screen.
    """

    def __init__(self, refresh_rate: int = 20, leave: bool = False) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=leave)
        self._terminal = True
        self._loss: Tensor | None = None
        self._lrs: list[float | Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look where stdout leads."""
        super().setup(trainer, pl_module, stage)
        self._terminal = sys.stdout.isatty()

    @property
    def is_enabled(self) -> bool:
        """Whether bars are drawn; the bars of Lightning ask it too."""
        return self._terminal and super().is_enabled

    @property
    def _prints_lines(self) -> bool:
        return not self._terminal and super().is_enabled

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Loss, what the module logged with ``prog_bar=True``, and learning rate; no version number."""
        logged = super().get_metrics(trainer, pl_module)
        logged.pop("v_num", None)
        shown: dict[str, int | str | float | dict[str, float]] = {}
        if self._loss is not None:
            shown["train/loss"] = self._loss.item() * trainer.accumulate_grad_batches
        shown.update(logged)
        if self._lrs:
            lrs = [float(lr) for lr in self._lrs]
            low, high = min(lrs), max(lrs)
            shown["lr"] = f"{low:.3g}" if low == high else f"{low:.3g}…{high:.3g}"
        return shown

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the learning rates that this batch uses; at its end they are already the next one's."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        lrs = [group["lr"] for group in groups if group.get("lr") is not None]
        self._lrs = [lr.clone() if isinstance(lr, Tensor) else lr for lr in lrs]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss where it is; Lightning's method asks for it when the bar is due."""
        self._loss = batch_loss(outputs)
        if self._terminal:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the epoch, in a log with its one line; validation is over by now."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._prints_lines:
            shown = self.get_metrics(trainer, pl_module)
            of = f"/{trainer.max_epochs}" if trainer.max_epochs is not None and trainer.max_epochs > 0 else ""
            columns = [f"epoch {trainer.current_epoch + 1}{of}"]
            columns += [
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in shown.items()
            ]
            print("  ".join(columns), flush=True)
