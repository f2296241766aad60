"""Units that are 0 for every sample."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lit_optim.findings import Dead
from lit_optim.integration.dead_units import DeadUnits


def looked_at(model: nn.Module, *inputs: Tensor) -> dict[str, Dead]:
    units = DeadUnits(model)
    for one in inputs:
        units.begin_forward()
        model(one)
        units.end_forward()
    model(torch.ones_like(inputs[0]))  # nobody looks
    return units.read([alive for unit in units.take() for alive in unit.tolist()])


def biased(layer: Any, bias: list[float]) -> Any:
    nn.init.zeros_(layer.weight)
    layer.bias = nn.Parameter(torch.tensor(bias))
    return layer


def test_a_unit_is_dead_that_is_zero_for_every_sample_of_every_batch() -> None:
    relu = nn.Sequential(nn.ReLU())
    first = torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, -2.0]])
    second = torch.tensor([[-1.0, -1.0, 1.0]])
    assert looked_at(relu, first) == {"0": Dead(3, 2, True)}
    assert looked_at(relu, first, second) == {"0": Dead(3, 1, True)}
    assert looked_at(relu, first.new_tensor([[torch.nan, 0.0]])) == {"0": Dead(2, 1, True)}, "NaN is not 0"


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Conv2d(1, 3, 1), (2, 1, 4, 4)),
        (lambda: nn.Conv1d(1, 3, 1), (2, 1, 4)),
        (lambda: nn.Conv3d(1, 3, 1), (2, 1, 2, 2, 2)),
        (lambda: nn.Linear(5, 3), (2, 4, 5)),
        (lambda: nn.Linear(5, 3), (2, 5)),
        (lambda: nn.Linear(5, 3), (5,)),
    ],
)
def test_units_are_channels_or_the_last_dimension(layer: Any, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(biased(layer(), [1.0, -1.0, -1.0]), nn.ReLU())
    assert looked_at(model, torch.ones(shape)) == {"1": Dead(3, 2, True)}


def test_a_norm_between_a_convolution_and_its_relu_leaves_channels_first() -> None:
    model = nn.Sequential(nn.Conv1d(1, 3, 1), nn.BatchNorm1d(3), nn.ReLU6(), nn.Flatten(), nn.Linear(12, 2))
    assert looked_at(model, torch.randn(2, 1, 4))["2"].units == 3
    assert not DeadUnits(model).outputs


def test_the_output_is_what_no_parameters_follow() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Dropout())
    assert DeadUnits(model).outputs == {"3"}


class Reused(nn.Module):
    """One ReLU in two places, and one that can't be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = biased(nn.Linear(1, 2), [1.0, -1.0]), biased(nn.Linear(2, 3), [-1.0, -1.0, 1.0])
        self.relu = nn.ReLU()
        self.again = self.relu

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.again(self.second(self.relu(self.first(x)))))


def test_each_call_of_a_reused_module_has_units_of_its_own() -> None:
    assert looked_at(Reused(), torch.ones(4, 1), torch.ones(4, 1)) == {"relu": Dead(5, 3, True)}


def test_a_module_without_fixed_units_is_left_out() -> None:
    assert looked_at(nn.Sequential(nn.ReLU()), torch.ones(2, 3), torch.ones(2, 4)) == {}
    assert looked_at(nn.Sequential(nn.ReLU()), torch.ones(0, 3)) == {}


def test_hooks_stand_only_while_they_look() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    units = DeadUnits(model)
    assert not model[1]._forward_hooks
    units.begin_forward()
    units.begin_forward()
    assert len(model[1]._forward_hooks) == 1
    units.take()
    assert not model[1]._forward_hooks
    units.begin_forward()
    units.close()
    assert not model[1]._forward_hooks


def test_what_was_seen_goes_on_in_another_process() -> None:
    model = nn.Sequential(nn.ReLU())
    first, second = DeadUnits(model), DeadUnits(model)
    first.begin_forward()
    model(torch.tensor([[1.0, -1.0, -1.0]]))
    state = json.loads(json.dumps(first.state()))
    first.close()
    second.restore(state)
    second.begin_forward()
    model(torch.tensor([[-1.0, -1.0, 1.0]]))
    assert second.read(second.take()[0].tolist()) == {"0": Dead(3, 1, True)}


def test_nothing_is_kept_of_what_runs_under_vmap() -> None:
    model = nn.Sequential(nn.ReLU())
    units = DeadUnits(model)
    units.begin_forward()
    torch.func.vmap(model)(torch.ones(2, 3))
    assert units.take() == []


class Compiled(nn.Module):
    """A part that is compiled, beside one that isn't."""

    def __init__(self, compile_: Any) -> None:
        super().__init__()
        self.body = compile_(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        self.head = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.body(x))
        return output


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


@pytest.mark.parametrize("compile_", [lambda model: torch.compile(model, backend="eager", fullgraph=True), in_place])
def test_compiled_modules_are_left_alone(compile_: Any) -> None:
    assert {*looked_at(Compiled(compile_), torch.ones(1, 2))} == {"head.1"}


def test_a_compiled_function_around_a_watched_module_keeps_its_graph_whole() -> None:
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    units = DeadUnits(model)
    units.begin_forward()
    around = torch.compile(lambda x: model(x) * 2, backend="eager", fullgraph=True)
    around(torch.ones(1, 2))
    assert units.take() == [], "what is traced is not looked at"
    around(torch.ones(1, 2))
    torch._dynamo.reset()
