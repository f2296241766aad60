"""How many shares the samples of a run are in, and which of them is this process's."""

from __future__ import annotations

from typing import NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

__all__ = ["Share", "share_of"]


class Share(NamedTuple):
    """One of ``replicas`` shares, as torch's DistributedSampler names them."""

    rank: int
    replicas: int


def share_of(trainer: Trainer) -> Share:
    """This process's share: one for each process, or for each group of those that split layers between them.

    Args:
        trainer: Its processes need not have been started; the rank is 0 until they know each other.
    """
    strategy = trainer.strategy
    if isinstance(strategy, ModelParallelStrategy):
        if strategy._device_mesh is not None:
            data = strategy.device_mesh["data_parallel"]
            return Share(data.get_local_rank(), data.size())
        if isinstance(strategy._data_parallel_size, int):
            return Share(0, strategy._data_parallel_size)
        if isinstance(strategy._tensor_parallel_size, int):
            return Share(0, trainer.world_size // strategy._tensor_parallel_size)
    return Share(trainer.global_rank, trainer.world_size)
