"""Every optimizer step's loss and hyperparameters, at full resolution, for a few microseconds a step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.optim import Optimizer

from lit_optim.errors import ConfigError, Mistake
from lit_optim.hyperparameters import is_number
from lit_optim.integration.group_names import group_names
from lit_optim.integration.rows import Row, log_rows, mark_resume

__all__ = ["Recorder", "batch_loss"]

_log = logging.getLogger(__name__)


class _Step(NamedTuple):
    """One optimizer step as it lies in the buffer: nothing here has been brought from the device yet."""

    step: int
    wall_time: float
    tags: Sequence[str]
    values: Sequence[float | Tensor]
    losses: int = 0  # how many of the buffered losses are its micro-batches'
    divisor: int = 1  # what Lightning divided each of them by


class Recorder(Callback):
    """Records ``train/loss`` and each param group's hyperparameters at every optimizer step, without ``self.log``.

    The tags are ``train/loss`` and, for each group, ``lr/<group>``, ``weight_decay/<group>`` and ``momentum/<group>``
    (the group's ``momentum``, else ``betas[0]``), as far as the group has them. A group is called by its ``"name"``,
    else ``group<i>``; where there are several optimizers, ``optimizer<j>.`` goes before. The x-axis is
    ``trainer.global_step`` before the step: the first step is 0.

    The loss is the one that ``training_step`` returned, whatever the gradient accumulation: the mean over the
    micro-batches of the step and over the ranks. Hyperparameters are those that the step used. A step that a
    ``GradScaler`` skips is a row all the same. Under manual optimization there is one row for each training batch that
    stepped, with the values that its first step used.

    Loggers of the TensorBoard, W&B and MLflow families and those with a method ``log_rows`` get all steps of a flush at
    once; others ``log_metrics`` once a step. Without a logger nothing is done.

    Args:
        flush_every: Optimizer steps that are buffered before they are written. Writing brings the losses from the
            device in one transfer, the only time that it waits for the device. Also written: before validation, before
            a checkpoint is saved (unless it holds weights alone, of which Lightning tells no callback), at the end of
            each epoch and of training, and when an exception ends it. In that last case the losses since the last flush
            are rank zero's own, since the other ranks may be gone.
        flush_seconds: Slow steps are written after this time, so that a dashboard is never far behind; with several
            processes, whose clocks differ, ``flush_every`` counts alone. None for never.

    Raises:
        ConfigError: ``flush_every`` is below 1, or ``flush_seconds`` is no number or below 0.
    """

    def __init__(self, flush_every: int = 500, flush_seconds: float | None = 10.0) -> None:
        if flush_every < 1:
            raise ConfigError(
                Mistake(
                    "flush_every",
                    "a recorder has to write at some time",
                    given=str(flush_every),
                    remedy="give a number of optimizer steps, 1 or more; 500 is the default",
                )
            )
        if flush_seconds is not None and not (is_number(flush_seconds) and flush_seconds >= 0):
            problem, remedy = "this is no time", "give seconds, 0 or more, or null for never; 10 is the default"
            raise ConfigError(Mistake("flush_seconds", problem, given=repr(flush_seconds), remedy=remedy))
        self.flush_every = flush_every
        self.flush_seconds = math.inf if flush_seconds is None else flush_seconds
        self._recording = False
        self._reset()

    def _reset(self) -> None:
        self._steps: list[_Step] = []
        self._losses: list[Tensor] = []  # of the micro-batches of `_steps`, in order
        self._window: list[Tensor] = []  # of the micro-batches since the last step
        self._open: _Step | None = None  # the step whose batch has not ended yet
        self._optimizers: list[Optimizer] = []  # stays empty off rank zero, where only losses matter
        self._keys: list[list[str]] = []  # for each group, what is read from it
        self._tags: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with an empty buffer; after a resume, drop what an interrupted process wrote past the checkpoint."""
        self._reset()
        self._recording = any(not isinstance(logger, DummyLogger) for logger in trainer.loggers)
        if self._recording and trainer.is_global_zero:
            self._optimizers = trainer.optimizers
            if trainer.global_step > 0:
                mark_resume(trainer.loggers, trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget micro-batches of a window that the last epoch broke off before its step."""
        self._window.clear()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Read the hyperparameters that this step is about to use.

        At the end of the batch they are already the next step's. An optimizer that evaluates its closure repeatedly
        (LBFGS) comes here each time; the first one counts.
        """
        if self._recording and self._open is None:
            values = self._read()  # before the tags, which it keeps up to date
            self._open = _Step(trainer.global_step, time.time(), self._tags, values)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the loss, still on its device; if the batch ended in a step, that step's row is complete."""
        if not self._recording:
            return
        loss = batch_loss(outputs)
        if loss is not None:
            self._window.append(loss)
        step = self._open
        if step is None or trainer.global_step == step.step:  # equal: the strategy accumulates inside its `step`
            return
        self._open = None
        divisor = trainer.accumulate_grad_batches
        self._steps.append(_Step(step.step, step.wall_time, step.tags, step.values, len(self._window), divisor))
        self._losses += self._window
        self._window.clear()
        is_late = step.wall_time - self._steps[0].wall_time >= self.flush_seconds and trainer.world_size == 1
        if is_late or len(self._steps) >= self.flush_every:
            self._flush(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, so that the curves are up to date beside the validation's."""
        self._flush(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write, so that no row is missing where training resumes. Lightning calls this on every rank."""
        self._flush(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what validation or a checkpoint has not already brought out."""
        self._flush(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rest."""
        self._flush(trainer)
        self._recording = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what is there, alone: waiting here for other ranks could wait for ever."""
        try:
            self._flush(trainer, over_ranks=False)
        except Exception:
            _log.warning("the last recorded steps could not be written", exc_info=True)
        self._recording = False

    def _read(self) -> list[float | Tensor]:
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        if len(groups) != len(self._keys):
            self._keys = [_keys(group) for group in groups]
            self._tags = _tags(group_names(self._optimizers), self._keys)
        values = []
        for group, keys in zip(groups, self._keys, strict=True):
            for key in keys:
                value = group[key]
                if type(value) is not float:  # all but a few are floats, and pass for the price of this test
                    value = _snapshot(value)
                values.append(value)
        return values

    def _flush(self, trainer: Trainer, over_ranks: bool = True) -> None:
        steps, losses = self._steps, self._losses
        if not steps:
            return
        self._steps, self._losses = [], []  # first: what fails below must not be written twice
        on_device = _stack(losses) if losses else None
        if on_device is not None and over_ranks and trainer.world_size > 1:
            reduced = trainer.strategy.reduce(on_device, reduce_op="mean")
            on_device = reduced if isinstance(reduced, Tensor) else on_device
        if not trainer.is_global_zero:
            return
        log_rows(trainer.loggers, _rows(steps, [] if on_device is None else on_device.tolist()))


def batch_loss(outputs: Any) -> Tensor | None:
    """The loss in what ``on_train_batch_end`` gets, without its graph; None where ``training_step`` returned none."""
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    if not isinstance(loss, Tensor):
        return None
    return loss.detach() if loss.requires_grad else loss


def _keys(group: dict[str, Any]) -> list[str]:
    momentum = "momentum" if _is_number(group.get("momentum")) else "betas"
    return [key for key in ("lr", "weight_decay", momentum) if _is_number(group.get(key))]


def _is_number(value: Any) -> bool:
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return isinstance(value, (int, float, Tensor)) and not isinstance(value, bool)


def _tags(names: Iterable[str], keys: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"{'momentum' if key == 'betas' else key}/{name}"
        for name, of_group in zip(names, keys, strict=True)
        for key in of_group
    ]


def _snapshot(value: Any) -> float | Tensor:
    if isinstance(value, (tuple, list)):
        value = value[0]
    if isinstance(value, Tensor):
        return value.detach().clone()  # the scheduler writes into it; reading it now would wait for the device
    return float(value)


def _stack(scalars: Sequence[Tensor]) -> Tensor:
    device = scalars[0].device
    alike = (one if one.ndim == 0 and one.device == device else one.reshape(()).to(device) for one in scalars)
    return torch.stack([*alike]).float()


def _rows(steps: Sequence[_Step], losses: Sequence[float]) -> list[Row]:
    tensors = [value for step in steps for value in step.values if isinstance(value, Tensor)]
    fetched = iter(_stack(tensors).tolist() if tensors else ())
    rows = []
    start = 0
    for step in steps:
        values: dict[str, float] = {}
        if step.losses:
            window = losses[start : start + step.losses]
            start += step.losses
            values["train/loss"] = sum(window) * step.divisor / step.losses
        if tensors:
            values.update(
                (tag, next(fetched) if isinstance(value, Tensor) else value)
                for tag, value in zip(step.tags, step.values, strict=True)
            )
        else:
            values.update(zip(step.tags, cast("Sequence[float]", step.values), strict=True))
        rows.append(Row(step.step, step.wall_time, values))
    return rows
