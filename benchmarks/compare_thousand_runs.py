"""How long it takes to compare a thousand runs, the process's start included.

    python benchmarks/compare_thousand_runs.py

Makes 1,000 run folders (100 learning rates, 10 seeds) in a temporary folder and calls ``lit-optim compare`` on them.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hydra
import yaml
from omegaconf import OmegaConf

import lit_optim as lo

LEARNING_RATES, SEEDS = 100, 10
TURNS = 3
OUTPUT = "${hydra:runtime.output_dir}"


def config_text() -> str:
    """What a run writes into ``.hydra/config.yaml``, with places for its folder, its learning rate and its seed."""
    with hydra.initialize_config_module("lit_optim.conf", version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("config", ["data=digits", "data.seed=SEED", "seed=7"]))
    assert isinstance(config, dict)
    config["seed"], config["optimizer"]["lr"] = "SEED", "LR"
    return yaml.safe_dump(config, sort_keys=False).replace(OUTPUT, "FOLDER")


def make_run(folder: Path, text: str, lr: float, seed: int, plan: str) -> None:
    """One run's folder, but for its checkpoints and events, which are not read."""
    (folder / ".hydra").mkdir(parents=True)
    filled = text.replace("FOLDER", str(folder)).replace("LR", str(lr)).replace("SEED", str(seed))
    (folder / ".hydra" / "config.yaml").write_text(filled)
    (folder / ".hydra" / "overrides.yaml").write_text(f"- data=digits\n- ++optimizer.lr={lr}\n- seed={seed}\n")
    (folder / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  runtime:\n    output_dir: {folder}\n" + "# …\n" * 700)
    values = {tag: 1 / (1 + abs(lr - 0.05)) - 0.001 * (seed * 7 % 10) for tag in ("val/acc", "val/loss", "test/acc")}
    best = {tag: {"value": value, "step": 46} for tag, value in values.items()}
    metrics = {"status": "finished", "final": values, "best": best, "steps": 46, "epochs": 2, "seconds": 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
    (folder / "plan.json").write_text(plan)


def main() -> None:
    """Make the runs, compare them, and print the median time."""
    text = config_text()
    plan = lo.Plan((), lo.Horizon(46)).to_json()
    with tempfile.TemporaryDirectory() as scratch:
        sweep = Path(scratch, "runs", "default", "2026-11-25_10-00-00-000000")
        for job in range(LEARNING_RATES * SEEDS):
            lr, seed = (job // SEEDS + 1) / 1000, job % SEEDS
            make_run(sweep / str(job), text, lr, seed, plan)
        print(f"{platform.machine()}, Python {platform.python_version()}, libyaml {yaml.__with_libyaml__}\n")
        for arguments in (["--help"], ["runs"], ["runs", "--no-pool"]):
            seconds = []
            for _ in range(TURNS):
                start = time.perf_counter()
                command = [sys.executable, "-m", "lit_optim", "compare", *arguments]
                told = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True).stdout
                seconds.append(time.perf_counter() - start)
            lines = len(told.splitlines())
            print(f"lit-optim compare {' '.join(arguments):<14} {sorted(seconds)[1]:.2f} s, {lines:,} lines")


if __name__ == "__main__":
    main()
