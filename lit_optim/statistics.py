"""What one optimizer step does to each param group: norms, shares and step sizes, all of them in a few batched calls.

Nothing here waits for the device: a `Measurement` ends in one tensor, and `figures` reads what was brought from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard
from torch.optim import Optimizer

from lit_optim.needs import wraps

__all__ = ["QUANTITIES", "Figures", "Measurement", "figures", "local", "share_of_process"]

_SUMS = {  # what is summed over a group's parameters to get each quantity
    "grad_norm": ("gradient",),
    "grad_norm_clipped": ("clipped",),
    "param_norm": ("parameter",),
    "update_norm": ("update",),
    "update_ratio": ("update", "parameter"),
    "momentum_norm": ("momentum",),
    "effective_step": ("step",),
    "zero_grads": ("zeros",),
    "nonfinite_grads": ("nonfinite",),
}
QUANTITIES = tuple(_SUMS)
"""What a `Measurement` can be asked for."""

_MOMENTA = ("momentum_buffer", "exp_avg", "momentum", "m")  # what classes call it in their state
_Array = npt.NDArray[np.float64]


class _Row(NamedTuple):
    """One number for every parameter, on the device, and which parameters had what it is about."""

    values: Tensor
    present: Sequence[bool]


class Figures(NamedTuple):
    """The results of one step.

    Args:
        groups: Quantity → group → value. What a group lacks (gradients, a momentum) has no entry.
        totals: Quantity → its value over all groups.
        nonfinite: The parameters with a gradient that is infinite or NaN, in the order of the groups, each with the
            name of its group.
    """

    groups: dict[str, dict[str, float]]
    totals: dict[str, float]
    nonfinite: list[tuple[str, Tensor]]


@dataclass
class Measurement:
    """What is measured of one step of one optimizer, in the order of the methods.

    Of a parameter that is sharded over processes (a ``DTensor``) each process measures its own part; `vector` weighs
    the parts so that its sum over all processes is about the whole tensors, each counted once.

    Args:
        optimizer: Whose step it is.
        names: Of its param groups.
        quantities: Which of `QUANTITIES`.
        world_size: The processes over which `vector` is going to be summed.
    """

    optimizer: Optimizer
    names: Sequence[str]
    quantities: Sequence[str]
    world_size: int = 1
    _rows: dict[str, _Row] = field(default_factory=dict, repr=False)
    _has_gradient: list[bool] = field(default_factory=list, repr=False)
    _before: list[Tensor] = field(default_factory=list, repr=False)
    _scale: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        groups = self.optimizer.param_groups
        self._wanted = [*dict.fromkeys(row for quantity in self.quantities for row in _SUMS[quantity])]
        self._group_of = [index for index, group in enumerate(groups) for _ in group["params"]]
        self._parameters: list[Tensor] = [parameter for group in groups for parameter in group["params"]]
        self._device = self._parameters[0].device if self._parameters else torch.device("cpu")

    @torch.no_grad()
    def before(self) -> None:
        """Once the gradients are complete, before they are clipped.

        For an update it copies the parameters: their memory once more, until `after`.
        """
        gradients = [parameter.grad for parameter in self._parameters]
        self._has_gradient = [gradient is not None for gradient in gradients]
        self._measure("gradient", lambda: self._squares(gradients))
        self._measure("zeros", lambda: self._of_present(_zeros, gradients))
        self._measure("nonfinite", lambda: self._of_present(_nonfinite, gradients))
        self._measure("parameter", lambda: self._squares(self._parameters))
        if "update" in self._wanted:
            self._before = _copies([local(parameter) for parameter in self._parameters])

    @torch.no_grad()
    def clipped(self) -> None:
        """Once the gradients are clipped, before the optimizer uses them and perhaps writes into them."""
        self._scale = getattr(self.optimizer, "grad_scale", None)  # of a GradScaler that leaves unscaling to the step
        self._measure("clipped", lambda: self._squares([parameter.grad for parameter in self._parameters]))

    @torch.no_grad()
    def after(self) -> None:
        """Once the step is done, before anything else moves the parameters or a scheduler the learning rate."""
        if self._before:
            torch._foreach_sub_(self._before, [local(parameter) for parameter in self._parameters])
            self._measure("update", lambda: self._squares(self._before)._replace(present=self._has_gradient))
            self._before = []
        self._measure("momentum", lambda: self._squares([*map(self._momentum, self._parameters)]))
        self._measure("step", self._effective_steps)

    def vector(self) -> Tensor:
        """All that was measured as one flat tensor; NaN stands for what a skipped step left out."""
        nothing = torch.full((len(self._parameters),), math.nan, dtype=_widest(self._device), device=self._device)
        rows = []
        for name in self._wanted:
            values = self._rows[name].values if name in self._rows else nothing
            if self._scale is not None and name in ("gradient", "clipped"):
                values = values / self._scale.to(values).square()
            rows.append(values)
        stacked = torch.stack(rows) if rows else nothing[:0]
        if self.world_size > 1:
            stacked = stacked * stacked.new_tensor([share_of_process(one, self.world_size) for one in self._parameters])
        return stacked.flatten()

    @property
    def size(self) -> int:
        """Of `vector`."""
        return len(self._wanted) * len(self._parameters)

    def _by_group(self, numbers: _Array) -> _Array:
        """Their sums over the parameters of each group."""
        sums: _Array = np.bincount(self._group_of, weights=numbers, minlength=len(self.names)).astype(np.float64)
        return sums

    def _measure(self, name: str, row: Callable[[], _Row]) -> None:
        if name in self._wanted:
            self._rows[name] = row()

    def _squares(self, tensors: Sequence[Tensor | None]) -> _Row:
        row = self._of_present(lambda there: _norms([local(tensor) for tensor in there], 2.0), tensors)
        return row._replace(values=row.values.square())

    def _of_present(
        self, numbers: Callable[[list[Tensor]], Sequence[Tensor]], tensors: Sequence[Tensor | None]
    ) -> _Row:
        there = [tensor for tensor in tensors if tensor is not None]
        return self._row(numbers(there), [tensor is not None for tensor in tensors])

    def _row(self, scalars: Sequence[Tensor], present: Sequence[bool]) -> _Row:
        dtype = _widest(self._device)
        if not scalars:
            return _Row(torch.zeros(len(present), dtype=dtype, device=self._device), present)
        nothing = torch.zeros_like(scalars[0], device=self._device)
        measured = iter(scalars)
        values = [next(measured) if there else nothing for there in present]
        return _Row(torch.stack([value.to(self._device) for value in values]).to(dtype), present)

    def _state(self, parameter: Tensor) -> Mapping[str, Any]:
        state: Mapping[str, Any] = self.optimizer.state.get(parameter, {})
        inner = wraps(self.optimizer)
        if inner is None:
            return state
        of_inner: Optimizer = getattr(self.optimizer, inner)
        return {**of_inner.state.get(parameter, {}), **state}

    def _momentum(self, parameter: Tensor) -> Tensor | None:
        state = self._state(parameter)
        kept = (state.get(name) for name in _MOMENTA)
        return next((one for one in kept if isinstance(one, Tensor) and one.shape == parameter.shape), None)

    def _effective_steps(self) -> _Row:
        """The sum over a parameter's elements of ``lr / (sqrt(v_hat) + eps)``, with ``v_hat = v / correction^2``."""
        groups = self.optimizer.param_groups
        adams = [
            _adam(parameter, self._state(parameter), groups[index])
            for parameter, index in zip(self._parameters, self._group_of, strict=True)
        ]
        found = [adam for adam in adams if adam is not None]
        sums: Sequence[Tensor] = []
        if found:
            roots = list(torch._foreach_sqrt([local(adam.second_moment) for adam in found]))
            _add_(roots, [adam.eps * adam.correction for adam in found])
            torch._foreach_reciprocal_(roots)
            sums = [total * adam.factor for total, adam in zip(_norms(roots, 1.0), found, strict=True)]
        return self._row(sums, [adam is not None for adam in adams])


