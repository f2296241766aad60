"""FSDP2 as data parallelism: every device takes its own share of the samples and of the parameters."""

from __future__ import annotations

from lightning.pytorch.strategies import ModelParallelStrategy

__all__ = ["FullyShardedStrategy"]


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's ModelParallelStrategy, by default with all devices in the mesh's ``data_parallel`` dimension.

    Lightning's own default puts the devices of a node into ``tensor_parallel``. A module that shards over
    ``data_parallel`` alone would then train a model of its own on every device, their gradients never meeting.
    """

    def setup_environment(self) -> None:
        """Settle the mesh, then go on as Lightning does."""
        if self._data_parallel_size == "auto" and self._tensor_parallel_size == "auto":
            self._data_parallel_size = self.num_nodes * self.num_processes
            self._tensor_parallel_size = 1
        super().setup_environment()
