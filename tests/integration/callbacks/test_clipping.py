"""A group's own gradient norm under a Trainer: before Lightning's, once, on whole and unscaled gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from digitnet import HIDDEN, Net, batches, loader, same
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_, get_total_norm

import lit_optim as lo

HEAD = {"head": {"match": "layers.4", "clip_norm": 0.02}}
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.01}
STEPS = 12


def by_hand(net: Net, whole: float | None, window: int, precision: str) -> None:
    head, rest = [*net.layers[4].parameters()], [*net.layers[0].parameters(), *net.layers[2].parameters()]
    optimizer = torch.optim.AdamW([{"params": rest}, {"params": head}], 0.01, fused=True)
    every = batches(STEPS)
    for start in range(0, STEPS, window):
        optimizer.zero_grad()
        for batch in every[start : start + window]:
            kind = torch.half if precision == "16-mixed" else torch.bfloat16
            with torch.autocast("cpu", kind, enabled=precision != "32-true", cache_enabled=False):
                loss = net.loss(batch) / window
            loss.backward()
        clip_grad_norm_(head, 0.02)
        if whole is not None:
            clip_grad_norm_([*rest, *head], whole)
        optimizer.step()


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("whole", [None, 0.05])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_group_is_clipped_before_the_whole(precision: str, whole: float | None, window: int, trainer: Any) -> None:
    net, twin = Net(), Net()
    one = trainer(precision=precision, gradient_clip_val=whole, accumulate_grad_batches=window)
    one.fit(lo.attach(net, {"optimizer": ADAMW, "rules": HEAD}), loader(STEPS))
    by_hand(twin, whole, window, precision)
    assert same(net, twin)
    unclipped = Net()
    trainer(precision=precision, gradient_clip_val=whole, accumulate_grad_batches=window).fit(
        lo.attach(unclipped, {"optimizer": ADAMW}), loader(STEPS)
    )
    assert not same(net, unclipped)


class Norms(Callback):
    """The norm of the head's gradients as the optimizer gets them."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        gradients = [p.grad for p in pl_module.layers[4].parameters() if p.grad is not None]
        if gradients:
            self.norms.append(get_total_norm(gradients).item())


def test_scaled_gradients_are_clipped_once_they_are_unscaled(trainer: Any) -> None:
    net, norms = Net(), Norms()
    plugin = MixedPrecision("16-mixed", "cpu", GradScaler("cpu", 2.0**10))
    rules = {**HEAD, "hidden": {**HIDDEN, "optimizer": {"_target_": "torch.optim.Muon"}}}
    one = trainer(plugins=[plugin], callbacks=[norms])
    one.fit(lo.attach(net, {"optimizer": ADAMW, "rules": rules}), loader(STEPS))
    assert norms.norms == pytest.approx([0.02] * (STEPS - 1), rel=1e-4)


def test_two_fits_clip_once_each(trainer: Any) -> None:
    net = lo.attach(Net(), {"optimizer": ADAMW, "rules": HEAD})
    one = trainer()
    one.fit(net, loader(2))
    one.fit_loop.max_epochs = 2
    one.fit(net, loader(2))
    assert [type(callback).__name__ for callback in one.callbacks].count("ClipGroups") == 1
