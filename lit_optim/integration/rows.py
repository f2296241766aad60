"""What was recorded at a step, and how it comes to loggers of any kind; nothing here needs a tracker's package."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from lit_optim.histograms import Histogram

__all__ = ["Row", "log_histograms", "log_rows", "mark_resume", "prefix_of", "row_of"]


class Row(NamedTuple):
    """All that was recorded at one step.

    Args:
        step: The optimizer step, counted from 0.
        wall_time: When it happened, in seconds since the epoch of the system clock.
        values: Tag to value.
    """

    step: int
    wall_time: float
    values: Mapping[str, float]


def log_rows(loggers: Iterable[Logger], rows: Sequence[Row]) -> None:
    """Write rows to any loggers, on rank zero.

    A logger with a method ``log_rows`` gets them all at once, and so do those of TensorBoard's, W&B's and MLflow's
    families; others get a ``log_metrics`` a row.
    """
    for logger in loggers:
        _writer(logger)(rows)


def mark_resume(loggers: Iterable[Logger], step: int) -> None:
    """Have loggers forget what an interrupted process wrote at ``step`` and later, which is about to come again.

    Done by those with a method ``mark_resume`` and by TensorBoard's family; others have no way to.
    """
    for logger in loggers:
        own = getattr(logger, "mark_resume", None)
        if own is not None:
            own(step)
        elif isinstance(logger, TensorBoardLogger):
            from lit_optim.integration import tensorboard

            tensorboard.mark_resume(logger, step)


def log_histograms(loggers: Iterable[Logger], histograms: Iterable[Histogram], step: int) -> None:
    """Write histograms to the loggers of TensorBoard's family, on rank zero; others have no form for them."""
    boards = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
    if boards:
        from lit_optim.integration import tensorboard

        tensorboard.write_histograms(boards, histograms, step)


def row_of(metrics: Mapping[str, float], step: int | None) -> Row:
    """A call of ``log_metrics`` as a row, without the ``epoch`` that Lightning adds to each."""
    return Row(step or 0, time.time(), {tag: value for tag, value in metrics.items() if tag != "epoch"})


def prefix_of(logger: Logger) -> str:
    """What one of Lightning's loggers puts before every tag."""
    prefix = getattr(logger, "_prefix", "")
    return f"{prefix}{getattr(logger, 'LOGGER_JOIN_CHAR', '')}" if prefix else ""


def _writer(logger: Logger) -> Callable[[Sequence[Row]], None]:
    own: Callable[[Sequence[Row]], None] | None = getattr(logger, "log_rows", None)
    if own is not None:
        return own
    if isinstance(logger, TensorBoardLogger):
        from lit_optim.integration import tensorboard

        return partial(tensorboard.write_rows, logger)
    if isinstance(logger, MLFlowLogger):
        from lit_optim.integration import mlflow

        return partial(mlflow.write_rows, logger)
    if isinstance(logger, WandbLogger):
        from lit_optim.integration import wandb

        return partial(wandb.write_rows, logger)
    return partial(_one_by_one, logger)


def _one_by_one(logger: Logger, rows: Sequence[Row]) -> None:
    for row in rows:
        logger.log_metrics(dict(row.values), row.step)
