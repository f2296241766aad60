"""What is measured where the plain case, which the monitor's own test covers, ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, SparseAdam

from lit_optim import measurement
from lit_optim.measurement import QUANTITIES, Measurement
from lit_optim.statistics import Figures, figures


def measured(optimizer: Optimizer, *quantities: str, names: tuple[str, ...] = ("a", "b")) -> Figures:
    one = Measurement(optimizer, names[: len(optimizer.param_groups)], quantities or QUANTITIES)
    one.before()
    one.clipped()
    optimizer.step()
    one.after()
    assert len(one.vector()) == one.size
    return figures([one], one.vector().tolist())


def with_gradient(values: list[float], gradient: list[float] | Tensor | None, **more: Any) -> nn.Parameter:
    parameter = nn.Parameter(torch.tensor(values, **more))
    if gradient is not None:
        parameter.grad = gradient if isinstance(gradient, Tensor) else torch.tensor(gradient, **more)
    return parameter


def test_shares_and_norms_of_a_few_numbers() -> None:
    first = with_gradient([3.0, 4.0], [0.0, 2.0])
    second = with_gradient([12.0], [-1.0])
    third = with_gradient([1.0, 1.0], [math.nan, math.inf])
    seen = measured(SGD([{"params": [first, second]}, {"params": [third]}], lr=0.5))
    of_a = {quantity: groups.get("a") for quantity, groups in seen.groups.items()}
    assert of_a == {
        "grad_norm": pytest.approx(5**0.5), "grad_norm_clipped": pytest.approx(5**0.5), "param_norm": 13.0,
        "update_norm": pytest.approx(1.25**0.5), "update_ratio": pytest.approx(1.25**0.5 / 13),
        "momentum_norm": None, "effective_step": None, "zero_grads": pytest.approx(1 / 3), "nonfinite_grads": 0.0,
    }  # fmt: skip
    assert seen.groups["nonfinite_grads"]["b"] == 1.0
    assert seen.totals["nonfinite_grads"] == pytest.approx(2 / 5)
    assert seen.totals["zero_grads"] == pytest.approx(1 / 5)
    assert math.isnan(seen.totals["grad_norm"])
    assert [(group, parameter is third) for group, parameter in seen.nonfinite] == [("b", True)]


def test_a_group_without_gradients_has_no_such_figures() -> None:
    still, moving = with_gradient([1.0], None), with_gradient([2.0], [1.0])
    seen = measured(SGD([{"params": [still]}, {"params": [moving]}], lr=0.5, momentum=0.9))
    with_a = {quantity for quantity, groups in seen.groups.items() if "a" in groups}
    assert with_a == {"param_norm"}
    assert seen.totals["param_norm"] == pytest.approx(5**0.5)
    assert seen.totals["update_ratio"] == pytest.approx(0.5 / 5**0.5)


def test_a_frozen_parameter_counts_for_the_size_of_its_group_alone() -> None:
    still, moving = with_gradient([4.0], None), with_gradient([3.0], [1.0])
    seen = measured(SGD([still, moving], lr=0.5))
    assert seen.groups["update_ratio"]["a"] == pytest.approx(0.5 / 5)
    assert seen.groups["zero_grads"]["a"] == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_norms_are_accumulated_in_float32_at_least(dtype: torch.dtype) -> None:
    values = torch.full((3001,), 1.0, dtype=dtype)
    parameter = nn.Parameter(values)
    parameter.grad = values.clone()
    mixed = with_gradient([2.0], [2.0])
    seen = measured(SGD([parameter, mixed], lr=0.0), "grad_norm", "param_norm")
    assert seen.groups["grad_norm"]["a"] == pytest.approx(3005**0.5, rel=1e-6)
    assert seen.groups["param_norm"]["a"] == pytest.approx(3005**0.5, rel=1e-6)


def test_squares_too_large_for_float32_are_not() -> None:
    parameter = with_gradient([1e30, 1.0], [1e19, 1e19])
    seen = measured(SGD([{"params": [parameter]}, {"params": [with_gradient([1.0], [3e25])]}], lr=0.0), "grad_norm")
    assert seen.groups["grad_norm"] == {"a": pytest.approx(2**0.5 * 1e19), "b": pytest.approx(3e25)}


def test_sparse_gradients_are_zero_where_they_hold_nothing() -> None:
    embedding = nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1, 1, 3])).sum().backward()
    optimizer = SparseAdam([*embedding.parameters()], lr=0.1)
    seen = measured(optimizer, "grad_norm", "grad_norm_clipped", "zero_grads", "nonfinite_grads", "momentum_norm")
    assert seen.groups["grad_norm"]["a"] == pytest.approx((2 * 4 + 2 * 1) ** 0.5)
    assert seen.groups["zero_grads"]["a"] == pytest.approx(6 / 10)
    assert seen.groups["momentum_norm"]["a"] == pytest.approx(0.1 * (2 * 4 + 2 * 1) ** 0.5)


def test_complex_numbers_count_as_two() -> None:
    parameter = nn.Parameter(torch.tensor([3 + 4j]))
    parameter.grad = torch.tensor([0 + 2j])
    seen = measured(SGD([parameter], lr=0.5), "grad_norm", "param_norm", "zero_grads", "update_norm")
    assert {quantity: groups["a"] for quantity, groups in seen.groups.items()} == {
        "grad_norm": 2.0, "param_norm": 5.0, "zero_grads": 0.5, "update_norm": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"fused": True}, {"amsgrad": True}])
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)])
def test_the_effective_step_in_every_way_that_adam_is_computed(options: dict[str, Any], lr: float | Tensor) -> None:
    if isinstance(lr, Tensor) and options.get("foreach"):
        return  # which Adam refuses unless it is capturable
    parameter = with_gradient([1.0, 2.0], [0.5, 0.0])
    seen = measured(AdamW([parameter], lr=lr, **options), "effective_step")
    assert seen.groups["effective_step"]["a"] == pytest.approx((0.1 / 0.5 + 0.1 / 1e-8) / 2)


def test_steps_that_are_counted_on_the_device_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = with_gradient([1.0, 2.0], [0.5, 0.25])
    optimizer = AdamW([parameter], lr=0.1)
    monkeypatch.setattr(measurement, "_is_near", lambda number: not isinstance(number, Tensor))
    assert measured(optimizer, "effective_step").groups["effective_step"]["a"] == pytest.approx(
        (0.2 + 0.4) / 2, rel=1e-5
    )  # 1 - beta2^t in float32


def test_the_state_of_an_optimizer_inside_of_another_is_found() -> None:
    lookahead = pytest.importorskip("pytorch_optimizer").Lookahead
    parameter = with_gradient([1.0], [2.0])
    seen = measured(lookahead(SGD([parameter], lr=0.1, momentum=0.9)), "momentum_norm", "update_norm")
    assert seen.groups == {"momentum_norm": {"a": 2.0}, "update_norm": {"a": pytest.approx(0.2)}}


def test_measuring_adds_nothing_to_the_state() -> None:
    still = with_gradient([1.0], None)
    optimizer = SGD([still], lr=0.1, momentum=0.9)
    measured(optimizer)
    assert not optimizer.state


def test_a_step_that_did_not_happen_leaves_its_part_out() -> None:
    one = Measurement(SGD([with_gradient([1.0], [math.inf])], lr=0.1), ["a"], QUANTITIES)
    one.before()
    seen = figures([one], one.vector().tolist())
    assert {quantity for quantity, groups in seen.groups.items() if groups} == {
        "grad_norm", "param_norm", "zero_grads", "nonfinite_grads",
    }  # fmt: skip


def test_nothing_to_measure_is_nothing_on_each_of_several_processes() -> None:
    one = Measurement(SGD([with_gradient([1.0], [1.0])], lr=0.1), ["a"], (), world_size=2)
    one.before()
    assert one.vector().tolist() == []
    assert one.size == 0
