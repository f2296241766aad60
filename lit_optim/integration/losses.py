"""The losses of some batches, kept where they are until somebody asks for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Losses"]


class Losses:
    """The mean loss since the last time, and the losses of the first batches.

    Args:
        first: How many of the first.
    """

    def __init__(self, first: int) -> None:
        self._wanted = first
        self._first: list[Tensor] = []
        self._since: list[Tensor] = []

    def add(self, loss: Tensor, divisor: int) -> None:
        """Keep one.

        Args:
            loss: A scalar without its graph.
            divisor: What it has been divided by; that of `take` until the next `clear`.
        """
        self._since.append(loss)
        if len(self._first) < self._wanted:
            self._first.append(loss * divisor)

    def clear(self) -> None:
        """Forget those since the last time."""
        self._since.clear()

    def take(self, divisor: int) -> Tensor:
        """The sum since the last time and its number, then the first ones; always of one size."""
        since, self._since = self._since, []
        losses = [*since, *self._first]
        if not losses:
            return torch.zeros(2 + self._wanted)
        stacked = torch.stack([loss if loss.ndim == 0 else loss.reshape(()) for loss in losses]).float()
        total = stacked[: len(since)].sum() * divisor
        first = stacked.new_zeros(self._wanted)
        first[: len(self._first)] = stacked[len(since) :]
        return torch.cat([total.reshape(1), stacked.new_full((1,), len(since)), first])

    def read(self, values: Sequence[float]) -> tuple[float | None, list[float]]:
        """The mean since the last time, and the first ones once there are as many as wanted, from what `take` gave."""
        total, count, *first = values
        return total / count if count else None, first if len(self._first) == self._wanted else []
