"""Where to look at a run: the command or the address, for each logger that has one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from lit_optim.cli.reporting import shown
from lit_optim.metrics_table import NAME

__all__ = ["dashboards"]


def dashboards(loggers: Iterable[Logger], folder: Path) -> Iterator[str]:
    """A line for each logger of a kind that is known.

    Args:
        loggers: Of a run that has ended.
        folder: The run's.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            runs = next((path for path in folder.parents if path.name == "runs"), folder)
            yield f"tensorboard --logdir {_quoted(runs)}"
        elif isinstance(logger, CSVLogger):
            yield _quoted(Path(logger.log_dir) / NAME)
        elif isinstance(logger, WandbLogger):
            run = logger._experiment  # None where nothing was logged by this process; asking would begin a run
            if run is not None:
                yield f"wandb sync {_quoted(Path(run.dir).parent)}" if run.offline else str(run.url)
        elif isinstance(logger, MLFlowLogger):
            uri = logger._tracking_uri
            # any other is a database, whose address may hold a password, or a service with a command of its own
            if uri.startswith(("http://", "https://")):
                yield uri
            elif uri.startswith("sqlite:///"):
                yield f"mlflow ui --backend-store-uri sqlite:///{_quoted(Path(uri.removeprefix('sqlite:///')))}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(shown(path)))
