from __future__ import annotations

from collections.abc import Callable

import modelzoo as zoo
import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from lit_optim.structure import blocks_of, is_composite, leaves_of, repeated_in, unwrapped

WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compile": torch.compile,  # type: ignore[dict-item]
    "data parallel": nn.DataParallel,
    "activation checkpointing": checkpoint_wrapper,
    "averaging": AveragedModel,
}


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
