"""Checkpoints that are whole or not there: written beside their place, brought to disk, then renamed into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from lit_optim.errors import Mistake, RunError

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes into a hidden file of the same folder, syncs it, and renames it.

    Whatever happens during the write, a kill or a full disk, the checkpoint that was there before stays as it was.
    Lightning's own collects the whole file in memory first and moves it from a temporary folder, which may be a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; to a remote place (``s3://…``), as Lightning does.

        Raises:
            RunError: It can't be written; says which file and why.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        partial = target.with_name(f".{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _sync(target.parent)
        except (OSError, RuntimeError) as error:  # torch turns what a file raises into the latter
            partial.unlink(missing_ok=True)
            cause = error if isinstance(error, OSError) else error.__context__
            why = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error).splitlines()[0]
            before = "; the one before is as it was" if target.exists() else ""
            problem = f"this checkpoint can't be written: {why}{before}"
            remedy = "make room or choose another folder, then go on from the last checkpoint"
            raise RunError(Mistake("checkpoints", problem, str(target), remedy=remedy)) from error


def _sync(folder: Path) -> None:
    """Bring the renaming itself to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
