"""How long it takes to compare a thousand runs, the process's start included.

    python benchmarks/compare_thousand_runs.py

Makes 1,000 run folders (100 learning rates, 10 seeds) in a temporary folder and calls ``lit-optim compare`` on them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import hydra
import paired
import yaml
from omegaconf import OmegaConf

import lit_optim as lo

LEARNING_RATES, SEEDS = 100, 10
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
    """Make the runs, compare them, print and append."""
    given = paired.arguments(__doc__, 3)
    text = config_text()
    plan = lo.Plan((), lo.Horizon(46)).to_json()
    with tempfile.TemporaryDirectory() as scratch:
        sweep = Path(scratch, "runs", "default", "2026-11-25_10-00-00-000000")
        for job in range(LEARNING_RATES * SEEDS):
            lr, seed = (job // SEEDS + 1) / 1000, job % SEEDS
            make_run(sweep / str(job), text, lr, seed, plan)
        takes = {}
        for arguments in ("--help", "runs", "runs --no-pool"):
            command = [sys.executable, "-m", "lit_optim", "compare", *arguments.split()]
            run = partial(subprocess.run, command, cwd=scratch, check=True, capture_output=True, text=True)
            takes[f"{arguments}: {len(run().stdout.splitlines()):,} lines"] = paired.timed(run)
        table = paired.rounds(takes, given.rounds, warmup=0).table(next(iter(takes)), "s", "lit-optim compare")
    libyaml = f"PyYAML {'with' if yaml.__with_libyaml__ else 'without'} libyaml"
    paired.append("A thousand runs compared", __doc__, f"{table}\n\n{libyaml}", given.dry_run)


if __name__ == "__main__":
    main()
