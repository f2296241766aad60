"""Keeps frozen parameters still under any strategy, before gradients are clipped."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lit_optim.step_hooks import Thaw

__all__ = ["DropGradients"]


class DropGradients(Callback):
    """Drops the gradients of what doesn't move, after each backward pass and so before AMP, clipping and the step.

    Args:
        thaw: Knows which groups don't move yet.
        late: Parameters that are frozen for good, but only since DistributedDataParallel has wrapped the model: it goes
            on waiting for their gradients.
    """

    def __init__(self, thaw: Thaw, late: Sequence[nn.Parameter] = ()) -> None:
        self._thaw = thaw
        self._late = late

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        self._thaw.drop_gradients()
        for parameter in self._late:
            parameter.grad = None
