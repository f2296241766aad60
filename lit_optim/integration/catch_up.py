"""Going on in the middle of an epoch with loaders that can't say where they stand, such as a plain DataLoader."""

from __future__ import annotations

import warnings
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import CombinedLoader

__all__ = ["ask_again", "needs_catching_up", "skip"]


def needs_catching_up(trainer: Trainer) -> bool:
    """Whether Lightning would begin the epoch's samples anew: none of its loaders has a state that it could load."""
    return not any(hasattr(loader, "state_dict") for loader in _loaders(trainer))


def ask_again(trainer: Trainer) -> None:
    """Begin the current epoch's samples anew, in an order that is drawn from here on.

    Args:
        trainer: Of a fit that has just begun, from a checkpoint within an epoch.
    """
    for loader in _loaders(trainer):
        sampler = getattr(loader, "sampler", None)
        if sampler is not None and hasattr(sampler, "set_epoch"):
            sampler.set_epoch(trainer.current_epoch)
    iter(_fetcher(trainer))


def skip(trainer: Trainer, batches: int) -> None:
    """Take the batches that were trained on before, and do nothing with them.

    They are loaded, since what a dataset or a worker draws at random for later ones depends on it.

    Args:
        trainer: As it is after `ask_again`.
        batches: How many.
    """
    fetcher = _fetcher(trainer)
    for _ in range(batches):
        next(fetcher)
    fetcher.fetched = 0  # Lightning adds those of before itself
    warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")


def _fetcher(trainer: Trainer) -> Any:
    return trainer.fit_loop._data_fetcher


def _loaders(trainer: Trainer) -> list[Any]:
    combined = trainer.fit_loop._combined_loader
    return list(combined.flattened) if isinstance(combined, CombinedLoader) else []
