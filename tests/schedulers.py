"""Schedulers and schedules of a user's own, which the tests name in configs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau, StepLR

from lit_optim.durations import Horizon
from lit_optim.schedules import Cosine, Curve


def falling_factor(rate: float) -> Callable[[int], float]:
    """What LambdaLR takes; a config may name it where the project allows it."""
    return lambda step: rate**step


class Halving(LRScheduler):
    """Halves every lr each time it is stepped, down to a floor."""

    def __init__(self, optimizer: Optimizer, floor: float = 0.0) -> None:
        self.floor = floor
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        return [max(group["lr"] / (2 if self.last_epoch else 1), self.floor) for group in self.optimizer.param_groups]


class OtherName(Halving):
    """Takes its optimizer under another name."""

    def __init__(self, wrapped: Optimizer) -> None:
        super().__init__(wrapped)


class Decaying(Halving):
    """Moves the weight decay as well."""

    def get_lr(self) -> list[Any]:
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.1 * self.last_epoch
        return super().get_lr()


class Ending(Halving):
    """Can be stepped three times."""

    def get_lr(self) -> list[Any]:
        if self.last_epoch > 3:
            raise RuntimeError("the end")
        return super().get_lr()


class Milder(ReduceLROnPlateau):
    """Decides in its own way."""


class Tenfold(StepLR):
    """A scheduler of torch's with other arguments."""

    def __init__(self, optimizer: Optimizer, every: int) -> None:
        super().__init__(optimizer, every, 0.1)


class Capped(Cosine):
    """One of the package's, changed: takes one value at a time, and counts how often it is asked."""

    asked = 0

    def rest(self, start: float, horizon: Horizon, warmup: int) -> tuple[float, Curve]:
        first, rest = super().rest(start, horizon, warmup)

        def value(step: int) -> float:
            type(self).asked += 1
            return min(rest(step), 0.5 * start)

        return first, value
