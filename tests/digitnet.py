"""A small network, its batches, and bare loops over them, which several tests hold a Trainer against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

Batch = tuple[Tensor, Tensor]
HIDDEN = {"match": {"module": "linear", "ndim": 2, "not": {"module": "head"}}}


class Net(LightningModule):
    """Trains."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def loss(self, batch: Batch) -> Tensor:
        x, y = batch
        return cross_entropy(self.layers(x), y)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch)


class Evaluated(Net):
    """Also validates (``val/loss``, and each one's value in ``validated``), tests and predicts."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.validated: list[float] = []

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("val/loss", loss)
        self.validated.append(loss.item())
        return loss

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch)


def batches(count: int, seed: int = 1) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(count)]


def loader(count: int, seed: int = 1) -> DataLoader[Any]:
    return DataLoader(batches(count, seed), batch_size=None)  # type: ignore[arg-type]


def closures(net: Net, count: int, window: int = 1) -> list[Callable[[], Tensor]]:
    """Of each optimizer step, what computes its loss and gradients anew, over ``window`` micro-batches."""

    def of(micro_batches: Sequence[Batch]) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            net.zero_grad()
            whole = torch.zeros(())
            for batch in micro_batches:
                loss = net.loss(batch) / window
                loss.backward()
                whole = whole + loss.detach()
            return whole

        return closure

    every = batches(count)
    return [of(every[start : start + window]) for start in range(0, count, window)]


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks of one shape have the same weights, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
