"""Batches of a plain fit without the calls that do nothing: what a batch costs beside the model is mostly these."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from lit_optim.integration.direct_loop import DirectLoop

__all__ = ["DirectBatches"]


class DirectBatches(Callback):
    """Puts `DirectLoop` in the place of the Trainer's loop over batches while a fit trains, where the fit is plain.

    Afterwards, however the training ends, the Trainer has its own again. Without this callback it never loses it.
    """

    def __init__(self) -> None:
        self._own: _TrainingEpochLoop | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        direct = DirectLoop.of(trainer, pl_module)
        if direct is not None:
            self._own, trainer.fit_loop.epoch_loop = trainer.fit_loop.epoch_loop, direct

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        if self._own is not None:
            trainer.fit_loop.epoch_loop, self._own = self._own, None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End."""
        self.on_train_end(trainer, pl_module)
