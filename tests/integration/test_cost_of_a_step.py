"""What a recorded step costs beside its computation, in what can be counted: waits for the device, objects kept."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import Batch, Net, loader
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import lit_optim as lo
from lit_optim.data import TensorLoader
from lit_optim.integration.tensorboard import RunLogger

RECIPE = {
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9},
    "rules": {"head": {"match": "layers.4", "lr": 0.02}},
    "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "5%"}},
}
WAITS = ("aten::item", "aten::_local_scalar_dense", "aten::is_nonzero")


class Reads(Net):
    """Waits at each step, as a module does that prints its loss."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        loss.item()
        return loss


def waits(module: Net, steps: int, trainer: Any, folder: Path) -> Counter[str]:
    callbacks = [lo.callbacks.Recorder(), lo.callbacks.OptimizerMonitor(every=1000), lo.callbacks.ProgressBar()]
    one = trainer(logger=RunLogger(folder), callbacks=callbacks, enable_progress_bar=True, log_every_n_steps=1)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        one.fit(lo.attach(module, RECIPE), loader(steps))
    return Counter({event.key: event.count for event in profiler.key_averages() if event.key in WAITS})


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "more"), [(Net, 0), (Reads, 1)])
def test_a_recorded_step_waits_for_no_device(kind: type[Net], more: int, trainer: Any, tmp_path: Path) -> None:
    short, long = (waits(kind(), steps, trainer, tmp_path / str(steps)) for steps in (10, 30))
    assert {event: long[event] - short[event] for event in WAITS[:2]} == dict.fromkeys(WAITS[:2], 20 * more)
    assert long["aten::is_nonzero"] == short["aten::is_nonzero"]


class Counts(Net):
    """Counts the objects of the process as it trains."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.objects: list[int] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.every == 0:
            gc.collect()
            self.objects.append(len(gc.get_objects()))


@pytest.mark.slow
def test_nothing_is_kept_of_a_step_that_is_written(trainer: Any, tmp_path: Path) -> None:
    steps, every = 3000, 500
    module = Counts(every)
    recorder = lo.callbacks.Recorder(flush_every=100)
    callbacks = [recorder, lo.callbacks.OptimizerMonitor(), lo.callbacks.ProgressBar()]
    data = torch.randn(steps, 6), torch.randint(3, (steps,))
    one = trainer(logger=RunLogger(tmp_path), callbacks=callbacks, enable_progress_bar=True)
    one.fit(lo.attach(module, RECIPE), TensorLoader(data, 1))
    first, *later = module.objects[1:]  # the first steps load whatever is loaded late
    assert len(later) == steps // every - 2
    assert max(later) - first < every // 10, module.objects
    assert len(recorder._steps) + len(recorder._losses) == 0
