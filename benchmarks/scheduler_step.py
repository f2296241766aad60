"""What schedules cost a step: three hyperparameters of one group, and of 60 groups that differ in all of them.

    python benchmarks/scheduler_step.py

Learning rate, weight decay and momentum (of SGD; the first of the betas of AdamW) each follow a schedule. torch's
LambdaLR, which moves the learning rates alone, is shown beside it.
"""

from __future__ import annotations

import time
import warnings

import paired
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

import lit_optim as lo
from lit_optim.schedules import WarmupCosine

GROUPS, STEPS = 60, 50
RUN = lo.Horizon(total_steps=10**6)
SCHEDULES = {
    "lr": {"_target_": "lit_optim.schedules.WarmupCosine"},
    "weight_decay": {"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.5},
    "momentum": {"_target_": "lit_optim.schedules.Linear", "final_factor": 0.5},
}


def share(group: int) -> float:
    """Of a value, for each group its own."""
    return 1 - group / 1000


def ours(optimizer: str, groups: int) -> LRScheduler:
    """As `lo.build` makes it."""
    model = nn.ParameterList(torch.zeros(1) for _ in range(groups))
    momentum = {
        "SGD": lambda group: {"momentum": 0.9 * share(group)},
        "AdamW": lambda group: {"betas": [0.9 * share(group), 0.99]},
    }
    rules = {
        f"rule{i}": {"match": f"^{i}", "lr": 0.1 * share(i), "weight_decay": 0.05 * share(i), **momentum[optimizer](i)}
        for i in range(groups)
    }
    recipe = {"optimizer": {"_target_": f"torch.optim.{optimizer}"}, "rules": rules, "schedule": SCHEDULES}
    plan = lo.make_plan(model, recipe, RUN)
    assert len(plan.groups) == groups
    return lo.build(model, plan)[1]


def torchs() -> LRScheduler:
    """torch's, with one of our curves for its function."""
    groups = [{"params": [torch.zeros(1)], "lr": 0.1 * share(i)} for i in range(GROUPS)]
    return LambdaLR(SGD(groups), WarmupCosine().curve(1.0, RUN))


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 300)
    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # no optimizer steps here
    schedulers = {
        "one group of SGD": ours("SGD", 1),
        f"{GROUPS} groups of SGD": ours("SGD", GROUPS),
        f"{GROUPS} groups of AdamW": ours("AdamW", GROUPS),
        f"LambdaLR, lr of {GROUPS} groups": torchs(),
    }
    takes = {name: paired.timed(one.step, STEPS, time.process_time) for name, one in schedulers.items()}
    table = paired.rounds(takes, given.rounds, warmup=5).table("one group of SGD", what="3 schedules")
    paired.append("A step of the schedules", __doc__, table, given.dry_run)


if __name__ == "__main__":
    main()
