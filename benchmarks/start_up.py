"""What a command costs before it works: verbs without torch against a bare Python, `plan` against its two imports.

    python benchmarks/start_up.py

Each is a process of its own; its time is the processor's, which is all of it once the files are in memory. Bytecode is
cached, as that of an installed package is. `compare` gets twelve runs. `plan` is held against the least of a Lightning
app with a Hydra config: import `lightning.pytorch` and compose.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import paired
from compare_thousand_runs import config_text, make_run

import lit_optim as lo

IMPORTS = """
import lightning.pytorch
from hydra import compose, initialize_config_module
with initialize_config_module("lit_optim.conf", version_base="1.3"):
    compose("config")
"""
LIGHT = {
    "python -c pass": ("-c", "pass"),
    "lit-optim --help": ("-m", "lit_optim", "--help"),
    "lit-optim schema": ("-m", "lit_optim", "schema"),
    "lit-optim compare runs": ("-m", "lit_optim", "compare", "runs"),
}
HEAVY = {
    "imports and compose": ("-c", IMPORTS),
    "lit-optim plan": ("-m", "lit_optim", "plan"),
    "lit-optim plan data=digits": ("-m", "lit_optim", "plan", "data=digits"),
}


def on_the_processor() -> float:
    """Seconds that all processes took which were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def process(folder: Path, command: tuple[str, ...]) -> paired.Take:
    """A Python with these arguments."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    whole = [sys.executable, *command]
    return paired.timed(
        lambda: subprocess.run(whole, cwd=folder, env=environment, check=True, capture_output=True),
        clock=on_the_processor,
    )


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 5)
    with tempfile.TemporaryDirectory() as scratch:
        folder, text = Path(scratch), config_text()
        for job in range(12):
            lr, seed = (job // 3 + 1) / 1000, job % 3
            make_run(folder / "runs" / str(job), text, lr, seed, lo.Plan((), lo.Horizon(46)).to_json())
        light = paired.rounds({name: process(folder, one) for name, one in LIGHT.items()}, 4 * given.rounds)
        heavy = paired.rounds({name: process(folder, one) for name, one in HEAVY.items()}, given.rounds)
    tables = (light.table("python -c pass", "s", "process"), heavy.table("imports and compose", "s", "process"))
    paired.append("Start-up", __doc__, "\n\n".join(tables), given.dry_run)


if __name__ == "__main__":
    main()
