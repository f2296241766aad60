"""Batches from tensors in memory: one index operation each, one order for any number of ranks, resumable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from lit_optim.errors import DataError, Mistake

__all__ = ["TensorLoader", "epoch_order", "wrong_count"]


class TensorLoader:
    """Iterates over batches of tensors that are kept whole; give it to a Lightning Trainer in a DataLoader's place.

    A shuffled batch is one ``index_select`` a tensor, any other a slice (a view: change it in place and the data
    changes). The last, smaller batch is kept.

    **Order.** Epoch ``e`` runs through ``epoch_order(N, seed, e)``, whatever the state of the global random-number
    generators; without shuffling, through ``0 … N-1``.

    **Ranks.** Rank ``r`` of ``W`` takes every ``W``-th sample from the ``r``-th on, as torch's DistributedSampler does,
    so that the ``b``-th batches of all ranks together are the ``b``-th batch of one process with ``W`` times the batch
    size. With shuffling all ranks get equally many samples: the last ``N mod W`` of the epoch's order are left out, so
    none comes twice. Without, every sample comes exactly once over all ranks, none twice to fill up, and ranks differ
    by at most one sample. They do the same number of batches nevertheless, since a model that communicates in its
    forward pass would otherwise wait for ever: a rank that would lack the last batch splits its own last one in two.
    Only ``batch_size=1`` leaves nothing to split.

    **Position.** ``state_dict()`` is the epoch and the number of batches handed out in it. After ``load_state_dict``
    the next iteration begins there (with nothing, where the epoch was over); iterations after it begin at batch 0.
    ``set_epoch`` to another epoch goes to that epoch's start; to the current one, it changes nothing. Lightning calls
    all three.

    Args:
        tensors: One or more of the same length ``N`` along their first dimension, e.g. ``(x, y)``.
        batch_size: Samples a batch on this rank, at least 1.
        shuffle: Whether each epoch has an order of its own.
        seed: Of the epochs' orders, at least 0.
        rank: This process, from 0 to ``world_size - 1``.
        world_size: The number of processes that share the data.

    Raises:
        DataError: A batch size or seed out of range, or tensors of different lengths.
    """

    batch_sampler = None  # Lightning reads it, unguarded, wherever there is a `sampler`

    def __init__(
        self,
        tensors: Sequence[Tensor],
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        mistakes = wrong_count("data.batch_size", batch_size, 1) + wrong_count("data.seed", seed, 0)
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) != 1:
            mistakes += (
                Mistake(
                    "data", "the tensors of one split need one length", given=str(lengths), remedy="mend its load()"
                ),
            )
        if mistakes:
            raise DataError(*mistakes)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of world_size {world_size}")
        self.tensors = tuple(tensors)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._batch = 0  # handed out in this epoch
        self._resume_at = 0  # where the next iteration begins
        total = lengths[0]
        self._samples = total // world_size if shuffle else len(range(rank, total, world_size))
        most = self._samples if shuffle else math.ceil(total / world_size)  # that any rank has
        self._batches = min(math.ceil(most / batch_size), self._samples)

    def __len__(self) -> int:
        """The batches of one epoch on this rank."""
        return self._batches

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """The rest of the current epoch after ``load_state_dict``, otherwise all of it."""
        # A generator, so that epoch and position are read at the first `next`: Lightning creates iterators that it
        # never uses, and on a resume creates the one that it uses before it says which epoch it is.
        start, self._resume_at = self._resume_at, 0
        mine = slice(self.rank, None, self.world_size)
        if self.shuffle:
            order = epoch_order(len(self.tensors[0]), self.seed, self.epoch)[mine].to(self.tensors[0].device)
        else:
            views = tuple(tensor[mine] for tensor in self.tensors)
        for batch in range(start, len(self)):
            self._batch = batch + 1  # before the yield, where the generator is suspended while a checkpoint is written
            part = slice(self._end(batch), self._end(batch + 1))
            if self.shuffle:
                index = order[part]
                yield tuple(tensor.index_select(0, index) for tensor in self.tensors)
            else:
                yield tuple(view[part] for view in views)

    def _end(self, batch: int) -> int:
        """Samples in the first ``batch`` batches, which leave at least one for each batch after them."""
        return min(batch * self.batch_size, self._samples - (len(self) - batch))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``, or stay where it is the current one."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._batch = self._resume_at = 0

    def state_dict(self) -> dict[str, int]:
        """The position, ``{"epoch": …, "batch": …}``: the current epoch and the batches handed out in it."""
        return {"epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position that ``state_dict`` gave.

        Raises:
            DataError: The epoch has fewer batches than that: the data, batch size or number of ranks is another.
        """
        if not 0 <= state["batch"] <= len(self):
            raise DataError(
                Mistake(
                    "data.batch_size",
                    f"the checkpoint stands at batch {state['batch']} of an epoch that now has {len(self)}",
                    given=f"{self.batch_size} on each of {self.world_size} device(s)",
                    remedy="resume with the data, the batch size and the number of devices that the run began with",
                )
            )
        self.epoch = state["epoch"]
        self._batch = self._resume_at = state["batch"]

    @property
    def sampler(self) -> TensorLoader | _InOrder:
        """What Lightning calls ``set_epoch`` on, and asks whether the data is shuffled."""
        return self if self.shuffle else _InOrder(self)


class _InOrder(SequentialSampler):
    """Says "not shuffled" in the only way that Lightning understands, and hands the epoch on."""

    def __init__(self, loader: TensorLoader) -> None:
        super().__init__(loader.tensors[0])
        self.loader = loader

    def set_epoch(self, epoch: int) -> None:
        self.loader.set_epoch(epoch)


def epoch_order(length: int, seed: int, epoch: int) -> Tensor:
    """The permutation of ``0 … length-1`` that belongs to ``(seed, epoch)``, the same in every process.

    The two are hashed together by numpy's SeedSequence; their sum, as DistributedSampler seeds itself, would make
    epoch 1 of seed 0 epoch 0 of seed 1, and runs over several seeds would see the same orders shifted.
    """
    mixed = int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
    return torch.randperm(length, generator=torch.Generator().manual_seed(mixed))


def wrong_count(key: str, value: object, least: int) -> tuple[Mistake, ...]:
    """The mistake of a ``value`` that is not an integer of at least ``least``; empty where it is one."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return ()
    name = key.rpartition(".")[2]
    allowed = f"an integer of at least {least}"
    return (
        Mistake(key, f"{name} must be {allowed}", repr(value), (allowed,), remedy=f"write {key}={max(least, 1)}, say"),
    )