def figures(measurements: Sequence[Measurement], values: Sequence[float]) -> Figures:
    """What the vectors of some measurements say, one behind the other, brought from the device and summed over ranks.

    Args:
        measurements: Of one step, with the same quantities.
        values: Their `Measurement.vector`s, concatenated.
    """
    names = [name for one in measurements for name in one.names]
    sums: dict[str, list[_Array]] = {}
    numels: dict[str, list[_Array]] = {}
    nonfinite: list[tuple[str, Tensor]] = []
    rest = np.array(values, dtype=np.float64)
    for one in measurements:
        own, rest = rest[: one.size], rest[one.size :]
        numel = np.array([_numel(parameter) for parameter in one._parameters], dtype=np.float64)
        for row, of_row in zip(one._wanted, own.reshape(len(one._wanted), len(numel)), strict=True):
            there = np.array(one._rows[row].present if row in one._rows else [False] * len(numel), dtype=bool)
            sums.setdefault(row, []).append(one._by_group(np.where(there, of_row, 0.0)))
            numels.setdefault(row, []).append(one._by_group(numel * there))
            if row == "nonfinite":
                bad = np.flatnonzero(there & (of_row > 0))
                nonfinite += [(one.names[one._group_of[index]], one._parameters[index]) for index in bad]
    whole = {row: (np.concatenate(sums[row]), np.concatenate(numels[row])) for row in sums}
    of_groups: dict[str, dict[str, float]] = {}
    totals: dict[str, float] = {}
    for quantity in measurements[0].quantities if measurements else ():
        first_row = _SUMS[quantity][0]
        is_there = whole[first_row][1] > 0
        each = _quantity(quantity, {row: whole[row] for row in _SUMS[quantity]})
        of_groups[quantity] = {
            name: float(value) for name, value, there in zip(names, each, is_there, strict=True) if there
        }
        if is_there.any():
            over = {
                row: (whole[row][0].sum(keepdims=True), whole[row][1].sum(keepdims=True)) for row in _SUMS[quantity]
            }
            totals[quantity] = float(_quantity(quantity, over)[0])
    return Figures(of_groups, totals, nonfinite)


