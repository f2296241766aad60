"""Memory: the peak of lit-optim and of Lightning as it is used, and whether it grows over 200,000 steps.

    python benchmarks/memory.py --root FOLDER [--device cuda]

FOLDER holds MNIST's four IDX files; `contestants.py` says what (c), (f) and (g) do. The peak is the resident set's (on
a GPU also the allocator's) of a process that trains one epoch of the reference MLP, after the start of Python and all
imports. Growth is that of one run of a tiny network with everything recorded: the resident set, and the objects that
Python's garbage collector knows, both after a collection.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from contestants import BATCH, NAMES, Work, train
from lightning.pytorch import LightningModule, Trainer
from paired import append, arguments
from torch import nn

import lit_optim as lo
from lit_optim.data import MNIST, TensorLoader
from lit_optim.integration.tensorboard import RunLogger

MIB = 2**20
STEPS, SAMPLES = 200_000, 10
RECIPE = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
    "rules": {"no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0}},
    "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "5%"}},
}


def peak(letter: str, root: str, device: str) -> dict[str, float]:
    """Of this process, in MiB, once a contestant has trained in it."""
    data = MNIST(root, batch_size=BATCH)
    data.setup()
    train(letter, Work(data, torch.device(device)))
    taken = {"resident set": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB}
    if device == "cuda":
        taken["device"] = torch.cuda.max_memory_allocated() / MIB
    return taken


class Sampled(lo.LitClassifier):
    """Samples the process's memory as it trains."""

    samples: list[tuple[int, float, int]]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """See the class."""
        if batch_idx % (STEPS // SAMPLES) == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            self.samples.append((batch_idx, pages * os.sysconf("SC_PAGE_SIZE") / MIB, len(gc.get_objects())))


def growth() -> list[tuple[int, float, int]]:
    """Steps, resident set in MiB, and objects, as one run goes on."""
    torch.set_num_threads(1)
    x, y = torch.randn(4 * STEPS, 4), torch.randint(3, (4 * STEPS,))
    module: LightningModule = Sampled(nn.Linear(4, 3), RECIPE)
    module.samples = []
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [lo.callbacks.Recorder(), lo.callbacks.OptimizerMonitor(), lo.callbacks.ProgressBar()]
        Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=RunLogger(folder), callbacks=callbacks,
            enable_checkpointing=False, enable_model_summary=False,
        ).fit(module, TensorLoader((x, y), 4))  # fmt: skip
    samples: list[tuple[int, float, int]] = module.samples
    return samples


def main() -> None:
    """Print the tables, and keep them."""
    given = arguments(
        __doc__,
        3,
        root={"required": True, "help": "the folder with MNIST's IDX files"},
        device={"default": "cpu", "choices": ["cpu", "cuda"]},
        only={"help": "what a process of its own does: c, f, g or growth"},
    )
    if given.only:
        of = growth() if given.only == "growth" else peak(given.only, given.root, given.device)
        print(f"\n{json.dumps(of)}")
        return

    def ask(what: str) -> Any:
        command = [sys.executable, *sys.argv, "--only", what]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(ran.stdout.splitlines()[-1])

    taken = {letter: [ask(letter) for _ in range(given.rounds)] for letter in "cfg"}
    lines = []
    for kind in taken["c"][0]:
        of = {letter: statistics.median(one[kind] for one in taken[letter]) for letter in taken}
        lines += [f"| contestant | peak of the {kind}, MiB | of (c) |", "|---|---|---|"]
        lines += [f"| ({one}) {NAMES[one]} | {of[one]:,.0f} | {of[one] / of['c']:.3f} |" for one in of] + [""]
    lines += ["| steps | resident set, MiB | objects |", "|---|---|---|"]
    lines += [f"| {step:,} | {size:,.1f} | {objects:,} |" for step, size, objects in ask("growth")]
    append("Memory", __doc__, "\n".join(lines), given.dry_run)


if __name__ == "__main__":
    main()
