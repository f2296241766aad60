"""What is to be said of a fit under way: where it is, the time left, loss, metric and learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor

from lit_optim.progress_line import GAP, Field, Pace, duration_text, number_text

__all__ = ["EPOCHS", "STEPS", "TIME", "Standing", "is_last_batch", "shares_done"]

EPOCHS, STEPS, TIME = "epochs", "steps", "time"
"""What may end a run: ``max_epochs``, ``max_steps``, ``max_time``."""

_BEST, _LOGGED, _STEPS, _SPEED = 1, 2, 3, 4  # which fields give way first, the last of all
_LOSS, _LR = len("loss 0.00123"), len("lr 0.000123")  # as long as they usually get: so the rest stands still


def shares_done(trainer: Trainer, epoch: int, batches: int, epoch_length: float = math.inf) -> dict[str, float]:
    """How much of the way to each of its ends a fit has gone, from 0 to 1; ends that it doesn't have are not there.

    Args:
        trainer: Of the fit.
        epoch: The current one, counted from 0.
        batches: Training batches done in it.
        epoch_length: Batches of an epoch where the loader doesn't tell; without it nothing is known of epochs.
    """
    shares = {}
    length = trainer.num_training_batches if trainer.num_training_batches != math.inf else epoch_length
    if trainer.max_epochs is not None and trainer.max_epochs > 0 and 0 < length < math.inf:
        shares[EPOCHS] = (epoch + min(1.0, batches / length)) / trainer.max_epochs
    if trainer.max_steps > 0:
        shares[STEPS] = trainer.global_step / trainer.max_steps
    for timer in _timers(trainer):
        gone, left = timer.time_elapsed(), timer.time_remaining()
        if left is not None and gone + left > 0:
            shares[TIME] = max(shares.get(TIME, 0.0), gone / (gone + left))
    return {end: min(1.0, share) for end, share in shares.items()}


class Standing:
    """Keeps what the line says; nothing is read from the device before `fields`.

    Args:
        trainer: Of the fit.
        monitor: The metric to show; if None, what the first checkpoint callback goes by.

    Attributes:
        epoch: The current one, counted from 0; Lightning's own count is ahead once training has ended.
        batches: Training batches of it that are done.
        seen: Those of this process, in all.
        loss: Of the last batch, as Lightning gives it.
    """

    def __init__(self, trainer: Trainer, monitor: str | None = None) -> None:
        self.epoch, self.batches, self.seen = trainer.current_epoch, 0, 0
        self.loss: Tensor | None = None
        self._lrs: list[float | Tensor] = []
        self._epoch_length = math.inf  # of a stream, once one has ended
        self._pace = Pace()
        self._began = monotonic()
        saver: Any = next((one for one in trainer.checkpoint_callbacks if getattr(one, "monitor", None)), None)
        self._monitor = monitor or getattr(saver, "monitor", None)
        is_savers = saver is not None and saver.monitor == self._monitor
        self._mode = getattr(saver, "mode", None) if is_savers else None
        best = getattr(saver, "best_model_score", None) if is_savers else None  # of before a resume
        self._value: float | None = None
        self._best: float | None = None if best is None else float(best)

    def keep_lrs(self, trainer: Trainer) -> None:
        """Keep the learning rates as they are now; a scheduler may write into a tensor."""
        lrs = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups if "lr" in group]
        if any(type(lr) is not float for lr in lrs):
            lrs = [lr.clone() if isinstance(lr, Tensor) else lr for lr in lrs if lr is not None]
        self._lrs = lrs

    def count(self, trainer: Trainer, batches: int) -> None:
        """A training batch has ended, the epoch's so many-th."""
        self.batches = batches
        self.seen += 1
        if self.seen == 1:
            self._pace.left(self.shares(trainer), monotonic())  # which begins here: what is compiled is, by now

    def begin_epoch(self, trainer: Trainer) -> None:
        """Its first batch is still to come."""
        self.epoch, self.batches = trainer.current_epoch, 0

    def end_epoch(self, trainer: Trainer) -> None:
        """Now it is known how long one is."""
        if is_last_batch(trainer):
            self._epoch_length = self.batches

    def see(self, metrics: Mapping[str, Tensor]) -> None:
        """Take the metric and its best value from all that was logged."""
        if self._monitor is not None and self._monitor in metrics:
            self._value = float(metrics[self._monitor])
            if self._mode is not None and math.isfinite(self._value):
                better = min if self._mode == "min" else max
                self._best = self._value if self._best is None else better(self._best, self._value)

    def shares(self, trainer: Trainer) -> dict[str, float]:
        """How much of the way to each of its ends is done."""
        return shares_done(trainer, self.epoch, self.batches, self._epoch_length)

    def share(self, trainer: Trainer) -> float | None:
        """How much of the run is done; None where that is not known."""
        return max(self.shares(trainer).values(), default=None)

    def head(self, trainer: Trainer) -> str:
        """Where the run is, counted as that is which ends it."""
        shares = self.shares(trainer)
        if STEPS in shares and shares[STEPS] == max(shares.values()):
            total = f"{trainer.max_steps:,}"
            return f"step {trainer.global_step:{len(total)},}/{total}"
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            return f"epoch {self.epoch + 1:{len(str(trainer.max_epochs))}}/{trainer.max_epochs}"
        return f"epoch {self.epoch + 1}"

    def fields(
        self, trainer: Trainer, logged: Mapping[str, Any], busy: str = "", has_ended: bool = False
    ) -> list[Field]:
        """All that can be said, the time first.

        Args:
            trainer: Of the fit.
            logged: More metrics by name.
            busy: What stands in place of the loss.
            has_ended: Whether no time is left, whatever was expected.
        """
        gone = monotonic() - self._began
        fields = [Field(self._time_text(trainer, gone, has_ended))]
        twice = {self._monitor}
        if busy:
            fields.append(Field(busy.ljust(_LOSS)))
        elif self.loss is not None:
            loss = self.loss.item() * trainer.accumulate_grad_batches  # Lightning has divided by it
            fields.append(Field(f"loss {loss:.3g}".ljust(_LOSS)))
            twice |= {name for name, value in logged.items() if "loss" in name and _is_close(value, loss)}
        if self._value is not None:
            fields.append(Field(number_text(str(self._monitor), self._value)))
        if self._best is not None:
            fields.append(Field(number_text("best", self._best), _BEST))
        if self._lrs:
            low, high = (f"{float(end):.3g}" for end in (min(self._lrs), max(self._lrs)))
            fields.append(Field((f"lr {low}" if low == high else f"lr {low}…{high}").ljust(_LR)))
        fields += [Field(number_text(name, value), _LOGGED) for name, value in logged.items() if name not in twice]
        if STEPS not in self.shares(trainer):
            fields.append(Field(f"step {trainer.global_step:,}", _STEPS))
        if self.seen and gone > 0:
            fields.append(Field(f"{self.seen / gone:.3g} batches/s", _SPEED))
        return fields

    def plain(self, trainer: Trainer, logged: Mapping[str, Any]) -> str:
        """The same as a line of a log, the time last."""
        time, *fields = self.fields(trainer, logged)
        steps = [] if STEPS in self.shares(trainer) else [f"step {trainer.global_step:,}"]
        texts = [field.text.rstrip() for field in fields if field.rank < _STEPS]
        return GAP.join([self.head(trainer), *steps, *texts, time.text])

    def _time_text(self, trainer: Trainer, gone: float, has_ended: bool) -> str:
        if has_ended:
            return f"took {duration_text(gone)}"
        shares = self.shares(trainer)
        left = self._pace.left(shares, monotonic()) if self.seen else None
        if left is None or 1.0 in shares.values():  # but for a validation
            return f"{duration_text(gone)} so far"
        return f"{duration_text(left)} left"


def is_last_batch(trainer: Trainer) -> bool:
    """Whether the training batch at hand is its epoch's last."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _is_close(value: object, loss: float) -> bool:
    return isinstance(value, (int, float)) and math.isclose(value, loss, rel_tol=1e-5)


def _timers(trainer: Trainer) -> list[Timer]:
    return [one for one in trainer.callbacks if isinstance(one, Timer)]  # type: ignore[attr-defined]  # see horizon
