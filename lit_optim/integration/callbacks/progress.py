"""A line of the terminal that says how the whole run stands; in a log, now and then a line in its place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from tqdm.std import tqdm

from lit_optim.integration.callbacks.recorder import batch_loss
from lit_optim.integration.standing import Standing, is_last_batch
from lit_optim.progress_line import Field, Pace, ProgressLine, duration_text, is_notebook, is_terminal

__all__ = ["ProgressBar"]

_REDRAWN = 0.2  # seconds from one redraw to the next: each waits for the device
_SILENT = 60.0  # seconds inside an epoch before a log gets a line
_APART = 0.01  # of the run from one line of a log to the next: there are about a hundred, however many epochs
_LONG = 600.0  # seconds after which there may be one in any case


class ProgressBar(LightningProgressBar):
    """Loss, learning rate, the metric that the checkpoint goes by, and the time that is left of the whole run.

    ::

        epoch  3/10   24%|██▍       |  0:12 left  loss 0.412  val/acc 0.9137  best 0.921  lr 0.00085

    The bar is that of the run, by whichever of ``max_epochs``, ``max_steps`` and ``max_time`` ends it first; where none
    can be counted on, or a stream has not yet told how long an epoch is, there is the time so far and no bar. The time
    left goes by the mean speed of this process. What a narrow terminal has no room for gives way in this order: speed,
    steps, what else the module logs with ``prog_bar=True``, the best value. Validation is shown in the same line. The
    loss is rank zero's of the last batch, the learning rate that of the last step: ``min…max`` where groups differ.

    The line goes to stderr where that is a terminal, and into the cell of a notebook. Elsewhere there is none, since
    each redraw would stay as a line of its own. A stdout that is no terminal (a CI log, a file) gets plain lines::

        epoch 3/10  step 189  loss 0.412  val/acc 0.9137  best 0.921  lr 0.00085  0:12 left

    one at the end of each epoch and after each validation inside of one, and inside of long epochs one a minute; but
    from one to the next a hundredth of the run goes by, or ten minutes.

    Args:
        refresh_rate: Batches from one redraw to the next, at least; there are five redraws a second at most. 0 shows
            nothing at all.
        leave: Whether the plain line of each finished epoch stays in the terminal, above the bar.
        monitor: The metric shown with its best value; if not given, what the first checkpoint callback goes by.
    """

    def __init__(self, refresh_rate: int = 1, leave: bool = False, monitor: str | None = None) -> None:
        super().__init__()
        self.refresh_rate = refresh_rate
        self._leave = leave
        self._monitor = monitor
        self._enabled = True
        self._begin(None, False)

    def _begin(self, screen: TextIO | None, has_log: bool) -> None:
        self._screen = screen  # where the line is drawn
        self._has_log = has_log  # whether stdout gets plain lines
        self._line: ProgressLine | None = None
        self._standing: Standing | None = None  # of a fit
        self._pace = Pace()  # of an evaluation by itself
        self._redraws = self._tells = False  # at the end of this batch
        self._redraw_at = self._told_at = self._batch_began = 0.0
        self._told: tuple[float | None, int] | None = None  # share of the run and batches seen, at the last plain line

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_line": None, "_screen": None}  # which mean nothing in another process

    @property
    def is_enabled(self) -> bool:
        """Whether this process shows anything."""
        return self._enabled and self.refresh_rate > 0

    def disable(self) -> None:
        """Show nothing from the next stage on."""
        self._enabled = False

    def enable(self) -> None:
        """Show it again."""
        self._enabled = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look where stdout and stderr lead."""
        super().setup(trainer, pl_module, stage)
        screen = sys.stdout if is_notebook() else sys.stderr if is_terminal(sys.stderr) else None
        has_log = not is_notebook() and not (screen is not None and is_terminal(sys.stdout))
        self._begin(screen if self.is_enabled else None, has_log and self.is_enabled)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the line of a fit on the screen; that of a test goes, since its results come next."""
        self._close(leave=stage == TrainerFn.FITTING)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave it: what is told of the exception begins a line of its own."""
        self._close(leave=True)

    def print(self, *args: Any, sep: str = " ", end: str = "\n", file: TextIO | None = None, **more: Any) -> None:
        """Print above the line."""
        tqdm.write(sep.join(map(str, args)), file=file, end=end)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What the module logged with ``prog_bar=True``; no version number."""
        logged = super().get_metrics(trainer, pl_module)
        logged.pop("v_num", None)
        return logged

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._standing = Standing(trainer, self._monitor) if self.is_enabled else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count its batches."""
        if self._standing is not None:
            self._standing.begin_epoch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the learning rates that this batch uses; at its end they are already the next one's."""
        standing = self._standing
        if standing is None:
            return
        now = monotonic()
        ends, self._batch_began = 2 * now - self._batch_began, now  # if it takes as long as the one before
        is_counted = (batch_idx + 1) % self.refresh_rate == 0
        self._redraws = self._screen is not None and is_counted and ends >= self._redraw_at
        self._tells = self._has_log and now >= self._told_at + _SILENT
        standing.keep_lrs(trainer)  # of each batch, for an epoch may end with any
        if not standing.seen:
            self._tells, self._told_at = False, now
            standing.batches = batch_idx  # after a resume in the middle of an epoch
            self._draw(trainer, pl_module)  # before what may be long to compile

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Redraw if it is time to; only then is the loss read from the device."""
        standing = self._standing
        if standing is None:
            return
        standing.loss = batch_loss(outputs)
        standing.count(trainer, batch_idx + 1)
        if self._tells and not is_last_batch(trainer):
            self._tell(trainer, pl_module)
        if self._redraws:
            self._draw(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the metric; where the epoch goes on, a log gets its line now."""
        if self._standing is not None and not trainer.sanity_checking:
            self._standing.see(trainer.callback_metrics)
            if not is_last_batch(trainer):
                self._tell(trainer, pl_module)
            self._draw(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how the epoch ended; its validation is over by now."""
        metrics = trainer.callback_metrics  # on every process: reading them may reduce them over all
        if self._standing is not None:
            self._standing.see(metrics)
            self._standing.end_epoch(trainer)
            self._tell(trainer, pl_module)
            if self._line is not None and self._leave and not self._has_log:
                self.print(self._standing.plain(trainer, self.get_metrics(trainer, pl_module)))
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw it for the last time; a log ends with the last epoch, whether or not its line was due."""
        standing, self._standing = self._standing, None
        if standing is None:
            return
        logged = self.get_metrics(trainer, pl_module)
        if self._told is not None and self._told[1] < standing.seen:
            self.print(standing.plain(trainer, logged))
        if self._line is not None:
            fields = standing.fields(trainer, logged, has_ended=True)
            self._line.show(standing.head(trainer), standing.share(trainer), fields)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say how far the validation is."""
        if not trainer.sanity_checking:
            self._evaluated(trainer, pl_module, "validating", trainer.num_val_batches, batch_idx, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say how far the test is."""
        self._evaluated(trainer, pl_module, "testing", trainer.num_test_batches, batch_idx, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say how far the prediction is."""
        self._evaluated(trainer, pl_module, "predicting", trainer.num_predict_batches, batch_idx, dataloader_idx)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, busy: str = "") -> None:
        """Show the fit, with ``busy`` in place of the loss."""
        if self._screen is not None and self._standing is not None:  # else nothing is read from the device
            fields = self._standing.fields(trainer, self.get_metrics(trainer, pl_module), busy)
            self._show(self._standing.head(trainer), self._standing.share(trainer), fields)

    def _tell(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a plain line, if the last one is far enough behind."""
        if not self._has_log or self._standing is None:
            return
        share, seen, now = self._standing.share(trainer), self._standing.seen, monotonic()
        if self._told is None or now >= self._told_at + _LONG or self._is_far(*self._told, share, seen):
            self._told, self._told_at = (share, seen), now
            self.print(self._standing.plain(trainer, self.get_metrics(trainer, pl_module)))

    @staticmethod
    def _is_far(share_before: float | None, seen_before: int, share: float | None, seen: int) -> bool:
        """Whether enough of the run has gone by; where its length is not known, of what has been so far."""
        if share is None or share_before is None:
            return seen - seen_before >= _APART * seen
        return share - share_before >= _APART - 1e-9

    def _evaluated(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        what: str,
        totals: Any,  # batches: of one loader, or of each of several; infinite for a stream
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Show how far an evaluation is, over all of its loaders, if it is time to."""
        if self._screen is None or monotonic() < self._redraw_at:
            return
        each: list[Any] = [*totals] if isinstance(totals, (list, tuple)) else [totals]
        done, total = sum(each[:dataloader_idx]) + batch_idx + 1, sum(each)
        text = f"{what} {done:,}" + (f"/{total:,}" if total < inf else "")
        if self._standing is not None:
            self._draw(trainer, pl_module, busy=text)
            return
        shares = {what: done / total} if total < inf else {}
        left = self._pace.left(shares, monotonic())
        self._show(text, shares.get(what), [] if left is None else [Field(f"{duration_text(left)} left")])

    def _show(self, head: str, share: float | None, fields: Sequence[Field]) -> None:
        if self._screen is None:
            return
        if self._line is None:
            self._line = ProgressLine(self._screen)
        self._line.show(head, share, fields)
        self._redraw_at = monotonic() + _REDRAWN

    def _close(self, leave: bool) -> None:
        if self._line is not None:
            self._line.finish(leave)
            self._line = None
