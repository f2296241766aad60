"""FSDP2 as data parallelism: every device takes its own share of the samples and of the parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn

from lit_optim.integration.sharding import as_on_rank_zero

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

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Restore the weights, and the optimizers' state where training goes on.

        Lightning's own restores it for a test as well, and fails where the checkpoint has none for a parameter: of
        plain SGD, of what was frozen. Of a single file each optimizer takes what there is, as under any strategy.
        """
        optimizers, is_file = self.optimizers, Path(self.broadcast(checkpoint_path)).is_file()
        if is_file or not self._trains():
            self.optimizers = []
        try:
            content = super().load_checkpoint(checkpoint_path, weights_only)
        finally:
            self.optimizers = optimizers
        if is_file and self._trains():
            for optimizer, state in zip(optimizers, content["optimizer_states"], strict=True):
                optimizer.load_state_dict(state)
        return content

    def on_validation_start(self) -> None:
        """Have every process look at the model that is saved, as under DistributedDataParallel."""
        self._share_buffers()

    def on_test_start(self) -> None:
        """The same."""
        self._share_buffers()

    def _share_buffers(self) -> None:
        """Give all processes rank zero's buffers; a BatchNorm's come from each one's own samples."""
        if self.lightning_module is not None:
            as_on_rank_zero(self.lightning_module.buffers(), self.root_device.type)

    def _trains(self) -> bool:
        module = self.lightning_module
        return module is None or module.trainer.state.fn == TrainerFn.FITTING
