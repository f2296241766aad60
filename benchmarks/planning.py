"""How long a plan takes: a 7-billion-parameter-shaped model on the meta device, 20 rules, 1,000 to 100,000 tensors.

    python benchmarks/planning.py

Held against the time that a bare walk over ``named_parameters`` takes.
"""

from __future__ import annotations

from typing import Any

import paired
import torch
from torch import nn

import lit_optim as lo

SIZES = (1_000, 10_000, 100_000)
NUMEL = 7_000_000_000


class Block(nn.Module):
    """Ten tensors in the places of a transformer's block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"down": nn.Linear(width, width)})


class Shaped(nn.Module):
    """An embedding, equal blocks, a norm and a head: about ``tensors`` tensors that together hold 7 billion numbers."""

    def __init__(self, tensors: int) -> None:
        super().__init__()
        blocks = (tensors - 5) // 10
        width = int((NUMEL / blocks / 5) ** 0.5)
        self.embed = nn.Embedding(32_000, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 32_000)


def recipe(blocks: int) -> lo.Recipe:
    """Twenty rules of every kind: by shape, by kind, by name, with factors, schedules and another class."""
    cosine = {"_target_": "lit_optim.schedules.Cosine"}
    rules: dict[str, Any] = {
        "no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0},
        "norms": {"match": {"module": "norm"}, "betas": [0.9, 0.98]},
        "embedding": {"match": {"module": "embedding"}, "lr": 3e-4},
        "head": {"match": {"module": "head"}, "lr": 1e-3},
        "hidden": {
            "match": {"module": "linear", "ndim": 2, "not": {"module": ["embedding", "head"]}},
            "optimizer": {"_target_": "torch.optim.Muon", "lr": 0.02},
        },
        "qkv": {"match": "*.attn.qkv", "multiply": {"lr": 0.5}},
        "proj": {"match": "*.proj.weight", "multiply": {"lr": 0.8}},
        "first": {"match": "blocks.[0-3].*", "freeze_until": "10%"},
        "last": {"match": f"^blocks.{blocks - 1}", "multiply": {"lr": 2.0}},
        "biases": {"match": "*.bias", "multiply": {"lr": 2.0}},
        "scheduled": {"match": {"regex": r"blocks\.\d*7\.mlp\..*"}, "schedule": {"lr": cosine}},
    }
    rules |= {f"block{i}": {"match": f"^blocks.{i * 7}.mlp", "multiply": {"lr": 1 - i / 100}} for i in range(1, 10)}
    optimizer = {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.1}
    return lo.Recipe.from_config({"optimizer": optimizer, "rules": rules, "schedule": {"lr": cosine}})


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 5)
    horizon = lo.Horizon(total_steps=100_000, steps_per_epoch=1_000)
    tables = []
    for size in SIZES:
        with torch.device("meta"):
            model = Shaped(size)
        written = recipe(len(model.blocks))
        plan = lo.make_plan(model, written, horizon)
        takes = {
            "bare walk": paired.timed(lambda model=model: [*model.named_parameters()]),
            "plan": paired.timed(lambda model=model, written=written: lo.make_plan(model, written, horizon)),
        }
        tensors = sum(len(group.parameters) for group in plan.groups)
        what = f"{tensors:,} tensors, {plan.numel:,} numbers, {len(plan.groups)} groups"
        tables.append(paired.rounds(takes, given.rounds).table("bare walk", "s", what))
    paired.append("Planning", __doc__, "\n\n".join(tables), given.dry_run)


if __name__ == "__main__":
    main()
