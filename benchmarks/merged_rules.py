"""An optimizer step under 200 rules that come to three settings, against all parameters in one group.

    python benchmarks/merged_rules.py

AdamW, fused, on the same 200 matrices with gradients; a rule names each. What the rules come to is merged, so that
there are three groups. Beside it the same three groups made by hand, which is what torch takes for them, and a group
for each rule, as a hand-written loop over rules makes them. Of 384 by 384 the matrices are as many numbers as a ViT-S
has; of 64 by 64 their arithmetic hides nothing of what torch takes for a group.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import paired
import torch
from torch import nn
from torch.optim import AdamW, Optimizer

import lit_optim as lo

TENSORS = 200
SIDES = {384: 1, 64: 5}  # and steps in a row
SETTINGS: tuple[dict[str, Any], ...] = ({"lr": 1e-4}, {"lr": 2e-4}, {"lr": 1e-4, "weight_decay": 0.0})


def matrices(side: int) -> nn.ParameterList:
    """With gradients."""
    generator = torch.Generator().manual_seed(0)
    made = nn.ParameterList(torch.randn(side, side, generator=generator) for _ in range(TENSORS))
    for parameter in made:
        parameter.grad = torch.randn(side, side, generator=generator)
    return made


def by_recipe(model: nn.ParameterList) -> Optimizer:
    """As `lo.build` makes it."""
    rules = {f"rule{i}": {"match": f"^{i}", **SETTINGS[i % len(SETTINGS)]} for i in range(TENSORS)}
    recipe = {"optimizer": {"_target_": "torch.optim.AdamW"}, "rules": rules}
    plan = lo.make_plan(model, recipe, lo.Horizon(1000))
    assert len(plan.groups) == len(SETTINGS)
    return lo.build(model, plan)[0]


def grouped(tensors: Sequence[Sequence[nn.Parameter]]) -> Optimizer:
    """As torch takes them."""
    return AdamW([{"params": held, **SETTINGS[i % len(SETTINGS)]} for i, held in enumerate(tensors)], fused=True)


def table(side: int, steps: int, count: int) -> str:
    """The contestants take turns on the same tensors."""
    model = matrices(side)
    tensors = [*model]
    by_hand = [tensors[place :: len(SETTINGS)] for place in range(len(SETTINGS))]
    optimizers = {
        "one group": AdamW(tensors, lr=1e-4, fused=True),
        "200 rules, 3 settings": by_recipe(model),
        "3 groups by hand": grouped(by_hand),
        "a group for each rule": grouped([[one] for one in tensors]),
    }
    takes = {name: paired.timed(one.step, steps, time.process_time) for name, one in optimizers.items()}
    return paired.rounds(takes, count, warmup=5).table("one group", what=f"param groups, {side} by {side}")


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 150)
    torch.set_num_threads(1)
    tables = [table(side, steps, given.rounds) for side, steps in SIDES.items()]
    paired.append("A step under merged rules", __doc__, "\n\n".join(tables), given.dry_run)


if __name__ == "__main__":
    main()
