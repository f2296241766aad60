"""What a run leaves behind beside its events and checkpoints: its config, its plan, and its metrics."""

from __future__ import annotations

import logging
import math
import platform
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_optim.integration.callbacks.stop_together import StopTogether, is_between_steps
from lit_optim.integration.checkpoint import Checkpoint
from lit_optim.integration.dashboard import BEST
from lit_optim.integration.horizon import warning_of_end
from lit_optim.integration.run_folder import RunFolder
from lit_optim.integration.terminated import end_at_once
from lit_optim.integration.tracker import IDS, Tracker
from lit_optim.plan import Plan
from lit_optim.render import plan_text, save_figure
from lit_optim.runs.metric import falls
from lit_optim.runs.reading import LAST
from lit_optim.scheduler import PlanScheduler
from lit_optim.tables import CUT

__all__ = ["RunFiles", "skipped_steps"]

_log = logging.getLogger(__name__)

_TEXT_WIDTHS = (120, 160)  # of the plan in trackers: what a window shows, and for what needs more, which scrolls


class RunFiles(Callback):
    """Keeps a run's folder true to the state of the run.

    Before the first step it claims the folder and writes the config (``.hydra/``), ``plan.json``, ``plan.png`` and a
    ``metrics.json`` that says ``running``, enters the run into its trackers, and shows plan and config there. `finish`
    writes the results; a run that dies by an exception is marked ``crashed``. Only rank zero writes.

    Args:
        folder: The run's folder.
        settings: Texts for ``.hydra/`` by file name; ``config.yaml`` is also shown in trackers.
        hparams: Flat names and plain values, for the trackers' comparison of runs.
        start_from: The checkpoint whose full state the run starts from, if there is one.
        on_change: What is done where its plan is another: ``config`` or ``error`` (see `Checkpoint.check_fits`).
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Mapping[str, str],
        hparams: Mapping[str, Any],
        start_from: Checkpoint | None = None,
        on_change: str = "config",
    ) -> None:
        self._start_from = start_from
        self._on_change = on_change
        self._continued: list[dict[str, Any]] = []
        self.folder = folder
        self.plan: Plan | None = None
        self.final: dict[str, float] = {}
        self._settings = settings
        self._hparams = hparams
        self._best: dict[str, dict[str, float]] = {}
        self._epochs = 0
        self._tested: str | None = None
        self._began = time.monotonic()
        if folder.goes_on:
            self._take_up(folder.read_metrics())

    def _take_up(self, metrics: Mapping[str, Any]) -> None:
        """Go on from what the run has said of itself, as far as it is behind the checkpoint."""
        step = 0 if self._start_from is None else self._start_from.step
        self._continued = list(metrics.get("continued", ()))
        self._began -= metrics.get("seconds", 0.0)
        if step:
            self.final = {tag: math.nan if value is None else value for tag, value in metrics.get("final", {}).items()}
            self._best = {tag: best for tag, best in metrics.get("best", {}).items() if best["step"] <= step}
            self._epochs = metrics.get("epochs", 0)

    @property
    def has_started(self) -> bool:
        """Whether the run got as far as its first step would be next."""
        return self.plan is not None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all that is known before the first step, and print the plan."""
        scheduler = trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, PlanScheduler)
        plan = scheduler.plan
        changes: list[str] = []
        if self._start_from is not None:
            changes = self._start_from.check_fits(scheduler, self._on_change, over=self.folder.is_untested)
            started = {"from": str(self._start_from.path), "step": self._start_from.step, "changes": changes}
            self._continued.append(started)
        if trainer.is_global_zero:
            self.folder.note(self.folder.path / IDS)
            for tracker in _trackers(trainer):
                tracker.begin()  # the last that can refuse: from here on the folder says what runs now
            self.folder.claim(self._settings)
            self.folder.write("plan.json", plan.to_json())
            picture = self.folder.path / "plan.png"
            self.folder.note(picture)
            save_figure(plan, picture)
            self._write_metrics("running", trainer)
            step = 0 if self._start_from is None else self._start_from.step
            narrow, wide = (plan_text(plan, width) for width in _TEXT_WIDTHS)
            shown = wide if CUT in narrow else narrow
            for tracker in _trackers(trainer):
                if self.folder.goes_on:
                    tracker.mark_resume(step)
                tracker.show(shown, self._settings.get("config.yaml", ""), picture)
                tracker.log_start(self._hparams)
            print(plan, flush=True)
            if self._start_from is not None:
                print(f"goes on from step {step:,}: {self._start_from.path}", flush=True)
            elif self.folder.goes_on:
                print("begins anew: it had not come to a checkpoint", flush=True)
            for change in changes:
                print(f"changed since the checkpoint: {change}", flush=True)
            warning = self._start_from and warning_of_end(trainer, plan.horizon, self._start_from)
            if warning:
                print(f"warning: {warning}", flush=True)
        self.plan = plan

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which state the optimizer could not go on with."""
        scheduler = trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(scheduler, PlanScheduler)
        lost = scheduler.state_by_name.lost
        if self._continued and trainer.is_global_zero and lost:
            self._continued[-1]["lost"] = list(lost)
            for line in lost:
                print(f"not in the checkpoint: {line}", flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the fit, where the last checkpoint is of an earlier step: each hundredth one, say."""
        saved = {one._last_global_step_saved for one in _savers_of_last(trainer)}
        if self._start_from is not None and self.folder.goes_on:
            saved.add(self._start_from.step)
        if trainer.global_step not in saved and _saves_last(trainer) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.folder.path / LAST)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best value of each metric."""
        if not trainer.sanity_checking:
            self._note_metrics(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how far the run is."""
        self._epochs = trainer.current_epoch + 1
        self._note_metrics(trainer)
        if trainer.is_global_zero:
            self._write_metrics("running", trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let SIGTERM end the test: Lightning passes it over, or has the processes wait for each other."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, end_at_once)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the test's metrics."""
        self._note_metrics(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Mark a run that had begun as crashed."""
        if self.has_started and trainer.is_global_zero:
            self._write_metrics("crashed", trainer, f"{type(exception).__name__}: {exception}".removesuffix(": "))
        fits = trainer.state.fn == TrainerFn.FITTING  # a test may be of the best weights
        if fits and isinstance(exception, SIGTERMException) and _stands_still(trainer) and _saves_last(trainer):
            trainer.save_checkpoint(self.folder.path / LAST)
        for tracker in _trackers(trainer) if self.has_started and trainer.is_global_zero else ():
            try:
                tracker.log_end(succeeded=False)
            except Exception:  # of a full disk, say, which is not to hide what ended the run
                _log.warning("a tracker could not be told of the end", exc_info=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Bring to disk what was logged: whoever goes on from here won't log it again."""
        for tracker in _trackers(trainer):
            tracker.save()

    def finish(self, trainer: Trainer, tested: str | None = None) -> None:
        """Write the results of a run that came to its end, and close its trackers.

        Args:
            trainer: Of the run.
            tested: The checkpoint that the test's metrics are of; None for the last weights.
        """
        self._tested = tested
        if not trainer.is_global_zero:
            return
        self._write_metrics("finished", trainer)
        self.folder.release()  # not before: what says that it runs, and is free, has been killed
        best = {f"{BEST}{tag}": best["value"] for tag, best in self._best.items()}
        for tracker in _trackers(trainer):
            tracker.log_end(self.final | best)
            tracker.close()

    def _note_metrics(self, trainer: Trainer) -> None:
        metrics = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
        self.final.update(metrics)
        for tag, value in metrics.items():
            best = self._best.get(tag)
            sign = -1 if falls(tag) else 1
            if math.isfinite(value) and (best is None or sign * value > sign * best["value"]):
                self._best[tag] = {"value": value, "step": trainer.global_step}

    def _write_metrics(self, status: str, trainer: Trainer, error: str | None = None) -> None:
        self.folder.write_metrics(
            {
                "status": status,
                **({} if error is None else {"error": error}),
                "final": {tag: value if math.isfinite(value) else None for tag, value in self.final.items()},
                "best": self._best,
                "steps": trainer.global_step,
                "epochs": self._epochs,
                "tested": self._tested,
                "host": platform.node(),  # whose locks tell whether it still runs
                "seconds": round(time.monotonic() - self._began, 3),
                **({"skipped": skipped} if (skipped := skipped_steps(trainer)) else {}),
                **({"continued": self._continued} if self._continued else {}),
            }
        )


def skipped_steps(trainer: Trainer) -> int:
    """The steps that were due and not taken, since gradients overflowed: Lightning counts them, the schedules don't."""
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    own = next((one for one in schedulers if isinstance(one, PlanScheduler)), None)
    return 0 if own is None else max(0, trainer.global_step - own.last_epoch)


def _saves_last(trainer: Trainer) -> bool:
    """Whether the run keeps its last checkpoint, and stands where no gradients wait for their step."""
    return is_between_steps(trainer) and bool(_savers_of_last(trainer))


def _savers_of_last(trainer: Trainer) -> list[ModelCheckpoint]:
    savers = (saver for saver in trainer.checkpoint_callbacks if isinstance(saver, ModelCheckpoint))
    return [saver for saver in savers if saver.filename == Path(LAST).stem]


def _stands_still(trainer: Trainer) -> bool:
    """Whether every process of the run is at the same place, so that they can save together."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    stopped = [one for one in callbacks if isinstance(one, StopTogether) and one.has_stopped]
    return trainer.world_size == 1 or any(one.everywhere or trainer.num_nodes == 1 for one in stopped)


def _trackers(trainer: Trainer) -> list[Tracker]:
    return [logger for logger in trainer.loggers if isinstance(logger, Tracker)]
