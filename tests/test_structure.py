from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import modelzoo as zoo
import pytest
import torch
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from lit_optim.structure import (
    blocks_of,
    children_of,
    holders_of,
    holds_matrix,
    is_composite,
    leaves_of,
    parameters_of,
    repeated_in,
    shape_of,
    unwrapped,
)

CPU = torch.device("cpu")

WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compile": torch.compile,  # type: ignore[dict-item]
    "data parallel": nn.DataParallel,
    "activation checkpointing": checkpoint_wrapper,
    "averaging": AveragedModel,
}


def runs(*widths: int) -> nn.Module:
    """Convolution and norm, once for each step of the width."""
    return nn.Sequential(
        *(layer for a, b in itertools.pairwise(widths) for layer in (nn.Conv2d(a, b, 3), nn.BatchNorm2d(b)))
    )


class Inverted(nn.Module):
    """As torchvision's MBConv: a block of runs."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(runs(inside, 2 * inside), runs(2 * inside, out))


class Dense(nn.Module):
    """Stands between blocks of experts, and begins as they do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(4), zoo.Mlp(4)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # what torch thinks of sharding on a CPU
def test_distributed_wrappers_are_looked_through() -> None:
    names = [name for name, _ in leaves_of(zoo.Gpt(tied=False))]
    mesh = init_device_mesh("cpu", (1,))
    sharded = zoo.Gpt(tied=False)
    for block in sharded.blocks:
        fully_shard(block, mesh=mesh)
    flattened = zoo.Gpt(tied=False)
    flattened.blocks[1] = FullyShardedDataParallel(flattened.blocks[1], device_id=CPU, use_orig_params=True)
    for model in (
        DistributedDataParallel(zoo.Gpt(tied=False)),
        DistributedDataParallel(checkpoint_wrapper(zoo.Gpt(tied=False))),
        fully_shard(sharded, mesh=mesh),
        FullyShardedDataParallel(flattened, device_id=CPU, use_orig_params=True),
    ):
        assert [name for name, _ in leaves_of(model)] == names
        assert [name for name, _, _ in holders_of(model)] == names
        assert [name for name, _ in blocks_of(model)] == ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_piece_that_fsdp_has_cut_is_known_by_the_shape_of_the_whole() -> None:
    model = FullyShardedDataParallel(nn.Linear(3, 2), device_id=CPU, use_orig_params=True)
    for parameter in model.parameters():
        parameter.data = parameter.data.flatten()[:1]  # as FSDP leaves it where there are several processes
    [(_, layer, own)] = holders_of(model)
    assert [(name, parameter.ndim, shape_of(parameter)) for name, parameter in own] == [
        ("weight", 1, (2, 3)),
        ("bias", 1, (2,)),
    ]
    assert holds_matrix(layer)


def test_a_lazy_parameter_has_no_shape_and_is_no_matrix() -> None:
    assert shape_of(nn.LazyLinear(2).weight) is None
    assert not holds_matrix(nn.LazyLinear(2))
    assert holds_matrix(nn.Linear(1, 1))
    assert not holds_matrix(nn.LayerNorm(2))


def test_what_a_parametrization_holds_belongs_to_the_module() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    named = [(name, id(parameter)) for name, parameter in layer.named_parameters()]
    assert [(name, id(parameter)) for name, parameter in parameters_of(layer)] == named
    assert children_of(layer) == []
    assert [name for name, _ in leaves_of(nn.Sequential(layer))] == ["0"]
    assert holds_matrix(layer)


def test_holders_stand_under_every_name() -> None:
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": shared, "act": nn.ReLU(), "b": nn.Sequential(shared)})
    model["self"] = model
    assert [(name, module) for name, module, _ in holders_of(model)] == [("a", shared), ("b.0", shared)]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # by torch.compile
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers_are_looked_through_at_the_root_and_inside(wrap: Callable[[nn.Module], nn.Module]) -> None:
    inside = nn.Linear(2, 2)
    assert type(unwrapped(wrap(inside))) is nn.Linear
    assert type(unwrapped(wrap(nn.DataParallel(inside)))) is nn.Linear
    holder = nn.Sequential(nn.ReLU(), wrap(inside))
    assert [name for name, _ in leaves_of(holder)] == ["1"]


def test_an_attribute_called_module_is_no_wrapper() -> None:
    holder = nn.ModuleDict({"module": nn.Linear(1, 1)})
    assert unwrapped(holder) is holder


def test_leaves_are_what_holds_parameters_each_once() -> None:
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": shared, "act": nn.ReLU(), "b": shared, "vit": zoo.Vit()})
    names = [name for name, _ in leaves_of(model)]
    assert names[:4] == ["a", "vit", "vit.patches", "vit.blocks.0.norm"]
    assert names[-2:] == ["vit.norm", "vit.classifier"]
    model["self"] = model
    assert [name for name, _ in leaves_of(model)] == names


def test_a_block_is_of_several_layers() -> None:
    assert not is_composite(nn.Sequential(nn.Linear(1, 1), nn.ReLU()))
    assert is_composite(nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1)))


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        (zoo.LeNet(), []),
        (zoo.features_and_classifier(), []),
        (nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), []),
        (zoo.Gpt(), ["blocks.0", "blocks.1", "blocks.2"]),
        (nn.ModuleDict({"net": zoo.Vit()}), ["net.blocks.0", "net.blocks.1"]),
        (zoo.ConvNet(), [f"stages.{s}.blocks.{b}" for s in (0, 1) for b in (0, 1)]),
        (zoo.small_stages(), ["body.0.0", "body.1.0", "body.1.1", "body.2.0", "body.2.1"]),
        (nn.Sequential(nn.Conv2d(1, 2, 3), zoo.Residual(2, 2), zoo.Residual(2, 2), nn.Linear(2, 3)), ["1", "2"]),
        (zoo.transformer(), ["layers.0", "layers.1"]),
        (nn.ModuleDict({"q": zoo.Mlp(2), "k": zoo.Mlp(2)}), []),
        (nn.ModuleList([Dense(), zoo.Block(), Dense(), zoo.Block()]), ["0", "1", "2", "3"]),
        (nn.Sequential(runs(2, 4), nn.Sequential(Inverted(4, 4)), nn.Sequential(Inverted(4, 8), Inverted(8, 8))),
            ["0", "1.0", "2.0", "2.1"]),
        (nn.Sequential(runs(2, 4), runs(4, 8), nn.Conv2d(8, 2, 3)), ["0", "1"]),
        (nn.Sequential(nn.Sequential(runs(2, 4), runs(4, 4)), nn.Sequential(runs(4, 8))), ["0.0", "0.1", "1.0"]),
    ],
)  # fmt: skip
def test_blocks(model: nn.Module, blocks: list[str]) -> None:
    assert [name for name, _ in blocks_of(model)] == blocks


def test_a_model_that_holds_itself_has_an_end() -> None:
    model = zoo.Vit()
    model.again = model
    assert len(blocks_of(model)) == 2


def test_what_is_repeated_is_of_one_make() -> None:
    assert [name for name, _ in repeated_in(nn.ModuleList([zoo.Mlp(2), nn.ReLU(), zoo.Mlp(3)]))] == ["0", "2"]
    assert repeated_in(nn.ModuleList([zoo.Mlp(2), zoo.Residual(1, 1)])) == []
    assert repeated_in(zoo.Gpt()) == []
    assert repeated_in(nn.Sequential(runs(2, 4), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))) == []
    stages = nn.Sequential(runs(2, 4), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), runs(4, 8, 8))
    assert [name for name, _ in repeated_in(stages)] == ["0", "1", "2"]
