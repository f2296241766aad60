"""Kill a run with SIGKILL at many points, resume it, and count how often it ends as the run that nobody killed.

    python benchmarks/kill_and_resume.py

Compared are weights, optimizer and scheduler state, and every logged value with its step, bit for bit. Lightning's own
counters are not: where a checkpoint was saved after an epoch's last batch, lightning 2.6.6 counts that epoch's start
twice, which changes nothing else. Needs the extra `digits`; each run is a process of its own, forked once everything is
imported.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_optim.cli import main

OPTIMIZERS = ("momentum", "adamw", "muon_adamw")
EVERY = 4  # steps from one checkpoint to the next; the last of the 36 is compared too
COMMON = (
    "data=digits", "model.hidden_dims=[32]", "trainer.max_epochs=3", "trainer.limit_train_batches=12",
    f"callbacks.last.every_n_train_steps={EVERY}", "callbacks.progress=null",
)  # fmt: skip
POINTS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "save_checkpoint")
KILLS = 20


def run(arguments: list[str], prepare: Callable[[], None] = lambda: None) -> int:
    """A command in a forked process; returns how that ended, negative for a signal."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.dup2(nowhere, sys.stderr.fileno())
        torch.set_num_threads(1)
        prepare()
        os._exit(main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(point: str, step: int) -> Callable[[], None]:
    """Ends the process at the first pass of a point from a step on."""

    def prepare() -> None:
        if point == "save_checkpoint":  # in the middle of the file
            saved = itertools.count(1)

            def fsync(handle: int) -> None:
                if ".ckpt" in Path(f"/proc/self/fd/{handle}").readlink().name and next(saved) > step // EVERY:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.fsync = fsync
            return

        def hook(self: Callback, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
            if trainer.global_step >= step:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(Callback, point, hook)

    return prepare


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested containers, by their paths."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if items is None:
        return {prefix: value}
    return {name: leaf for key, item in items for name, leaf in flat(item, f"{prefix}.{key}").items()}


def result(folder: Path) -> tuple[dict[str, Any], dict[str, list[tuple[int, float]]]]:
    """What a run ended with: its state, and its curves."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    curves = {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return flat({part: content[part] for part in parts}), curves


def identical(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same."""
    (state, curves), (its_state, its_curves) = result(one), result(other)
    return (
        curves == its_curves
        and state.keys() == its_state.keys()
        and all(
            torch.equal(value, its_state[key]) if isinstance(value, torch.Tensor) else value == its_state[key]
            for key, value in state.items()
        )
    )


def table() -> None:
    """Print the counts of each optimizer."""
    print(f"{'optimizer':<12} {'killed':>7} {'resumed':>8} {'identical':>10}")
    for optimizer in OPTIMIZERS:
        common = [*COMMON, f"optimizer={optimizer}"]
        assert run(["train", *common, "hydra.run.dir=whole"]) == 0
        killed = resumed = same = 0
        for number in range(KILLS):
            step, point = 1 + number * 34 // (KILLS - 1), POINTS[number % len(POINTS)]
            folder = f"cut{number}"
            killed += run(["train", *common, f"hydra.run.dir={folder}"], kill_at(point, step)) == -signal.SIGKILL
            resumed += run(["resume", folder]) == 0
            same += identical(Path("whole"), Path(folder))
        print(f"{optimizer:<12} {killed:>7} {resumed:>8} {same:>10}", flush=True)
        for path in Path.cwd().iterdir():
            shutil.rmtree(path)


if __name__ == "__main__":
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each purge
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        table()
