"""What Recorder and OptimizerMonitor cost: the reference MLP with neither, the first and both, in one process.

    python benchmarks/monitor_overhead.py

The 784-300-200-10 MLP in batches of 128 that lie in memory, AdamW, TensorBoard, loop and cadence as in `lit-optim
train`. A round is three blocks of 200 steps of one run, in random order, for which the callbacks are taken from the
Trainer's or put back; with the monitor a block has one log of everything. The learning rate is so small that the
network stays what it is: one that has learned its batch computes with numbers that are slow. Time is this process's own
on the processor, and the ratio is taken within a round, so that a machine that slows down slows all.
"""

from __future__ import annotations

import logging
import random
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import paired
import torch
from hydra import compose, initialize_config_module
from lightning.pytorch import Callback, Trainer
from torch import Tensor

import lit_optim as lo
from lit_optim.integration.tensorboard import RunLogger
from lit_optim.models import MLP

BATCH = 128
RECIPE = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-6, "weight_decay": 0.1},
    "rules": {"no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0}},
}


class Batches:
    """A loader over tensors in memory."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(BATCH, 784, generator=generator)
        self.y = torch.randint(10, (BATCH,), generator=generator)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((self.x, self.y) for _ in range(self.steps))


class Switch(Callback):
    """Takes callbacks from the Trainer's for a block or puts them back, and takes the time of each block."""

    def __init__(self, recorder: lo.callbacks.Recorder, monitor: lo.callbacks.OptimizerMonitor, rounds: int) -> None:
        self.switched = {"neither": [], "Recorder": [recorder], "Recorder and OptimizerMonitor": [recorder, monitor]}
        order = random.Random(0)
        self.order = [name for _ in range(rounds) for name in order.sample([*self.switched], len(self.switched))]
        self.seconds: list[float] = []
        self.length = monitor.cadence.steps["grad_norm"]
        self.first = 2 * self.length - monitor.window  # each has its log, and before it the steps looked at for it
        self._start = 0.0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """See the class."""
        block, rest = divmod(trainer.global_step - self.first, self.length)
        if rest or block < 0:
            return
        now = time.process_time()
        if block:
            self.seconds.append(now - self._start)
        if block < len(self.order):
            every = self.switched["Recorder and OptimizerMonitor"]
            others = [one for one in trainer.callbacks if one not in every]
            trainer.callbacks = [*others, *self.switched[self.order[block]]]
        self._start = time.process_time()


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 100)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with initialize_config_module("lit_optim.conf", version_base="1.3"):
        cadence = dict(compose("callbacks/default").callbacks.monitor)
    del cadence["_target_"]
    recorder, monitor = lo.callbacks.Recorder(), lo.callbacks.OptimizerMonitor(**cadence)
    switch = Switch(recorder, monitor, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        steps = switch.first + len(switch.order) * switch.length + 1
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=RunLogger(folder), enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=50,
            callbacks=[switch, lo.callbacks.DirectBatches(), recorder, monitor],
        )  # fmt: skip
        trainer.fit(lo.LitClassifier(MLP(784, (300, 200), 10), RECIPE), Batches(steps))
    taken: dict[str, list[float]] = {name: [] for name in switch.switched}
    for name, seconds in zip(switch.order, switch.seconds, strict=True):
        taken[name].append(seconds / switch.length)
    table = paired.Measured(taken).table("neither", "ms", "callbacks, a step")
    paired.append("What Recorder and OptimizerMonitor cost", __doc__, table, given.dry_run)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
