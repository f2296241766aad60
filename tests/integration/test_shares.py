from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from lit_optim.data import Digits
from lit_optim.integration.fsdp import FullyShardedStrategy
from lit_optim.integration.horizon import planned_horizon
from lit_optim.integration.shares import Share, share_of


def on_four(strategy: Any, rank: int = 3) -> Any:
    return SimpleNamespace(strategy=strategy, global_rank=rank, world_size=4)


class Mesh:
    """Two groups of two processes, seen from the last of them."""

    def __getitem__(self, name: str) -> Any:
        assert name == "data_parallel"
        return SimpleNamespace(get_local_rank=lambda: 1, size=lambda: 2)


def test_each_process_has_a_share() -> None:
    assert share_of(on_four(object())) == Share(3, 4)
    assert share_of(on_four(FullyShardedStrategy())) == Share(3, 4)


@pytest.mark.parametrize("sizes", [{"data_parallel_size": 2}, {"tensor_parallel_size": 2}])
def test_processes_that_split_layers_have_one_together(sizes: dict[str, int]) -> None:
    strategy = ModelParallelStrategy(**sizes)
    assert share_of(on_four(strategy)).replicas == 2  # planned
    strategy._device_mesh = Mesh()  # type: ignore[assignment]
    assert share_of(on_four(strategy)) == Share(1, 2)


def test_the_plan_counts_shares_and_the_loader_takes_one(trainer: Any) -> None:
    one = trainer(devices=4, strategy=FullyShardedStrategy(data_parallel_size=2, tensor_parallel_size=2))
    data = Digits(batch_size=10)
    assert planned_horizon(one, data).global_batch == 20
    assert len(data.train_dataloader().tensors[0]) // 20 == len(data.train_dataloader()) - 1
    one.strategy._device_mesh = Mesh()
    taken = torch.cat([y for _, y in data.train_dataloader()])
    assert len(taken) == len(data.train_dataloader().tensors[0]) // 2
