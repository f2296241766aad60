"""What convenience costs: steps a second of lit-optim, of Lightning as it is used, and of a hand-written loop.

    python benchmarks/throughput.py --root FOLDER [--epochs 3] [--only afg] [--device cuda] [--compile]

FOLDER holds MNIST's four IDX files. `contestants.py` says what each of them does. In a round each trains for some
epochs, in random order; the time is that of training with validation and checkpoints, without setting up. With
``--compile`` the networks of (a) and (f) are trained both as they are and compiled, for three epochs: the gain is the
last epoch's, and what compiling costs is what the first epoch takes more than the last.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from functools import partial

import torch
from contestants import BATCH, NAMES, Work, train
from paired import Measured, append, arguments, rounds

from lit_optim.data import MNIST

TARGETS = (("f", "a", 0.85), ("f", "e", 1.0), ("g", "f", 0.97), ("f", "c", 1.5), ("f", "d", 4.0))


def speeds(measured: Measured, epochs: int, work: Work) -> str:
    """The table, and the ratios that the project has set itself."""
    lines = ["| contestant | steps/s | speed of (a) | quartiles |", "|---|---|---|---|"]
    for letter in measured.seconds:
        low, middle, high = measured.ratio("a", letter)
        told = "1 | |" if letter == "a" else f"{middle:.3f} | {low:.3f} to {high:.3f} |"
        lines.append(f"| ({letter}) {NAMES[letter]} | {1 / measured.median(letter):,.0f} | {told}")
    held = [
        f"({one})/({other}) {measured.ratio(other, one)[1]:.3f}, wanted {wanted}"
        for one, other, wanted in TARGETS
        if {one, other} <= measured.seconds.keys()
    ]
    epoch = f"{epochs} epoch{'s' if epochs > 1 else ''} of {work.steps_per_epoch} steps"
    of = "time on the processor, " * (work.clock is time.process_time)
    return (
        f"{of}{work.device.type}, batches of {BATCH}, {epoch} a round\n\n" + "\n".join(lines) + f"\n\n{'; '.join(held)}"
    )


def compiled(rounds_: int, work: Work) -> str:
    """The same for networks that are compiled, and what that costs."""
    torch.compiler.config.force_disable_caches = True  # each compiles as if it were the first on this machine
    taken: dict[str, list[list[float]]] = {}

    def last(name: str, letter: str, one: Work) -> float:
        torch._dynamo.reset()  # so that each pays for its own
        taken.setdefault(name, []).append(train(letter, one))
        return taken[name][-1][-1]

    pairs = {
        f"({letter}){', compiled' * is_compiled}": (letter, replace(work, epochs=3, compiled=is_compiled))
        for letter in ("a", "f")
        for is_compiled in (False, True)
    }
    measured = rounds({name: partial(last, name, *pair) for name, pair in pairs.items()}, rounds_)
    lines = ["| contestant | steps/s | speed of (a) | quartiles | first epoch over last, s |", "|---|---|---|---|---|"]
    for name in measured.seconds:
        low, middle, high = measured.ratio("(a)", name)
        cost = statistics.median((epochs[0] - epochs[-1]) * work.steps_per_epoch for epochs in taken[name][1:])
        lines.append(
            f"| {name} | {1 / measured.median(name):,.0f} | {middle:.3f} | {low:.3f} to {high:.3f} | {cost:.2f} |"
        )
    return f"{work.device.type}, batches of {BATCH}, the third epoch of {work.steps_per_epoch} steps\n\n" + "\n".join(
        lines
    )


def main() -> None:
    """Print the table, and keep it."""
    given = arguments(
        __doc__,
        15,
        root={"required": True, "help": "the folder with MNIST's IDX files"},
        device={"default": "cpu", "choices": ["cpu", "cuda"]},
        epochs={"type": int, "default": 1, "help": "a round"},
        steps={"type": int, "help": "of an epoch; all unless told otherwise"},
        threads={"type": int, "default": 2, "help": "of torch; 2 unless told otherwise"},
        busy={"action": "store_true", "help": "take the time on the processor: for one thread on a machine of many"},
        only={"default": "".join(NAMES), "help": "letters of contestants: afg"},
        compile={"action": "store_true", "help": "compare compiled networks instead"},
    )
    torch.set_num_threads(given.threads)
    data = MNIST(given.root, batch_size=BATCH)
    data.setup()
    work = Work(data, torch.device(given.device), given.epochs, given.steps)
    if given.busy:
        work = replace(work, clock=time.process_time)
    if given.compile:
        append("Compiled networks", __doc__, compiled(given.rounds, work), given.dry_run)
        return
    takes = {letter: (lambda letter=letter: statistics.mean(train(letter, work))) for letter in given.only}
    measured = rounds(takes, given.rounds)
    append("Throughput", __doc__, speeds(measured, given.epochs, work), given.dry_run)


if __name__ == "__main__":
    main()
