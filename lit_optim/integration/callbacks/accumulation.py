"""Gradient accumulation that changes by epoch, also in an epoch that a run resumes in the middle of."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

__all__ = ["AccumulateByEpoch"]


class AccumulateByEpoch(Callback):
    """Asks Lightning's GradientAccumulationScheduler before every batch.

    It sets the accumulation where an epoch starts, and an epoch that a checkpoint cut in two starts only once: the rest
    of it would step after every single batch.

    Args:
        scheduler: The callback of the Trainer.
    """

    def __init__(self, scheduler: GradientAccumulationScheduler) -> None:
        self.scheduler = scheduler

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """See the class."""
        trainer.accumulate_grad_batches = self.scheduler.get_accumulate_grad_batches(trainer.current_epoch)
