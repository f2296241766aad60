"""What each part of lit-optim brings: the speed of its defaults with one part at a time left out, or another put in.

    python benchmarks/left_out.py --root FOLDER [--device cuda]

FOLDER holds MNIST's four IDX files. All train as (f) of `contestants.py` does, for an epoch in each round. Where the
Recorder is left out, its curves are made as plain Lightning makes them: `self.log` of every step's loss, and
LearningRateMonitor.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contestants import BATCH, Change, Clock, Work, ours, seconds
from lightning.pytorch import LightningModule
from paired import append, arguments, rounds
from torch.utils.data import DataLoader, TensorDataset

from lit_optim.data import MNIST

WHOLE = "(f), the whole"


def with_data_loader(module: LightningModule, data: MNIST) -> None:
    """A batch is made of samples, one by one."""
    loader = partial(DataLoader, TensorDataset(*data.splits.train), BATCH, shuffle=True)
    vars(data)["train_dataloader"] = lambda: loader(pin_memory=torch.cuda.is_available())


def with_log(module: LightningModule, data: MNIST) -> None:
    """`self.log` in each step."""
    step = module.training_step

    def training_step(batch: Any, batch_idx: int) -> Any:
        loss = step(batch, batch_idx)
        module.log("train/loss", loss)
        return loss

    vars(module)["training_step"] = training_step


def with_setattr(module: LightningModule, data: MNIST) -> None:
    """torch's own `__setattr__` of a module, which looks for parameters and modules in every string that is set."""
    module.__class__ = type("Plain", (type(module),), {"__setattr__": torch.nn.Module.__setattr__})


def frozen(module: LightningModule, data: MNIST) -> None:
    """Nothing that is there now is looked at by the garbage collector again."""
    gc.collect()
    gc.freeze()


MONITOR = "+callbacks.lr={_target_: lightning.pytorch.callbacks.LearningRateMonitor, logging_interval: step}"
PARTS: dict[str, tuple[Change | None, list[str]]] = {
    WHOLE: (None, []),
    "Lightning's loop over batches (`callbacks.direct=null`)": (None, ["callbacks.direct=null"]),
    "`self.log` and LearningRateMonitor for the Recorder": (
        with_log,
        ["callbacks.recorder=null", MONITOR, "trainer.log_every_n_steps=1"],
    ),
    "a `DataLoader` for TensorLoader": (with_data_loader, []),
    "no fused optimizer (`optimizer.fused=false`)": (None, ["+optimizer.fused=false"]),
    "torch's `__setattr__` for RecipeModule's": (with_setattr, []),
    "the Recorder writing every 200 steps, not 500": (None, ["callbacks.recorder.flush_every=200"]),
    "tried: what is there before training is hidden from the garbage collector": (frozen, []),
}


def trained(name: str, work: Work) -> float:
    """Seconds a step."""
    change, overrides = PARTS[name]
    contestant: Callable[[Work, Clock, Path], None] = partial(_run, change, overrides)
    try:
        return statistics.mean(seconds(contestant, work))
    finally:
        gc.unfreeze()


def _run(change: Change | None, overrides: list[str], work: Work, clock: Clock, folder: Path) -> None:
    ours(work, clock, folder, "callbacks.monitor=null", *overrides, change=change)


def main() -> None:
    """Measure, print and append."""
    given = arguments(
        __doc__,
        8,
        root={"required": True, "help": "the folder with MNIST's IDX files"},
        device={"default": "cpu", "choices": ["cpu", "cuda"]},
        steps={"type": int, "help": "of an epoch; all unless told otherwise"},
        threads={"type": int, "default": 2, "help": "of torch; 2 unless told otherwise"},
    )
    torch.set_num_threads(given.threads)
    data = MNIST(given.root, batch_size=BATCH)
    data.setup()
    work = Work(data, torch.device(given.device), 1, given.steps)
    measured = rounds({name: partial(trained, name, work) for name in PARTS}, given.rounds)
    lines = ["| (f) with | steps/s | speed of the whole | quartiles |", "|---|---|---|---|"]
    for name in PARTS:
        low, middle, high = measured.ratio(WHOLE, name)
        told = "1 | |" if name == WHOLE else f"{middle:.3f} | {low:.3f} to {high:.3f} |"
        lines.append(f"| {name} | {1 / measured.median(name):,.0f} | {told}")
    append("What each part brings", __doc__, "\n".join(lines), given.dry_run)


if __name__ == "__main__":
    main()
