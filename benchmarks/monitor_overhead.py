"""What OptimizerMonitor costs: the reference MLP with Recorder alone, and with both, in shuffled rounds of one process.

    python benchmarks/monitor_overhead.py

The 784-300-200-10 MLP in batches of 128 that lie in memory, AdamW, TensorBoard and cadence as in `lit-optim train`.
Each round runs every variant once, in random order; its speed is that of all steps after the first 50, in this
process's own processor time. The ratio is taken within a round, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import logging
import platform
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

import lit_optim as lo
from lit_optim.integration.tensorboard import RunLogger
from lit_optim.models import MLP

BATCH, WARM_UP = 128, 50
RECIPE = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
    "rules": {"no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0}},
}
VARIANTS: dict[str, Callable[[], list[Callback]]] = {
    "Recorder": lambda: [],
    "and OptimizerMonitor": lambda: [lo.callbacks.OptimizerMonitor(effective_step=200, zero_grads=200)],
    "with every quantity every 10 steps": lambda: [lo.callbacks.OptimizerMonitor(every=10)],
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


class Clock(Callback):
    """Steps a second of the processor, once warm."""

    def __init__(self) -> None:
        self.speed = 0.0
        self._start = 0.0

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Begin after the first steps."""
        if trainer.global_step == WARM_UP:
            self._start = time.process_time()

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """End."""
        self.speed = (trainer.global_step - WARM_UP) / (time.process_time() - self._start)


def speed(more: Callable[[], list[Callback]], steps: int, folder: Path) -> float:
    """Of one run."""
    torch.manual_seed(0)
    clock = Clock()
    module = lo.LitClassifier(MLP(784, (300, 200), 10), RECIPE)
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=RunLogger(folder), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=50,
        callbacks=[lo.callbacks.Recorder(), *more(), clock],
    )  # fmt: skip
    trainer.fit(module, Batches(steps))
    return clock.speed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=250)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    speeds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.rounds):
            for name in order.sample([*VARIANTS], len(VARIANTS)):
                speeds[name].append(speed(VARIANTS[name], arguments.steps, Path(scratch) / f"{number} {name}"))
    print(
        f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} thread, batch {BATCH}, "
        f"{arguments.steps} steps, medians of {arguments.rounds} rounds\n"
    )
    print("| callbacks | steps/s | ratio within a round, median (quartiles) |")
    print("|---|---|---|")
    alone = speeds["Recorder"]
    for name, each in speeds.items():
        low, middle, high = statistics.quantiles([one / base for one, base in zip(each, alone, strict=True)])
        print(f"| {name} | {statistics.median(each):.0f} | {middle:.3f} ({low:.3f} to {high:.3f}) |")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
