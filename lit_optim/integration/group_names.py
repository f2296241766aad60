"""What param groups are called in a dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer

__all__ = ["group_names"]


def group_names(optimizers: Sequence[Optimizer]) -> list[str]:
    """A name for every param group, each unique: its ``"name"``, else ``group<i>``, after ``optimizer<j>.`` if several.

    A name that is already taken gets its group's position appended.
    """
    names: list[str] = []
    for number, optimizer in enumerate(optimizers):
        before = f"optimizer{number}." if len(optimizers) > 1 else ""
        for position, group in enumerate(optimizer.param_groups):
            name = before + str(group.get("name") or f"group{position}")
            while name in names:
                name += f".{position}"
            names.append(name)
    return names
