"""Shows the scheduler each value of the metrics that its schedules follow: once, when it is fresh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lit_optim.errors import Mistake, PlanError, nearest
from lit_optim.scheduler import PlanScheduler

__all__ = ["ShowMetrics"]


class ShowMetrics(Callback):
    """Looks after each validation and after each training epoch for what was logged anew.

    A metric that wasn't logged, or not since the last look, is not shown again: Lightning keeps the last value of each.
    What a sanity check logs is not shown. Every process sees the value of rank zero. It stands before the callbacks
    that save, so that a checkpoint holds what came of the values before it.

    Args:
        scheduler: Of the plan that runs.
        monitors: Names of metrics by the config keys that name them.
    """

    def __init__(self, scheduler: PlanScheduler, monitors: Mapping[str, str]) -> None:
        self._scheduler = scheduler
        self._monitors = monitors
        self._seen: set[str] = set()
        self._had_time = False  # to be logged
        self._trainer: Trainer | None = None  # while an epoch's own hook may have logged something
        self._before: dict[str, Any] = {}  # the epoch's end: what was there before that hook

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        if self._is_ours(trainer) and not trainer.sanity_checking:
            self._had_time = True
            self._show(trainer, _logged(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class; what the module's own hook of this name logs comes after this one, and is awaited."""
        if self._is_ours(trainer):
            self._had_time |= not trainer.enable_validation
            shown = _logged(trainer)
            self._show(trainer, shown)
            self._trainer = trainer
            waiting = {*self._scheduler.monitors} - shown
            self._before = {name: trainer.callback_metrics.get(name) for name in waiting}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what the module logged at the end of the epoch before; by now every metric should have been seen."""
        self._show_late()
        if self._is_ours(trainer):
            self._check_seen(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same, after the last epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Nothing of its own; but a checkpoint is about to be made, and what the scheduler has seen belongs to it."""
        self._show_late()
        return {}

    def _is_ours(self, trainer: Trainer) -> bool:
        """Whether the scheduler's own fit is under way, and not a validation by itself or another fit."""
        configs = trainer.lr_scheduler_configs
        return trainer.state.fn == TrainerFn.FITTING and bool(configs) and configs[0].scheduler is self._scheduler

    def _show_late(self) -> None:
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            now = trainer.callback_metrics
            self._show(trainer, (name for name, value in self._before.items() if now.get(name) is not value))
            self._before = {}

    def _show(self, trainer: Trainer, names: Iterable[str]) -> None:
        metrics = trainer.callback_metrics
        fresh = {name: float(metrics[name]) for name in names if name in self._scheduler.monitors and name in metrics}
        if trainer.world_size > 1:
            fresh = trainer.strategy.broadcast(fresh, src=0)
        self._seen |= {*fresh}
        self._scheduler.see(fresh)

    def _check_seen(self, trainer: Trainer) -> None:
        """Refuse to go on without a metric, once there was time to log it."""
        known = tuple(sorted(trainer.callback_metrics))
        mistakes = [
            Mistake(key, "it was never logged", repr(name), known, nearest(name, known), "monitor what the module logs")
            for key, name in self._monitors.items()
            if name in self._scheduler.monitors and name not in self._seen and self._had_time
        ]
        if mistakes:
            raise PlanError(*mistakes)


def _logged(trainer: Trainer) -> set[str]:
    """The names of all that was logged in the loop at hand since it began anew."""
    results = trainer._results
    if results is None:
        return set()
    fresh = (metric for metric in results.result_metrics if not metric.has_reset)
    return {name for metric in fresh for name in results._forked_name(metric, on_step=False)}
