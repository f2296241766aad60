"""What one optimizer step does to each parameter: norms, counts and step sizes, all of them in a few batched calls.

Nothing here waits for the device: a `Measurement` ends in one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard
from torch.optim import Optimizer

from lit_optim.needs import wraps

__all__ = ["QUANTITIES", "SUMS_OF", "Measurement", "local", "numel_of", "share_of_process"]

SUMS_OF = {
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
"""What is summed over a group's parameters to get each quantity."""

QUANTITIES = tuple(SUMS_OF)
"""What a `Measurement` can be asked for."""

_NORMS = ("gradient", "clipped", "parameter", "update", "momentum")  # whose squares are summed
_MOMENTA = ("momentum_buffer", "exp_avg", "momentum", "m")  # what classes call it in their state


class _Row(NamedTuple):
    """One number for every parameter, on the device, and which parameters have what it is about."""

    values: Tensor
    present: Sequence[bool]


class Measurement:
    """What is measured of one step of one optimizer, in the order of the methods.

    Of a parameter that is sharded over processes (a ``DTensor``) each process measures its own part; `vector` weighs
    the parts so that its sum over all processes is about the whole tensors, each counted once.

    Args:
        optimizer: Whose step it is.
        names: Of its param groups.
        quantities: Which of `QUANTITIES`.
        world_size: The processes over which `vector` is going to be summed.

    Attributes:
        names: The same.
        quantities: The same.
        rows: What is measured for these, each one number for every parameter.
        parameters: Of all groups, in order.
        group_of: For each parameter, the place of its group.
    """

    def __init__(
        self, optimizer: Optimizer, names: Sequence[str], quantities: Sequence[str], world_size: int = 1
    ) -> None:
        groups = optimizer.param_groups
        self.names = names
        self.quantities = quantities
        self.rows = [*dict.fromkeys(row for quantity in quantities for row in SUMS_OF[quantity])]
        self.parameters: list[Tensor] = [parameter for group in groups for parameter in group["params"]]
        self.group_of = [place for place, group in enumerate(groups) for _ in group["params"]]
        self._optimizer = optimizer
        self._world_size = world_size
        self._device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self._measured: dict[str, _Row] = {}
        self._has_gradient: list[bool] = []
        self._copies: list[Tensor] = []  # of the parameters before the step
        self._scale: Tensor | None = None

    @torch.no_grad()
    def before(self) -> None:
        """Once the gradients are complete, before they are clipped.

        For an update it copies the parameters: their memory once more, until `after`.
        """
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        self._has_gradient = [parameter.grad is not None for parameter in self.parameters]
        parts = [local(gradient) for gradient in gradients]
        own = [local(parameter) for parameter in self.parameters]
        self._measure("gradient", lambda: self._row(_norms(parts, 2.0), self._has_gradient))
        self._measure("zeros", lambda: self._row(_zeros(gradients, parts), self._has_gradient))
        self._measure("nonfinite", lambda: self._row(_nonfinite(parts), self._has_gradient))
        self._measure("parameter", lambda: self._row(_norms(own, 2.0), [True] * len(own)))
        if "update" in self.rows:
            self._copies = _copied(own)

    @torch.no_grad()
    def clipped(self) -> None:
        """Once the gradients are clipped, before the optimizer uses them and perhaps writes into them."""
        self._scale = getattr(self._optimizer, "grad_scale", None)  # of a GradScaler that leaves unscaling to the step
        parts = [local(parameter.grad) for parameter in self.parameters if parameter.grad is not None]
        has_gradient = [parameter.grad is not None for parameter in self.parameters]
        self._measure("clipped", lambda: self._row(_norms(parts, 2.0), has_gradient))

    @torch.no_grad()
    def after(self) -> None:
        """Once the step is done, before anything else moves the parameters or a scheduler the learning rate."""
        if self._copies:
            torch._foreach_sub_(self._copies, [local(parameter) for parameter in self.parameters])
            row = self._row(_norms(self._copies, 2.0), [True] * len(self._copies))
            self._measured["update"] = row._replace(present=self._has_gradient)
            self._copies = []
        self._measure("momentum", self._momenta)
        self._measure("step", self._effective_steps)

    def vector(self) -> Tensor:
        """All that was measured as one flat tensor; NaN stands for what a skipped step left out."""
        nothing = torch.full((len(self.parameters),), math.nan, dtype=_widest(self._device), device=self._device)
        rows = []
        for name in self.rows:
            values = self._measured[name].values if name in self._measured else nothing
            if self._scale is not None and name in ("gradient", "clipped"):
                values = values / self._scale.to(values)
            rows.append(values.square() if name in _NORMS else values)
        stacked = torch.stack(rows) if rows else nothing.new_empty(0, len(self.parameters))
        if self._world_size > 1:
            stacked = stacked * stacked.new_tensor([share_of_process(one, self._world_size) for one in self.parameters])
        return stacked.flatten()

    @property
    def size(self) -> int:
        """Of `vector`."""
        return len(self.rows) * len(self.parameters)

    def present(self, row: str) -> Sequence[bool]:
        """Which parameters had what a row is about; none of them where the step was skipped before it."""
        return self._measured[row].present if row in self._measured else [False] * len(self.parameters)

    def _measure(self, name: str, row: Callable[[], _Row]) -> None:
        if name in self.rows:
            self._measured[name] = row()

    def _row(self, scalars: Sequence[Tensor], present: Sequence[bool]) -> _Row:
        dtype = _widest(self._device)
        if not scalars:
            return _Row(torch.zeros(len(present), dtype=dtype, device=self._device), present)
        nothing = torch.zeros_like(scalars[0], device=self._device)
        measured = iter(scalars)
        values = [next(measured) if there else nothing for there in present]
        return _Row(torch.stack([value.to(self._device) for value in values]).to(dtype), present)

    def _state(self, parameter: Tensor) -> Mapping[str, Any]:
        state: Mapping[str, Any] = self._optimizer.state.get(parameter, {})
        inner = wraps(self._optimizer)
        if inner is None:
            return state
        of_inner: Optimizer = getattr(self._optimizer, inner)
        return {**of_inner.state.get(parameter, {}), **state}

    def _momenta(self) -> _Row:
        momenta = [_momentum(parameter, self._state(parameter)) for parameter in self.parameters]
        parts = [local(momentum) for momentum in momenta if momentum is not None]
        return self._row(_norms(parts, 2.0), [momentum is not None for momentum in momenta])

    def _effective_steps(self) -> _Row:
        """The sum over a parameter's elements of ``lr / (sqrt(v_hat) + eps)``, with ``v_hat = v / correction^2``."""
        groups = self._optimizer.param_groups
        adams = [
            _adam(parameter, self._state(parameter), groups[index])
            for parameter, index in zip(self.parameters, self.group_of, strict=True)
        ]
        found = [adam for adam in adams if adam is not None]
        sums: Sequence[Tensor] = []
        if found:
            roots = list(torch._foreach_sqrt([local(adam.second_moment) for adam in found]))
            _add_(roots, [adam.eps * adam.correction for adam in found])
            torch._foreach_reciprocal_(roots)
            sums = [total * adam.factor for total, adam in zip(_norms(roots, 1.0), found, strict=True)]
        return self._row(sums, [adam is not None for adam in adams])


