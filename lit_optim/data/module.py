"""The data module over tensors in memory: a data set says how to load, this does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor

from lit_optim.data.loader import TensorLoader, wrong_count
from lit_optim.errors import DataError, Mistake
from lit_optim.integration.shares import share_of

__all__ = ["InMemoryDataModule", "Pair", "Splits", "as_pair", "missing_extra"]

Pair = tuple[Tensor, Tensor]
"""Inputs ``x`` and labels ``y`` of one length."""


@dataclass(frozen=True)
class Splits:
    """A data set in three parts, each ``(x, y)``."""

    train: Pair
    val: Pair
    test: Pair


class InMemoryDataModule(LightningDataModule, ABC):
    """A data set that fits in memory; a subclass writes ``load`` and the two dimensions.

    ``prepare_data`` is for what only one process may do, such as a download, and ``setup`` loads the data, once. After
    it ``len(dm.train_dataloader())`` is the number of training batches an epoch. Each process takes its share of the
    data (see :class:`TensorLoader`; processes that split layers between them take the same), all of it without a
    Trainer.

    Args:
        batch_size: Training samples a batch on each device, at least 1.
        eval_batch_size: The same for validation and test, where nothing depends on it but memory and speed.
        seed: Of the training order, at least 0. The splits do not depend on it.

    Raises:
        DataError: A value out of range.
    """

    in_dim: ClassVar[int]
    """Numbers in one input, flattened; known before anything is loaded."""
    out_dim: ClassVar[int]
    """Classes."""

    def __init__(self, batch_size: int = 64, eval_batch_size: int = 1024, seed: int = 0) -> None:
        super().__init__()
        mistakes = (
            *wrong_count("data.batch_size", batch_size, 1),
            *wrong_count("data.eval_batch_size", eval_batch_size, 1),
            *wrong_count("data.seed", seed, 0),
        )
        if mistakes:
            raise DataError(*mistakes)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed

    @abstractmethod
    def load(self) -> Splits:
        """The data: ``x`` contiguous float32 in [0, 1], ``y`` int64 in ``0 … out_dim-1``."""

    @cached_property
    def splits(self) -> Splits:
        """What ``load`` gave, loaded at the first use."""
        return self.load()

    def setup(self, stage: str | None = None) -> None:
        """Load the data, for whatever stage."""
        _ = self.splits

    def train_dataloader(self) -> TensorLoader:
        """The training split in a new order each epoch; in its own under the Trainer's ``overfit_batches``."""
        # Lightning announces that it turns shuffling off for overfit_batches, but can do so for torch's DataLoader only
        overfit = getattr(self.trainer, "overfit_batches", 0) > 0
        kind = TensorLoader if self.trainer is None else partial(_InStep, self.trainer)
        return kind(self.splits.train, self.batch_size, shuffle=not overfit, seed=self.seed, **self._share())

    def val_dataloader(self) -> TensorLoader:
        """The validation split, in order."""
        return TensorLoader(self.splits.val, self.eval_batch_size, **self._share())

    def test_dataloader(self) -> TensorLoader:
        """The test split, in order."""
        return TensorLoader(self.splits.test, self.eval_batch_size, **self._share())

    def _share(self) -> dict[str, Any]:
        if self.trainer is None:
            return {}
        share = share_of(self.trainer)
        return {"rank": share.rank, "world_size": share.replicas}


class _InStep(TensorLoader):
    """A loader that asks the Trainer which epoch it is.

    The number that Lightning hands to ``set_epoch`` is one too high for the rest of a run with ``max_steps`` that was
    resumed from a checkpoint of an epoch's end (lightning 2.6.6: its loop counts that epoch as processed once more), so
    that the order would leave the uninterrupted run's. ``current_epoch`` stays right.
    """

    def __init__(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trainer = trainer

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(self.trainer.current_epoch)


def as_pair(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], peak: float) -> Pair:
    """Images (N, H, W) of values 0 … ``peak`` and labels (N,), as float32 (N, 1, H, W) in [0, 1] and int64 (N,)."""
    x = torch.from_numpy(images.astype(np.float32)).div_(peak).unsqueeze(1)
    return x, torch.from_numpy(labels.astype(np.int64))


def missing_extra(data_set: str, package: str, extra: str, error: ImportError) -> DataError:
    """The refusal of a data set whose package is not installed."""
    return DataError(
        Mistake(
            "data",
            f"{data_set} comes with {package}, which can't be imported",
            given=f"{type(error).__name__}: {error}",
            remedy=f'pip install "lit-optim[{extra}]"',
        )
    )
