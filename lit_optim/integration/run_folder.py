"""The folder of one run: who may write into it, what it holds, and how a refused launch leaves no trace in it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lit_optim.errors import Mistake, RunError
from lit_optim.metrics_table import NAME as _TABLE

__all__ = ["RunFolder"]

_EVENTS = "events.out.tfevents.*"
_SIGNS_OF_A_RUN = (".hydra", "metrics.json", "plan.json", "checkpoints", _EVENTS, _TABLE)
_one_writer = threading.Lock()  # a thread that ends the process may write while another does
_GLANCE = 0.1  # seconds for somebody who only looks whether the run is held, as `lit-optim compare` does


class RunFolder:
    """A folder that belongs to one run from `claim` on.

    Args:
        path: The folder; made by `claim` if it isn't there.
        new: Folders that this launch made (the run's own, perhaps some above it), which `withdraw` may remove.
        goes_on: Whether it already holds the run, which goes on in it.

    Attributes:
        writers: The processes that write into it for this launch.
    """

    def __init__(self, path: Path, new: Iterable[Path] = (), goes_on: bool = False) -> None:
        self.path = path
        self.goes_on = goes_on
        self.writers = {os.getpid()}
        self._lock: weakref.finalize[..., RunFolder] | None = None
        self._events = {*path.glob(_EVENTS)}
        self._new = {folder.absolute() for folder in new}
        self._written: list[Path] = []
        self._was_free = False

    def check_free(self) -> None:
        """Refuse a folder that already holds a run; or, where that is to go on, one that another process is writing.

        Raises:
            RunError: It does.
        """
        if self.goes_on:
            self._take()
            return
        found = [path.name for sign in _SIGNS_OF_A_RUN for path in self.path.glob(sign)]
        if found:
            raise RunError(
                Mistake(
                    "hydra.run.dir",
                    "this folder already holds a run, which a new one would overwrite",
                    given=f"{self.path} (with {', '.join(found)})",
                    remedy="leave hydra.run.dir out for a new folder, or name another",
                )
            )
        self._was_free = True

    def claim(self, texts: Mapping[str, str]) -> None:
        """Make the folder this run's own, and write what the run was started with into ``.hydra/``.

        Args:
            texts: File name to content.

        Raises:
            RunError: Another run has it.
        """
        if not self._was_free:
            self.check_free()
        self.path.mkdir(parents=True, exist_ok=True)
        settings = self.path / ".hydra"
        if not self.goes_on:
            try:
                settings.mkdir()
            except FileExistsError:  # another launch came between
                self.check_free()
                raise
            self._written.append(settings)
        self._take()
        for name, text in texts.items():
            self.write(f".hydra/{name}", text)

    def release(self) -> None:
        """Let another process go on with the run; the end of this one, however it comes, does the same."""
        if self._lock is not None:
            self._lock()
            self._lock = None

    def _take(self) -> None:
        """Hold the run, by a lock on its settings, as long as this process lives."""
        if self._lock is not None:
            return
        handle = os.open(self.path / ".hydra", os.O_RDONLY)
        lock = weakref.finalize(self, os.close, handle)
        if not _locked(handle, patience=_GLANCE):
            lock()
            problem, remedy = "another process is training this run", "wait until it has ended, or end it"
            raise RunError(Mistake("FOLDER", problem, given=str(self.path), remedy=remedy))
        self._lock = lock

    def write(self, name: str, text: str) -> None:
        """Write a file so that a reader sees the old content or the new, and never a part."""
        target, partial = self.path / name, self.path / f"{name}.tmp"
        self._written += [target, partial]
        with _one_writer:
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)

    def note(self, *paths: Path) -> None:
        """Say that this launch also made these files."""
        self._written += paths

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``."""
        self.write("metrics.json", json.dumps(metrics, indent=2) + "\n")

    def note_crash(self, why: str) -> None:
        """Let ``metrics.json`` say why the run is over."""
        self.write_metrics({**self.read_metrics(), "status": "crashed", "error": why})

    def read_metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` says; nothing where it can't be read."""
        try:
            metrics = json.loads((self.path / "metrics.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return metrics if isinstance(metrics, dict) else {}

    @property
    def is_untested(self) -> bool:
        """Whether a run that goes on has not come to its end: trained it may have been, but not tested."""
        return self.goes_on and self.read_metrics().get("status") != "finished"

    def withdraw(self) -> None:
        """Remove what this launch wrote, and the folders that it made as far as nothing else is in them."""
        self.release()
        mine = [f"{_EVENTS}.{pid}.*" for pid in self.writers]  # which Lightning opens early
        events = [path for name in mine for path in self.path.glob(name) if path not in self._events]
        if self.goes_on:
            for path in events:
                path.unlink(missing_ok=True)
            return
        for path in [*(events if self._was_free else ()), *reversed(self._written)]:
            if path.is_dir():
                _remove_if_empty(path)
            else:
                path.unlink(missing_ok=True)
        folder = self.path.absolute()
        while folder in self._new and _remove_if_empty(folder):
            folder = folder.parent


def _locked(handle: int, patience: float) -> bool:
    """Whether the lock is this process's now, or there are none on this file system."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(patience)
        return patience > 0 and _locked(handle, 0)
    except OSError:
        pass
    return True


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # not empty, or gone
        return False
    return True
