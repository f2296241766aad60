"""What a run leaves behind beside its events and checkpoints: its config, its plan, and its metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_optim.integration.checkpoint import Checkpoint
from lit_optim.integration.run_folder import RunFolder
from lit_optim.integration.tensorboard import RunLogger
from lit_optim.plan import Plan
from lit_optim.render import plan_text, save_figure

__all__ = ["RunFiles"]

_FALLING = ("loss", "error", "perplexity")  # tags of which the best value is the lowest
_TEXT_WIDTH = 160  # of the plan in TensorBoard, which scrolls


class RunFiles(Callback):
    """Keeps a run's folder true to the state of the run.

    Before the first step it claims the folder and writes the config (``.hydra/``), ``plan.json``, ``plan.png`` and a
    ``metrics.json`` that says ``running``, and shows plan and config in TensorBoard. `finish` writes the results; a run
    that dies by an exception is marked ``crashed``. Only rank zero writes.

    Args:
        folder: The run's folder.
        settings: Texts for ``.hydra/`` by file name; ``config.yaml`` is also shown in TensorBoard.
        hparams: Flat names and plain values, for TensorBoard's comparison of runs.
        start_from: The checkpoint whose full state the run starts from, if there is one.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Mapping[str, str],
        hparams: Mapping[str, Any],
        start_from: Checkpoint | None = None,
    ) -> None:
        self._start_from = start_from
        self.folder = folder
        self.plan: Plan | None = None
        self.final: dict[str, float] = {}
        self._settings = settings
        self._hparams = hparams
        self._best: dict[str, dict[str, float]] = {}
        self._epochs = 0
        self._tested: str | None = None
        self._began = time.monotonic()

    @property
    def has_started(self) -> bool:
        """Whether the run got as far as its first step would be next."""
        return self.plan is not None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all that is known before the first step, and print the plan."""
        plan: Plan = trainer.lr_scheduler_configs[0].scheduler.plan  # type: ignore[union-attr]
        if self._start_from is not None:
            self._start_from.check_fits(plan)
        if trainer.is_global_zero:
            self.folder.claim(self._settings)
            self.folder.write("plan.json", plan.to_json())
            picture = self.folder.path / "plan.png"
            self.folder.note(picture)
            save_figure(plan, picture)
            self._write_metrics("running", trainer)
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger):
                    self._show(logger, plan, picture)
            print(plan, flush=True)
        self.plan = plan

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

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the test's metrics."""
        self._note_metrics(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Mark a run that had begun as crashed."""
        if self.has_started and trainer.is_global_zero:
            self._write_metrics("crashed", trainer)

    def finish(self, trainer: Trainer, tested: str | None = None) -> None:
        """Write the results of a run that came to its end, and close its events file.

        Args:
            trainer: Of the run.
            tested: The checkpoint that the test's metrics are of; None for the last weights.
        """
        self._tested = tested
        if not trainer.is_global_zero:
            return
        self._write_metrics("finished", trainer)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_final(self._hparams, self.final)
                logger.close()

    def _show(self, logger: RunLogger, plan: Plan, picture: Path) -> None:
        logger.log_text("plan", _as_code(plan_text(plan, _TEXT_WIDTH)))
        logger.log_text("config", _as_code(self._settings.get("config.yaml", "")))
        logger.log_figure("plan", picture)

    def _note_metrics(self, trainer: Trainer) -> None:
        metrics = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
        self.final.update(metrics)
        for tag, value in metrics.items():
            best = self._best.get(tag)
            sign = -1 if any(word in tag for word in _FALLING) else 1
            if math.isfinite(value) and (best is None or sign * value > sign * best["value"]):
                self._best[tag] = {"value": value, "step": trainer.global_step}

    def _write_metrics(self, status: str, trainer: Trainer) -> None:
        self.folder.write_metrics(
            {
                "status": status,
                "final": {tag: value if math.isfinite(value) else None for tag, value in self.final.items()},
                "best": self._best,
                "steps": trainer.global_step,
                "epochs": self._epochs,
                "tested": self._tested,
                "seconds": round(time.monotonic() - self._began, 3),
            }
        )


def _as_code(text: str) -> str:
    """Markdown that keeps its columns."""
    return "\n".join(f"    {line}" for line in text.splitlines())