def _momentum(parameter: Tensor, state: Mapping[str, Any]) -> Tensor | None:
    kept = (state.get(name) for name in _MOMENTA)
    return next((one for one in kept if isinstance(one, Tensor) and one.shape == parameter.shape), None)


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


def numel_of(parameter: Tensor) -> int:
    """How many real numbers the whole tensor holds."""
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


def _zeros(gradients: Sequence[Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """How many elements of the local parts are 0; those that a sparse gradient leaves out are."""
    numels = [whole.numel() if whole.is_sparse else part.numel() for whole, part in zip(gradients, parts, strict=True)]
    return [numel - _count_nonzero(part) for part, numel in zip(parts, numels, strict=True)]


def _nonfinite(tensors: list[Tensor]) -> list[Tensor]:
    """How many elements are infinite or NaN: times 0 these alone are not 0."""
    return [_count_nonzero(product) for product in torch._foreach_mul(tensors, 0)] if tensors else []


def _count_nonzero(tensor: Tensor) -> Tensor:
    """How many elements are not 0, NaN among them; of numbers, torch counts one at a time, of booleans many."""
    return torch.count_nonzero(tensor.bool())


def _copied(tensors: list[Tensor]) -> list[Tensor]:
    return list(torch._foreach_mul(tensors, 1)) if tensors else []


def _add_(tensors: list[Tensor], numbers: Sequence[float | Tensor]) -> None:
    if any(isinstance(number, Tensor) for number in numbers):  # on the device, where the optimizer counts its steps
        for tensor, number in zip(tensors, numbers, strict=True):
            tensor.add_(number)
    else:
        torch._foreach_add_(tensors, cast("list[float]", numbers))