def _quantity(quantity: str, rows: Mapping[str, tuple[_Array, _Array]]) -> _Array:
    """A quantity of several groups from the sums over their parameters, and the sizes of these."""
    total, numel = rows[_SUMS[quantity][0]]
    with np.errstate(divide="ignore", invalid="ignore"):
        if quantity in ("effective_step", "zero_grads", "nonfinite_grads"):
            result: _Array = total / numel
        elif quantity == "update_ratio":
            result = np.sqrt(total) / np.sqrt(rows["parameter"][0])
        else:
            result = np.sqrt(total)
    return result


class _Adam(NamedTuple):
    second_moment: Tensor
    correction: float | Tensor  # the square root of 1 - beta2^step
    eps: float
    factor: float | Tensor  # lr times the correction, which stands in the denominator of the denominator


def _adam(parameter: Tensor, state: Mapping[str, Any], group: Mapping[str, Any]) -> _Adam | None:
    """What Adam's denominator is made of, where an optimizer keeps it as Adam does."""
    betas, eps, lr = group.get("betas"), group.get("eps"), group.get("lr")
    moment = state.get("max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq")
    step = state.get("step", group.get("step"))
    if not isinstance(moment, Tensor) or moment.shape != parameter.shape or moment.is_complex() or step is None:
        return None
    if not isinstance(betas, (tuple, list)) or len(betas) < 2 or not isinstance(eps, float) or lr is None:
        return None
    if isinstance(step, Tensor) and _is_near(step):
        step = float(step)
    correction = (1 - betas[1] ** step) ** 0.5
    return _Adam(moment, correction, eps, lr * correction)


def _is_near(number: Tensor) -> bool:
    """Whether reading it waits for no device."""
    return number.device.type == "cpu"


def local(tensor: Tensor) -> Tensor:
    """The numbers of a tensor that this process holds: real and dense."""
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _numel(parameter: Tensor) -> int:
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def share_of_process(tensor: Tensor, world_size: int) -> float:
    """What a process's part counts for in a sum over all processes: one over the number that hold the same part."""
    if not isinstance(tensor, DTensor):
        return 1 / world_size
    mesh, placements = tensor.device_mesh, tensor.placements
    parts = math.prod(mesh.size(dim) for dim, placement in enumerate(placements) if isinstance(placement, Shard))
    return parts / world_size


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # which has no other


def _norms(tensors: Sequence[Tensor], order: float) -> Sequence[Tensor]:
    """A norm of each tensor, accumulated in float32 at least."""
    norms: list[Tensor] = [torch.empty(0)] * len(tensors)
    for dtype in {tensor.dtype for tensor in tensors}:
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        wide = None if dtype in (torch.float32, torch.float64) else torch.float32
        of_dtype = torch._foreach_norm([tensors[place] for place in places], order, dtype=wide)
        for place, norm in zip(places, of_dtype, strict=True):
            norms[place] = norm
    return norms


def _zeros(gradients: list[Tensor]) -> list[Tensor]:
    """How many elements are 0; those that a sparse gradient leaves out are."""
    parts = [local(gradient) for gradient in gradients]
    numels = (whole.numel() if whole.is_sparse else part.numel() for whole, part in zip(gradients, parts, strict=True))
    return [numel - torch.count_nonzero(part) for part, numel in zip(parts, numels, strict=True)]


def _nonfinite(gradients: list[Tensor]) -> list[Tensor]:
    """How many elements are infinite or NaN: times 0 these alone are not 0."""
    parts = [local(gradient) for gradient in gradients]
    return [torch.count_nonzero(product) for product in torch._foreach_mul(parts, 0)] if parts else []


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return list(torch._foreach_mul(tensors, 1)) if tensors else []


def _add_(tensors: list[Tensor], numbers: Sequence[float | Tensor]) -> None:
    if any(isinstance(number, Tensor) for number in numbers):  # on the device, where the optimizer counts its steps
        for tensor, number in zip(tensors, numbers, strict=True):
            tensor.add_(number)
    else:
        torch._foreach_add_(tensors, cast("list[float]", numbers))
