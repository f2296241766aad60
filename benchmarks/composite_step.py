"""A step of a composite optimizer, against the steps of its children one after the other.

    python benchmarks/composite_step.py

Muon on 24 matrices of 64 by 64 with AdamW on the 24 biases; and SGD with AdamW on 24 tensors each, where the children
themselves cost least. Both contestants step the same optimizers on the same tensors, in turn.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import paired
import torch
from torch.optim import SGD, AdamW, Muon, Optimizer

import lit_optim as lo

TENSORS, SIDE = 24, 64


def tensors(*shape: int) -> list[torch.nn.Parameter]:
    """With gradients."""
    made = [torch.nn.Parameter(torch.randn(shape)) for _ in range(TENSORS)]
    for parameter in made:
        parameter.grad = torch.randn(shape)
    return made


def measured(children: Mapping[str, Optimizer], rounds: int, steps: int) -> str:
    """The table of one composite, stepped so many times a turn."""
    composite = lo.CompositeOptimizer(children)

    def each() -> None:
        for child in children.values():
            child.step()

    takes = {
        "children": paired.timed(each, steps, time.process_time),
        "composite": paired.timed(composite.step, steps, time.process_time),
    }
    name = " + ".join(type(child).__name__ for child in children.values())
    return paired.rounds(takes, rounds, warmup=5).table("children", what=name)


def main() -> None:
    """Measure, print and append."""
    given = paired.arguments(__doc__, 100)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pairs = {
        2: {"muon": Muon(tensors(SIDE, SIDE), 1e-4), "adamw": AdamW(tensors(SIDE), 1e-4, fused=True)},
        50: {"sgd": SGD(tensors(SIDE), 1e-4, fused=True), "adamw": AdamW(tensors(SIDE), 1e-4, fused=True)},
    }
    tables = [measured(children, given.rounds, steps) for steps, children in pairs.items()]
    paired.append("A step of a composite", __doc__, "\n\n".join(tables), given.dry_run)


if __name__ == "__main__":
    main()
