"""Optimizers that evaluate their closure again do what a bare loop over whole steps does."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_optimizer
import torch
from digitnet import Net, batches, closures, loader, same
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

import lit_optim as lo
from lit_optim.integration.callbacks.replay import ReplaySteps

LBFGS = {"_target_": "torch.optim.LBFGS", "max_iter": 4, "line_search_fn": "strong_wolfe"}
SAM = {"_target_": "pytorch_optimizer.SAM", "base_optimizer": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}
WSAM = {**SAM, "_target_": "pytorch_optimizer.WSAM"}
ALIG = {"_target_": "pytorch_optimizer.AliG", "max_lr": 50.0}  # high enough for the loss to matter
RECIPES = {"LBFGS": LBFGS, "SAM": SAM, "WSAM": WSAM, "AliG": ALIG}
STEPS = 12


def by_hand(name: str, net: Net) -> Optimizer:
    parameters = net.parameters()
    if name == "LBFGS":
        return torch.optim.LBFGS(parameters, max_iter=4, line_search_fn="strong_wolfe")
    if name == "AliG":
        return pytorch_optimizer.AliG(parameters, max_lr=50.0)
    base = {"base_optimizer": torch.optim.SGD, "lr": 0.1, "momentum": 0.9}
    if name == "SAM":
        return pytorch_optimizer.SAM(parameters, **base)
    return pytorch_optimizer.WSAM(model=net, params=parameters, **base)


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_it_sees_the_whole_step_at_each_evaluation(name: str, window: int, clip: float | None, trainer: Any) -> None:
    net, twin = Net(), Net()
    one = trainer(accumulate_grad_batches=window, gradient_clip_val=clip)
    one.fit(lo.attach(net, {"optimizer": RECIPES[name]}), loader(STEPS))
    optimizer = by_hand(name, twin)
    for gradients in closures(twin, STEPS, window):

        def closure(gradients: Any = gradients) -> Tensor:
            loss = gradients()
            if clip is not None:
                clip_grad_norm_(twin.parameters(), clip)
            return loss

        if name == "SAM":
            closure()
        if name == "AliG":
            loss = closure()
            optimizer.step(lambda loss=loss: loss)
        else:
            optimizer.step(closure)
    assert same(net, twin)
    assert not same(net, Net())
    assert one.global_step == STEPS / window


def test_autocast_in_bfloat16_is_theirs_as_well(trainer: Any) -> None:
    net, twin = Net(), Net()
    trainer(precision="bf16-mixed").fit(lo.attach(net, {"optimizer": SAM}), loader(STEPS))
    optimizer = by_hand("SAM", twin)
    for batch in batches(STEPS):

        def closure(batch: Any = batch) -> Tensor:
            twin.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
                loss = twin.loss(batch)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)
    assert same(net, twin)


class TakesNoIndex(Net):
    def training_step(self, batch: Any) -> dict[str, Tensor]:  # type: ignore[override]
        loss = self.loss(batch)
        self.log("train/mine", loss, on_step=False, on_epoch=True)
        return {"loss": loss}


def test_any_form_of_training_step_is_replayed(trainer: Any) -> None:
    net, plain = TakesNoIndex(), Net()
    for one in (net, plain):
        trainer(accumulate_grad_batches=4).fit(lo.attach(one, {"optimizer": LBFGS}), loader(STEPS))
    assert same(net, plain)


def test_an_epoch_that_breaks_off_within_a_step_leaves_nothing_behind(trainer: Any) -> None:
    net, twin = Net(), Net()
    trainer(accumulate_grad_batches=4, max_epochs=2).fit(lo.attach(net, {"optimizer": LBFGS}), loader(6))
    optimizer = by_hand("LBFGS", twin)
    every = batches(6)
    for _ in range(2):
        for micro_batches in (every[:4], every[4:]):  # Lightning steps at an epoch's end, dividing by 4 all the same

            def closure(micro_batches: Any = micro_batches) -> Tensor:
                twin.zero_grad()
                losses = [twin.loss(batch) / 4 for batch in micro_batches]
                for loss in losses:
                    loss.backward()
                whole = losses[-1].detach()
                for loss in losses[:-1]:
                    whole = whole + loss.detach()
                return whole

            optimizer.step(closure)
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


class Stop(Callback):
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == 2


def test_dropped_and_clipped_gradients_are_so_at_each_evaluation(trainer: Any) -> None:
    net = Net()
    rules = {"stem": {"match": "layers.0", "freeze_until": 2}, "all": {"match": "*", "clip_norm": 0.05}}
    one = trainer(max_steps=3, callbacks=[Stop()])
    one.fit(lo.attach(net, {"optimizer": SAM, "rules": rules}), loader(STEPS))
    assert one.global_step == 2
    assert torch.equal(net.layers[0].weight, Net().layers[0].weight)
    assert not torch.equal(net.layers[2].weight, Net().layers[2].weight)


def test_other_optimizers_keep_no_batches(trainer: Any) -> None:
    one = trainer(accumulate_grad_batches=3)
    one.fit(lo.attach(Net(), {"optimizer": {"_target_": "torch.optim.SGD"}}), loader(3))
    assert not any(isinstance(callback, ReplaySteps) for callback in one.callbacks)


def test_a_child_of_a_composite_gets_the_loss(trainer: Any) -> None:
    net = Net()
    rules = {"head": {"match": {"module": "head"}, "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}}
    trainer().fit(lo.attach(net, {"optimizer": ALIG, "rules": rules}), loader(STEPS))
    assert all(not torch.equal(a, b) for a, b in zip(net.parameters(), Net().parameters(), strict=True))
