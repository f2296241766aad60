"""How often a step makes the host wait for the device: counted by torch's profiler for a hand-written loop and others.

    python benchmarks/host_syncs.py --root FOLDER [--device cuda]

FOLDER holds MNIST's four IDX files; `contestants.py` says what each of them does. Counted are the events of two runs
that differ by 400 steps, and what they differ by is divided by 400, so that validation and checkpoints drop out.
``aten::item`` and ``aten::_local_scalar_dense`` are a number that is read; the others are what CUDA says of waiting.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from contestants import BATCH, NAMES, Work, train
from paired import append, arguments
from torch.profiler import ProfilerActivity, profile

from lit_optim.data import MNIST

EVENTS = ("aten::item", "aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize")
SHORT, LONG = 200, 600  # steps, of which 200 are one flush of the Recorder and two logs of the monitor


def counted(letter: str, work: Work) -> Counter[str]:
    """What one run calls."""
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (work.device.type == "cuda")]
    with profile(activities=activities, acc_events=True) as profiler:
        train(letter, work)
    return Counter({event.key: event.count for event in profiler.key_averages()})


def main() -> None:
    """Print the table, and keep it."""
    given = arguments(
        __doc__,
        1,
        root={"required": True, "help": "the folder with MNIST's IDX files"},
        device={"default": "cpu", "choices": ["cpu", "cuda"]},
    )
    data = MNIST(given.root, batch_size=BATCH)
    data.setup()
    work = Work(data, torch.device(given.device), epochs=2)
    shown = EVENTS if given.device == "cuda" else EVENTS[:2]
    lines = [f"| contestant | {' | '.join(f'`{event}`' for event in shown)} |", "|---" * (len(shown) + 1) + "|"]
    for letter in "acfg":
        train(letter, replace(work, steps=1))  # what happens once, happens here
        short, long = (counted(letter, replace(work, steps=steps // 2)) for steps in (SHORT, LONG))
        per_step = ((long[event] - short[event]) / (LONG - SHORT) for event in shown)
        lines.append(f"| ({letter}) {NAMES[letter]} | {' | '.join(f'{count:.2f}' for count in per_step)} |")
    append("Waiting for the device", __doc__, f"{given.device}, a step\n\n" + "\n".join(lines), given.dry_run)


if __name__ == "__main__":
    main()
