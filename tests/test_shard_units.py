from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import modelzoo as zoo
import pytest
import torch
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from lit_optim.shard_units import sharded_in, units_of


class Encoder(nn.Module):
    """Four blocks between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True) for _ in range(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.head(x)
        return out


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """Of a process group of one."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def test_each_block_is_a_unit_and_the_model_itself_the_last() -> None:
    model = Encoder()
    units = units_of(model)
    assert [*units] == ["blocks.0", "blocks.1", "blocks.2", "blocks.3", ""]
    assert units["blocks.2"] is model.blocks[2]
    assert units[""] is model


def test_a_model_that_repeats_nothing_is_one_unit() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    assert units_of(model) == {"": model}


def test_a_block_that_nobody_calls_is_no_unit() -> None:
    assert [*units_of(zoo.Gpt())] == [""]  # its blocks have no forward


def test_a_block_tied_to_a_parameter_elsewhere_is_no_unit() -> None:
    model = Encoder()
    model.blocks[1].linear1.weight = model.blocks[3].linear1.weight
    assert [*units_of(model)] == ["blocks.0", "blocks.2", ""]


def test_a_block_that_stands_twice_is_one_unit() -> None:
    model = Encoder()
    model.blocks[3] = model.blocks[0]
    assert [*units_of(model)] == ["blocks.0", "blocks.1", "blocks.2", ""]


def test_a_wrapped_block_is_a_unit_with_its_wrapper() -> None:
    model = Encoder()
    model.blocks[0] = checkpoint_wrapper(model.blocks[0])
    units = units_of(model)
    assert [*units] == ["blocks.0", "blocks.1", "blocks.2", "blocks.3", ""]
    assert units["blocks.0"] is model.blocks[0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # what torch thinks of sharding on a CPU
def test_what_is_sharded_is_told_as_it_was_foretold(mesh: DeviceMesh) -> None:
    model = Encoder()
    model.blocks[0] = checkpoint_wrapper(model.blocks[0])
    model.blocks.append(model.blocks[1])
    foretold = units_of(model)
    assert sharded_in(model) == []
    for unit in foretold.values():
        fully_shard(unit, mesh=mesh)
    assert sharded_in(model) == [*foretold]
    assert [*units_of(model)] == [*foretold]
