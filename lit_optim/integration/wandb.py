"""Weights & Biases: every step with the time when it happened, and a run of its own for each job of a sweep."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_optim.errors import Mistake, RunError
from lit_optim.integration.findings_file import FINDINGS
from lit_optim.integration.rows import Row, prefix_of, row_of
from lit_optim.integration.tracker import AtFirstUse, Tracker, keep_id, kept_id, names_of, not_installed, unchanged

__all__ = ["WandbRunLogger", "write_rows"]


class WandbRunLogger(Tracker, WandbLogger):
    """A Weights & Biases logger for a run that owns its folder.

    Beside Lightning's own it opens nothing before something is logged, never goes on with the run of an earlier job,
    goes on with its own where the run is resumed, and shows the plan. W&B has no way to take a value back: what a
    killed process logged past its last checkpoint stands there twice after a resume. Of an offline run W&B holds up to
    32 KB back, which a kill takes along.

    Args:
        save_dir: The run's folder, in which W&B keeps its own (``wandb/``); ``trackers.json`` in it keeps the run's id.
        project: The W&B project.
        name: Of the run; by default that of its folder.
        group: By default the sweep that the run is a job of.
        **kwargs: Further arguments of Lightning's ``WandbLogger`` (``offline``, …) and of ``wandb.init``.

    Raises:
        ConfigError: W&B is not installed.
    """

    def __init__(
        self,
        save_dir: str | Path,
        project: str | None = None,
        name: str | None = None,
        group: str | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise not_installed("Weights & Biases", "wandb", error) from error
        self._folder = Path(save_dir).expanduser()
        own, sweep = names_of(self._folder)
        super().__init__(name or own, self._folder, project=project, group=group or sweep, **kwargs)
        if self._wandb_init.get("anonymous") is None:
            self._wandb_init.pop("anonymous", None)  # which Lightning always says, and W&B warns of

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The ``wandb.Run``; it begins when something of it is used."""
        return AtFirstUse(self.begin) if self._experiment is None else self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write a row; the ``epoch`` that Lightning adds to each call is left out."""
        if step is None:
            super().log_metrics(metrics)
        else:
            self.log_rows([row_of(metrics, step)])

    @rank_zero_only
    def log_rows(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        write_rows(self, rows)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write the run's config; ``optimizer.lr`` is ``lr`` below ``optimizer``."""
        super().log_hyperparams(_nested(vars(params) if isinstance(params, Namespace) else params))

    @rank_zero_only
    def show(self, plan: str, config: str, picture: Path) -> None:
        """Show the picture, and put the plan among the run's files; the config is W&B's own."""
        self.log_image("plan", [str(picture)])
        self._save("plan.json")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Mark a run that an exception ends as failed; Lightning calls this after every stage."""
        if status == "failed":
            self._end(1)
        else:
            super().finalize(status)

    @rank_zero_only
    def close(self) -> None:
        """Mark the run as finished."""
        self._end(0)

    def _end(self, exit_code: int) -> None:
        if self._experiment is not None:
            self._save(FINDINGS)
            self._experiment.finish(exit_code)

    def _save(self, name: str) -> None:
        if (self._folder / name).exists():
            self.experiment.save(str(self._folder / name), base_path=str(self._folder), policy="now")

    @rank_zero_only
    def begin(self) -> Any:
        """Begin the run there, or go on with it; returns what `experiment` is from then on."""
        if self._experiment is None:
            import wandb

            if wandb.run is not None:  # whoever left it open; Lightning would go on with it
                wandb.run.finish(exit_code=1)
            if before := kept_id(self._folder, "wandb"):
                self._id = self._wandb_init["id"] = before
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with unchanged("WANDB_MODE"):
                    run = super().experiment
            except Exception as error:  # a refusal of its server's is no wandb.Error
                problem = f"W&B can't begin the run: {str(error).strip() or type(error).__name__}"
                remedy = "log in (wandb login), or keep it here: offline=true for this logger"
                raise RunError(Mistake("logger", problem, remedy=remedy)) from error
            keep_id(self._folder, "wandb", run.id)
        return self._experiment


def write_rows(logger: WandbLogger, rows: Sequence[Row]) -> None:
    """Write rows to any logger of Lightning's W&B family, on rank zero.

    W&B takes one row a call, in whatever order: what it calls a step counts the calls, and the x-axis of every chart is
    ``trainer/global_step``.
    """
    prefix, log = prefix_of(logger), logger.experiment.log
    for row in rows:
        values = {prefix + tag: value for tag, value in row.values.items()} if prefix else row.values
        log({**values, "trainer/global_step": row.step, "_timestamp": row.wall_time})


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optimizer.lr": 0.1}`` as ``{"optimizer": {"lr": 0.1}}``; a name that is also a branch stays flat."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *branch, leaf = name.split(".")
        node: Any = tree
        for part in branch:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if isinstance(node, dict) and leaf not in node:
            node[leaf] = value
        else:
            tree[name] = value
    return tree
