"""How long a run of two processes lives on after something has befallen it.

    python benchmarks/failures.py [--timeout 5]

Two gloo ranks on the CPU, under DDP and under FSDP2; in the third epoch something happens to rank 1, or to the process
that has started both. Told is the time from there to the end of `lit-optim train`, which waits for its ranks; its exit
code; and what is left of the ranks a second later. A rank that hangs is given ``trainer.timeout`` seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import paired

TRAIN = ("-m", "lit_optim", "train", "data=digits", "data.batch_size=64", "model.hidden_dims=[8]", "test=false")
QUIET = ("trainer.max_epochs=1000", "callbacks.progress=null", "hydra.run.dir=run")
STRATEGIES = {
    "DDP": ("trainer=ddp_cpu",),
    "FSDP2": ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"),
}
FAULTS = {
    "a rank is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "a rank raises": "raise ValueError('a mistake')",
    "a rank hangs": "time.sleep(1000)",
    "SIGTERM to the first process": "os.kill(started_by, signal.SIGTERM)",
    "the first process is killed": "os.kill(started_by, signal.SIGKILL)",
}
CALLBACK = """
import os, pathlib, signal, time
from lightning.pytorch import Callback

class Fault(Callback):
    def on_train_start(self, trainer, module):
        pathlib.Path(f"rank.{{os.getpid()}}").touch()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.current_epoch == 2 and batch_idx == 3:
            started_by = os.getppid()
            pathlib.Path("moment").write_text(str(time.time()))
            {fault}
"""


def befall(strategy: str, what: str, timeout: int) -> tuple[float, int, int]:
    """Seconds to the end, the exit code, and how many ranks are left."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "faults.py").write_text(CALLBACK.format(fault=FAULTS[what]))
        own = (f"trainer.timeout={timeout}", "+callbacks.fault._target_=faults.Fault")
        command = [sys.executable, *TRAIN, *STRATEGIES[strategy], *QUIET, *own]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        code = subprocess.run(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet).returncode
        ranks = [int(path.suffix[1:]) for path in place.glob("rank.*")]
        if code == -signal.SIGKILL:  # nobody waits for the ranks any more
            while any(map(is_alive, ranks)) and time.time() < _moment(place) + 60:
                time.sleep(0.05)
        took = time.time() - _moment(place)
        time.sleep(1)
        return took, code, sum(map(is_alive, ranks))


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not only its entry."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _moment(place: Path) -> float:
    return float((place / "moment").read_text())


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(
        __doc__, 3, timeout={"type": int, "default": 5, "help": "seconds; 5 unless told otherwise"}
    )
    lines = ["| what happens | strategy | seconds to the end | exit code | ranks left |", "|---|---|---|---|---|"]
    for what in FAULTS:
        for strategy in STRATEGIES:
            took, codes, left = zip(*(befall(strategy, what, given.timeout) for _ in range(given.rounds)), strict=True)
            times = ", ".join(f"{one:.1f}" for one in sorted(took))
            lines.append(f"| {what} | {strategy} | {times} | {', '.join(map(str, sorted({*codes})))} | {max(left)} |")
            print(lines[-1], flush=True)
    paired.append("When something goes wrong", __doc__, "\n".join(lines), given.dry_run)


if __name__ == "__main__":
    main()
