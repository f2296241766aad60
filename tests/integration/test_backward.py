"""Gradients that an optimizer differentiates keep their graph, and those of others don't."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from digitnet import Net, batches, loader, same
from pytorch_optimizer import AdaHessian

import lit_optim as lo

HESSIAN = {"optimizer": {"_target_": "pytorch_optimizer.AdaHessian", "lr": 0.1}}


class Own(Net):
    """Its own backward pass."""

    asked: dict[str, Any] | None = None

    def backward(self, loss: torch.Tensor, **more: Any) -> None:
        self.asked = more
        super().backward(loss, **more)

    def on_train_start(self) -> None:
        torch.manual_seed(7)


def test_a_module_keeps_its_own_backward(trainer: Any) -> None:
    net = Own()
    trainer().fit(lo.attach(net, HESSIAN), loader(3))
    assert net.asked == {"create_graph": True}


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")  # of the bare loop
def test_it_accumulates_gradients_with_their_graphs(trainer: Any) -> None:
    net, twin = Own(), Net()
    trainer(accumulate_grad_batches=2).fit(lo.attach(net, HESSIAN), loader(6))
    torch.manual_seed(7)
    optimizer = AdaHessian(twin.parameters(), 0.1)
    every = batches(6)
    for start in (0, 2, 4):
        optimizer.zero_grad()
        for batch in every[start : start + 2]:
            (twin.loss(batch) / 2).backward(create_graph=True)
        optimizer.step()
    assert same(net, twin)


def test_the_next_optimizer_has_the_class_s_own_back(trainer: Any) -> None:
    net = lo.attach(Net(), HESSIAN)
    trainer().fit(net, loader(1))
    assert "backward" in vars(net)
    trainer().fit(lo.attach(net, {"optimizer": {"_target_": "torch.optim.SGD"}}), loader(1))
    assert "backward" not in vars(net)
