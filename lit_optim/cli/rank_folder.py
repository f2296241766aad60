"""What the ranks of a run and the process that has started them have between them: a folder of a few small files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_optim.errors import LitOptimError
from lit_optim.integration.lockstep import Lockstep

__all__ = ["Assignment", "RankFolder", "Report"]


@dataclass(frozen=True)
class Assignment:
    """What every rank trains, to the letter, in plain containers.

    Args:
        config: Composed and resolved.
        hydra: Hydra's own settings.
        goes_on: Whether the run's folder holds it already.
        overrides: What made the config; Hydra's own if not given.
    """

    config: dict[str, Any]
    hydra: dict[str, Any]
    goes_on: bool
    overrides: Sequence[str] | None


@dataclass(frozen=True)
class Report:
    """Why a rank has failed.

    Args:
        at: When it found out, by a clock that all processes of a machine share.
        error: A refusal.
        traceback: Of anything else.
    """

    at: float
    error: LitOptimError | None
    traceback: str


class RankFolder:
    """The folder.

    Args:
        path: The folder, which nobody else can read or write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, assignment: Assignment, ranks: int) -> Lockstep:
        """Put in what is to be trained, and what keeps the ranks in step; it is open as long as this process lives."""
        (self.path / "assignment").write_bytes(pickle.dumps(assignment))
        self._lock = (self.path / "open").open("w")  # released by the system, however this process ends
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return Lockstep.create(self.path / "lockstep", ranks)

    def close(self) -> None:
        """The folder may go."""
        self._lock.close()

    def assignment(self) -> Assignment:
        """What is to be trained."""
        assignment: Assignment = pickle.loads((self.path / "assignment").read_bytes())
        return assignment

    def lockstep(self) -> Lockstep:
        """What keeps the ranks in step."""
        return Lockstep(self.path / "lockstep")

    def end_with_it(self) -> None:
        """End this process, and what it has started, as soon as the folder is open no more; it then goes as well."""
        lock = (self.path / "open").open("r")

        def wait() -> None:
            fcntl.flock(lock, fcntl.LOCK_SH)
            shutil.rmtree(self.path, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)

        threading.Thread(target=wait, daemon=True, name="end-with-parent").start()

    def report(self, rank: int, error: LitOptimError | None, traceback: str) -> None:
        """Say why a rank has failed."""
        partial = self.path / f"report.{rank}.tmp"
        partial.write_bytes(pickle.dumps(Report(time.monotonic(), error, traceback)))
        partial.replace(self.path / f"report.{rank}")

    def reports(self, ranks: int) -> dict[int, Report]:
        """What the ranks have said, the first one first."""
        said: dict[int, Report] = {}
        for rank in range(ranks):
            with contextlib.suppress(FileNotFoundError):
                said[rank] = pickle.loads((self.path / f"report.{rank}").read_bytes())
        return dict(sorted(said.items(), key=lambda one: one[1].at))
