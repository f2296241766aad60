"""Keeps an optimizer with modes (schedule-free) in the right one: for training while batches train, else for use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

__all__ = ["OptimizerModes"]

_UNTOUCHED = object()


class OptimizerModes(Callback):
    """Puts the optimizer into its train mode where a batch is trained, and into eval mode for all else.

    Eval mode it is during validation, test and prediction, after training (however that ended), and in every
    checkpoint. After validation it stays so until the next batch: a checkpoint that is saved then holds the very
    weights that were validated, while switching forth and back would round them.

    Args:
        optimizer: It has ``train()`` and ``eval()``.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer: Any = optimizer
        self._trains = False
        self._saving: Any = _UNTOUCHED  # what stood on the Trainer itself in place of its class's method

    def _train(self, trainer: Trainer) -> None:
        if not self._trains and self._optimizer in trainer.optimizers:
            self._optimizer.train()
            self._trains = True
            for module in trainer.lightning_module.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()  # what validation has gathered, FSDP2 would take for the weights of the next batch

    def _eval(self) -> None:
        if self._trains and self._optimizer.state:  # before the first step there is nothing to switch between
            self._optimizer.eval()
        self._trains = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on ``trainer.save_checkpoint`` saves in eval mode; every callback that saves calls it."""
        if self._optimizer not in trainer.optimizers:  # another fit than the one that this is for
            return
        self._saving = vars(trainer).get("save_checkpoint")
        saving = trainer.save_checkpoint

        def save_checkpoint(filepath: str | Path, *args: Any, **kwargs: Any) -> None:
            trained = self._trains
            self._eval()
            try:
                saving(filepath, *args, **kwargs)
            finally:
                if trained:
                    self._train(trainer)

        trainer.save_checkpoint = save_checkpoint  # type: ignore[method-assign]  # of this instance

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train."""
        self._train(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train."""
        self._train(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Train, after a validation as well."""
        self._train(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate."""
        self._eval()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate."""
        self._eval()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate."""
        self._eval()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the weights that are meant to be used."""
        self._eval()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the weights that are meant to be used, here as well."""
        self._eval()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the Trainer its method back."""
        if "save_checkpoint" in vars(trainer) and self._saving is not _UNTOUCHED:
            del trainer.save_checkpoint
            if self._saving is not None:
                trainer.save_checkpoint = self._saving  # type: ignore[method-assign]  # of this instance
        self._saving = _UNTOUCHED
