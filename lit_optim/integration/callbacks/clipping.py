"""Clips the gradients of each group that has a norm of its own, before Lightning clips them all."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from lit_optim.step_hooks import Clipping

__all__ = ["ClipGroups"]


class ClipGroups(Callback):
    """Clips once the gradients are complete: accumulated, averaged over devices, and unscaled.

    One group's outbreak is then cut before ``trainer.gradient_clip_val`` looks at the norm of all, which would shrink
    the other groups' steps with it.

    Args:
        clipping: Knows the groups and their norms.
    """

    def __init__(self, clipping: Clipping) -> None:
        self._clipping = clipping

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """See the class."""
        if optimizer is self._clipping.optimizer:  # of another fit with the same Trainer, it may be another
            self._clipping.clip()
