"""What an optimizer evaluates again is the whole step: every micro-batch, on every device."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.trainer import call
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.optim import Optimizer

from lit_optim.step_hooks import StepHook

__all__ = ["ReplaySteps"]


class ReplaySteps(Callback):
    """Makes of Lightning's closure, which is one micro-batch of one device, a function of the weights.

    Under gradient accumulation an optimizer that evaluates its closure again (LBFGS, SAM) would get the gradients of
    the last micro-batch on top of the old ones; here all micro-batches of the step are evaluated again. The loss that
    it sees is the sum over them (each divided by their number already) and the mean over the processes, so that all
    of these search the same line.

    Args:
        hook: Stands before the optimizer's steps.
        optimizer: The optimizer.
    """

    def __init__(self, hook: StepHook, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._hook = hook
        self._earlier: list[tuple[Any, int]] = []  # the micro-batches of the step so far
        self._loss: Tensor | float = 0.0  # of these

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on the hook asks this callback."""
        self._hook.before_next = lambda: self._replay(trainer)
        self._hook.finish_loss = lambda loss: self._whole(trainer, loss)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin a new step where Lightning does."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._earlier.clear()
            self._loss = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep what belongs to a step that is yet to come."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        ours = self._optimizer in trainer.optimizers
        if ours and trainer.accumulate_grad_batches > 1 and isinstance(loss, Tensor):
            self._earlier.append((batch, batch_idx))
            self._loss = self._loss + loss.detach()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the data go."""
        self._earlier.clear()

    def _replay(self, trainer: Trainer) -> None:
        """Put the gradients of the earlier micro-batches in place, at the weights of now."""
        if not self._earlier:
            return
        self._optimizer.zero_grad()
        self._loss = 0.0
        for batch, batch_idx in self._earlier:
            if isinstance(trainer.strategy, ParallelStrategy):
                with trainer.strategy.block_backward_sync():
                    self._evaluate(trainer, batch, batch_idx)
            else:
                self._evaluate(trainer, batch, batch_idx)

    @torch.enable_grad()
    def _evaluate(self, trainer: Trainer, batch: Any, batch_idx: int) -> None:
        takes_index = is_param_in_hook_signature(trainer.lightning_module.training_step, "batch_idx", min_args=2)
        output = call._call_strategy_hook(trainer, "training_step", batch, *[batch_idx] * takes_index)
        loss = output.get("loss") if isinstance(output, dict) else output
        if loss is not None:
            loss = loss / trainer.accumulate_grad_batches
            call._call_strategy_hook(trainer, "backward", loss, self._optimizer)
            self._loss = self._loss + loss.detach()

    def _whole(self, trainer: Trainer, loss: Tensor | None) -> Any:
        if loss is None:
            return None
        whole = loss + self._loss
        return trainer.strategy.reduce(whole, reduce_op="mean") if trainer.world_size > 1 else whole
