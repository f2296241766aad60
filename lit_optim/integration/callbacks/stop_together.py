"""SIGTERM to a run of several processes: all of them stop after the same batch, and so can save together."""

from __future__ import annotations

import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_optim.integration.lockstep import Lockstep
from lit_optim.integration.terminated import end_at_once

__all__ = ["StopTogether", "is_between_steps"]


class StopTogether(Callback):
    """Hands Lightning the signal once every rank is done with the same batch.

    Lightning itself answers it with a collective operation wherever each process happens to be, so that one of them
    may wait in another operation than the rest.

    Args:
        lockstep: Of all ranks.
        rank: This one's place in them.
        everywhere: Whether they are those of every machine.

    Attributes:
        has_stopped: Whether they have.
    """

    def __init__(self, lockstep: Lockstep, rank: int, everywhere: bool = False) -> None:
        self._lockstep = lockstep
        self._rank = rank
        self.everywhere = everywhere
        self._batches = 0
        self._of_lightning: Any = None
        self.has_stopped = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There is nothing to save yet."""
        self._of_lightning = signal.signal(signal.SIGTERM, end_at_once)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a signal to this process is one to all of them."""
        before = signal.signal(signal.SIGTERM, lambda *_: self._lockstep.ask())
        self._of_lightning = self._of_lightning or before
        self._lockstep.note(self._rank, self._batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop, if all do; not in an epoch's last batch, whose validation would be cut short."""
        self._batches += 1
        self._lockstep.note(self._rank, self._batches)
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and trainer.num_training_batches != 1
        if self._lockstep.stops_after(self._batches) and not last and is_between_steps(trainer):
            self.has_stopped = True
            self._of_lightning(signal.SIGTERM, None)  # a further signal is not to reach it while they save

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is left to do can't be gone on with."""
        self._lockstep.leave(self._rank)
        signal.signal(signal.SIGTERM, end_at_once)
        self._of_lightning = None


def is_between_steps(trainer: Trainer) -> bool:
    """Whether a fit stands where no gradients wait for their step."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    return batches.is_last_batch or batches.current.ready % trainer.accumulate_grad_batches == 0
