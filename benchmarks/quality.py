"""How good the plain 784-300-200-10 MLP gets on MNIST in 1, 3, 5 and 10 epochs: the tutorial's recipes, and ours.

    python benchmarks/quality.py --root FOLDER

Each number of epochs is a run of its own, so that schedules end with it: `lit-optim train data=mnist
data.batch_size=128`, three seeds each unless told otherwise, on one device. Mean ± standard deviation of the accuracy
on the 10,000 test digits, of the epoch with the best accuracy on the 5,000 digits of the validation split; no
augmentation, no ensemble.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import paired
import torch  # noqa: F401  for its version in the machine's line

EPOCHS = (1, 3, 5, 10)
RECIPES = {
    "SGD, lr 0.01": ["experiment=tutorial_sgd"],
    "SGD, lr 0.1": ["experiment=tutorial_sgd", "optimizer.lr=0.1"],
    "momentum 0.9, lr 0.01": ["experiment=tutorial_momentum"],
    "momentum 0.9, lr 0.1": ["experiment=tutorial_momentum", "optimizer.lr=0.1"],
    "Adam, lr 0.001": ["experiment=tutorial_adam"],
    "`lit-optim train`'s default (AdamW)": [],
    "`experiment=mnist_best` (Muon + AdamW)": ["experiment=mnist_best"],
}


def main() -> None:
    """Train, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the IDX files, downloaded where they are missing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainer", default="cpu", help="cpu or gpu")
    parser.add_argument("--dry-run", action="store_true", help="print the table alone")
    own = parser.parse_args()
    lines = [f"| recipe | {' | '.join(f'{count} epochs' for count in EPOCHS)} |", "|---" * (len(EPOCHS) + 1) + "|"]
    for name, overrides in RECIPES.items():
        found = accuracies(overrides, own.root, own.seeds, own.trainer)
        lines.append(f"| {name} | {' | '.join(shown(found[count]) for count in EPOCHS)} |")
        print(lines[-1], flush=True)
    paired.append("Test accuracy by epochs", __doc__, "\n".join(lines), own.dry_run)


def accuracies(overrides: list[str], root: str, seeds: int, trainer: str) -> dict[int, list[float]]:
    """The test accuracies of one recipe, by the number of epochs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lit_optim", "train", "-m", *overrides, "data=mnist", f"data.root='{root}'"]
        command += ["data.batch_size=128", f"trainer={trainer}", "callbacks.progress=null", "hydra.sweep.dir=sweep"]
        command += [
            f"trainer.max_epochs={','.join(map(str, EPOCHS))}",
            f"seed={','.join(map(str, range(1, seeds + 1)))}",
        ]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        found: dict[int, list[float]] = {}
        for path in Path(folder, "sweep").glob("*/metrics.json"):
            metrics = json.loads(path.read_text())
            found.setdefault(metrics["epochs"], []).append(metrics["final"]["test/acc"])
    return found


def shown(values: list[float]) -> str:
    """In percent."""
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{spread}"


if __name__ == "__main__":
    main()
