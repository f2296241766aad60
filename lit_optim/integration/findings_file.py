"""Findings for who watches the terminal, and for who looks into the run's folder afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch import Trainer
from tqdm.std import tqdm

from lit_optim.findings import Finding, causes_in
from lit_optim.integration.run_folder import RunFolder

__all__ = ["FINDINGS", "causes_since", "run_folder_of", "tell"]

FINDINGS = "findings.txt"
"""Where a run's findings lie in its folder, one a line."""


def run_folder_of(trainer: Trainer) -> Path:
    """Where a run keeps its files: a run of ``lit-optim``, its logger's folder, or ``default_root_dir``."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a helper of its own
        folder = getattr(callback, "folder", None)
        if isinstance(folder, RunFolder):
            return folder.path
    if not trainer.loggers:
        return Path(trainer.default_root_dir)
    logger = trainer.loggers[0]
    own = getattr(logger, "log_dir", None)
    if isinstance(own, (str, Path)):
        return Path(own)
    base = Path(logger.save_dir or trainer.default_root_dir)
    if logger.name is None or logger.version is None:
        return base
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return base / str(logger.name) / version  # as ModelCheckpoint does


def causes_since(folder: Path, step: int) -> set[str]:
    """What an interrupted process has told at a step or later."""
    try:
        return causes_in((folder / FINDINGS).read_text(encoding="utf-8"), step)
    except (OSError, ValueError):
        return set()


def tell(findings: Iterable[Finding], folder: Path) -> None:
    """Print each on stderr and append it to the folder's file, both on a line of its own."""
    lines = [str(finding) for finding in findings]
    if not lines:
        return
    for line in lines:
        tqdm.write(f"lit-optim: {line}", file=sys.stderr)  # above a bar, where there is one
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FINDINGS).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:  # of no consequence for the training
        tqdm.write(f"lit-optim: {FINDINGS} can't be written: {error}", file=sys.stderr)
