"""What a run asks of the loggers that it is followed in, and how it finds itself again in those that give it an id."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from lit_optim.errors import ConfigError, Mistake
from lit_optim.integration.rows import Row

__all__ = ["IDS", "AtFirstUse", "Tracker", "keep_id", "kept_id", "names_of", "not_installed", "unchanged"]

IDS = "trackers.json"
"""In the run's folder: the id that it has in each tracker."""


class Tracker(Logger):
    """A logger that shows a run as a whole; what it has no place for it leaves out.

    These methods stand beside Lightning's own interface, and are called on rank zero.
    """

    @abstractmethod
    def log_rows(self, rows: Sequence[Row]) -> None:
        """Write rows; they are out of this process once `save` returns."""

    def begin(self) -> Any:
        """Get ready for a run whose plan is sound; a second call does nothing.

        Raises:
            RunError: It can't be followed here.
        """

    def mark_resume(self, step: int) -> None:
        """Forget what was logged at ``step`` and later, which is about to come again."""

    def show(self, plan: str, config: str, picture: Path) -> None:
        """Show what is going to run: the plan as text and as PNG, and the config; before the first step."""

    def log_start(self, hparams: Mapping[str, Any]) -> None:
        """Enter the run with its hyperparameters, flat names and plain values; before the first step."""
        self.log_hyperparams({**hparams})

    def log_end(self, metrics: Mapping[str, float] | None = None, succeeded: bool = True) -> None:
        """Say how the run has ended, and write its results beside its hyperparameters."""

    @abstractmethod
    def close(self) -> None:
        """Say that the run has come to its end; ``finalize("failed")``, which Lightning calls, says that it hasn't."""


class AtFirstUse:
    """Stands for a tracker's run until something of it is used.

    Lightning looks at each logger's experiment long before the plan is known to be sound, and a launch that is refused
    leaves nothing behind.

    Args:
        begin: Begins the run, or returns the one that has begun.
    """

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._begin(), name)


def kept_id(folder: Path, tracker: str) -> str | None:
    """The id that the run in this folder has in a tracker; None where it has none yet."""
    return _ids(folder).get(tracker)


def keep_id(folder: Path, tracker: str, id_: str) -> None:
    """Note the id, for the process that resumes the run."""
    partial = folder / f"{IDS}.tmp"
    folder.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps({**_ids(folder), tracker: id_}, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / IDS)


def _ids(folder: Path) -> dict[str, str]:
    try:
        ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: id_ for key, id_ in ids.items() if isinstance(id_, str)} if isinstance(ids, dict) else {}


def names_of(folder: Path) -> tuple[str, str | None]:
    """What to call a run by its folder: a job of a sweep ``<sweep>/<job>``; and the sweep, if it is one's."""
    folder = folder.absolute()
    if (folder.parent / "multirun.yaml").is_file():  # which Hydra writes before the first job
        return f"{folder.parent.name}/{folder.name}", folder.parent.name
    return folder.name, None


@contextmanager
def unchanged(variable: str) -> Iterator[None]:
    """Leave an environment variable as it was: what is said in there for one run would be said for the next."""
    before = os.environ.get(variable)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(variable, None)
        else:
            os.environ[variable] = before


def not_installed(name: str, extra: str, error: ImportError) -> ConfigError:
    """The refusal of a tracker whose package can't be imported."""
    remedy = f'pip install "lit-optim[{extra}]"; or choose another: logger=csv'
    return ConfigError(Mistake("", f"{name} is not installed: {error}", remedy=remedy))
