"""The folder of one run: who may write into it, what it holds, and how a refused launch leaves no trace in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lit_optim.errors import Mistake, RunError

__all__ = ["RunFolder"]

_SIGNS_OF_A_RUN = (".hydra", "metrics.json", "plan.json", "checkpoints", "events.out.tfevents.*")


class RunFolder:
    """A folder that belongs to one run from `claim` on.

    Args:
        path: The folder; made by `claim` if it isn't there.
        new: Folders that this launch made (the run's own, perhaps some above it), which `withdraw` may remove.
    """

    def __init__(self, path: Path, new: Iterable[Path] = ()) -> None:
        self.path = path
        self._new = {folder.absolute() for folder in new}
        self._written: list[Path] = []
        self._was_free = False

    def check_free(self) -> None:
        """Refuse a folder that already holds a run.

        Raises:
            RunError: It does.
        """
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
        try:
            settings.mkdir()
        except FileExistsError:  # another launch came between
            self.check_free()
            raise
        self._written.append(settings)
        for name, text in texts.items():
            self.write(f".hydra/{name}", text)

    def write(self, name: str, text: str) -> None:
        """Write a file so that a reader sees the old content or the new, and never a part."""
        target, partial = self.path / name, self.path / f"{name}.tmp"
        self._written += [target, partial]
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

    def withdraw(self) -> None:
        """Remove what this launch wrote, and the folders that it made as far as nothing else is in them."""
        mine = f"events.out.tfevents.*.{os.getpid()}.*"  # which Lightning opens early
        events = self.path.glob(mine) if self._was_free else ()
        for path in [*events, *reversed(self._written)]:
            if path.is_dir():
                _remove_if_empty(path)
            else:
                path.unlink(missing_ok=True)
        folder = self.path.absolute()
        while folder in self._new and _remove_if_empty(folder):
            folder = folder.parent


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # not empty, or gone
        return False
    return True
