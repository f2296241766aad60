"""What OptimizerMonitor costs: the reference MLP with Recorder alone, and with both, in shuffled rounds of one process.

    python benchmarks/monitor_overhead.py

The 784-300-200-10 MLP in batches of 128 that lie in memory, AdamW, TensorBoard and cadence as in `lit-optim train`. A
round is two blocks of 50 steps of one run, in random order: in one of them the monitor is taken from the Trainer's
callbacks, the other has one log. Time is this process's own on the processor, and the ratio is taken within a round, so
that a machine that slows down slows both.
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
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.1},
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
    """Takes the monitor from the callbacks for a block or puts it back, and takes the time of each block."""

    def __init__(self, monitor: lo.callbacks.OptimizerMonitor, rounds: int) -> None:
        self.monitor = monitor
        order = random.Random(0)
        self.order = [is_on for _ in range(rounds) for is_on in order.sample([False, True], 2)]
        self.seconds: list[float] = []
        self._start = 0.0

    @property
    def first(self) -> int:
        """The step that the blocks begin at: each has its log, and before it the steps that are looked at for it."""
        return 2 * self.monitor.cadence.steps["grad_norm"] - self.monitor.window

    @property
    def length(self) -> int:
        """Of a block, in steps."""
        return self.monitor.cadence.steps["grad_norm"]

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """See the class."""
        block, rest = divmod(trainer.global_step - self.first, self.length)
        if rest or block < 0:
            return
        now = time.process_time()
        if block:
            self.seconds.append(now - self._start)
        if block < len(self.order):
            others = [one for one in trainer.callbacks if one is not self.monitor]
            trainer.callbacks = [*others, *[self.monitor] * self.order[block]]
        self._start = time.process_time()


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 200)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with initialize_config_module("lit_optim.conf", version_base="1.3"):
        cadence = dict(compose("callbacks/default").callbacks.monitor)
    del cadence["_target_"]
    switch = Switch(lo.callbacks.OptimizerMonitor(**cadence), given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        steps = switch.first + len(switch.order) * switch.length + 1
        trainer = Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=RunLogger(folder), enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=50,
            callbacks=[switch, lo.callbacks.Recorder(), switch.monitor],
        )  # fmt: skip
        trainer.fit(lo.LitClassifier(MLP(784, (300, 200), 10), RECIPE), Batches(steps))
    blocks = [*zip(switch.order, switch.seconds, strict=True)]
    pairs = [dict(blocks[start : start + 2]) for start in range(0, len(blocks), 2)]
    names = {False: "Recorder", True: "and OptimizerMonitor"}
    steps = {name: [pair[is_on] / switch.length for pair in pairs] for is_on, name in names.items()}
    table = paired.Measured(steps).table("Recorder", "ms", "callbacks, a step")
    paired.append("What OptimizerMonitor costs", __doc__, table, given.dry_run)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
