"""How a group's gradients and parameters are distributed, in buckets that are the same for all tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from lit_optim.measurement import local, share_of_process

__all__ = ["LIMITS", "Histogram", "Histograms"]

_POWERS = [2.0**exponent for exponent in range(-40, 21)]
_EDGES = [*(-power for power in reversed(_POWERS)), *_POWERS]
LIMITS = [*_EDGES, 1.7976931348623157e308]
"""Where each bucket ends, which is in it: powers of two of either sign, and what lies beyond them."""
_KINDS = ("gradients", "weights")


class Histogram(NamedTuple):
    """One distribution.

    Args:
        tag: ``gradients/<group>`` or ``weights/<group>``.
        counts: Elements in each bucket of `LIMITS`; NaN is in none.
        total: Their sum.
        squares: The sum of their squares.
    """

    tag: str
    counts: list[float]
    total: float
    squares: float


class Histograms:
    """The gradients and parameters of one optimizer's groups as a step begins.

    Args:
        optimizer: Whose step it is.
        names: Of its param groups.
        world_size: The processes over which `vector` is going to be summed.
    """

    def __init__(self, optimizer: Optimizer, names: Sequence[str], world_size: int = 1) -> None:
        self._optimizer = optimizer
        self._names = names
        self._world_size = world_size
        self._rows: list[Tensor] = []

    @torch.no_grad()
    def take(self) -> None:
        """Count, once the gradients are what the optimizer is going to use."""
        scale = getattr(self._optimizer, "grad_scale", None)  # of a GradScaler that leaves unscaling to the step
        self._rows = []
        for group in self._optimizer.param_groups:
            parameters: list[Tensor] = group["params"]
            there = [one.grad for one in parameters if one.grad is not None]
            gradients = [one if scale is None else one / scale.to(one.device) for one in there]
            for tensors in (gradients, parameters):
                rows = [_row(local(one)) * share_of_process(one, self._world_size) for one in tensors]
                self._rows.append(sum(rows, start=torch.zeros_like(_row(local(parameters[0]).flatten()[:0]))))

    def vector(self) -> Tensor:
        """All of it as one flat tensor; 0 where the step was skipped."""
        return torch.cat(self._rows) if self._rows else torch.zeros(self.size)

    @property
    def size(self) -> int:
        """Of `vector`."""
        return len(self._names) * len(_KINDS) * (len(LIMITS) + 2)

    def read(self, values: Sequence[float]) -> list[Histogram]:
        """What a vector says that was brought from the device and summed over the processes; nothing of nothing."""
        width = len(LIMITS) + 2
        tags = [f"{kind}/{name}" for name in self._names for kind in _KINDS]
        rows = (values[start : start + width] for start in range(0, len(values), width))
        found = [Histogram(tag, [*row[:-2]], row[-2], row[-1]) for tag, row in zip(tags, rows, strict=True)]
        return [one for one in found if any(one.counts)]


def _row(numbers: Tensor) -> Tensor:
    """The counts, the sum and the sum of squares; by sorting, since scattering is in no fixed order on a GPU."""
    numbers = numbers.flatten().float()
    ordered = numbers.sort().values  # NaN comes last
    up_to = torch.searchsorted(ordered, torch.tensor(_EDGES, device=numbers.device), right=True)
    known = (numbers.numel() - numbers.isnan().sum()).reshape(1)
    counts = torch.cat([up_to, known]).diff(prepend=up_to.new_zeros(1))
    sums = torch.stack([numbers.sum(), numbers.square().sum()])
    return torch.cat([counts.to(sums), sums])
