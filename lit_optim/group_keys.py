"""What a class asks of its param groups beside hyperparameters, noted while it is constructed and stepped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from lit_optim.needs import small, stepped

__all__ = ["first_group", "optional_keys"]

_SWITCHES = 3  # that a constructor may want of each group
_ROUNDS = 5  # of looking for keys that a group may have; some are looked for only beside others


class _Asked(dict[str, Any]):
    """A param group that notes what it is asked for and lacks."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lacking: list[str] = []

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        if not found:
            self.lacking.append(str(key))
        return found

    def __missing__(self, key: str) -> Any:
        self.lacking.append(key)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


def first_group(make: Callable[[dict[str, Any]], Optimizer]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The group that a class makes of a small matrix, and the switches that it has to be given for it.

    pytorch_optimizer's Muon wants ``use_muon`` in each group, and what else is in a group depends on it: what is
    returned holds the keys of both.

    Args:
        make: Constructs the class over a group; what it raises is raised, unless a switch is what it lacks.
    """
    asked: dict[str, Any] = {}
    while True:
        group = _Asked({"params": [small(2)], **asked})
        try:
            found = make(group).param_groups[0]
            break
        except Exception:
            if not group.lacking or group.lacking[-1] in asked or len(asked) == _SWITCHES:
                raise
            asked[group.lacking[-1]] = False
    both = dict(found)
    for name in asked:
        both = {**make({"params": [small(2)], **asked, name: True}).param_groups[0], **both}
    return both, tuple(asked)


def optional_keys(make: Callable[[], Optimizer]) -> frozenset[str]:
    """The keys that a step looks for in a group and does without.

    Args:
        make: Returns an optimizer over small tensors, a new one at each call.
    """
    found: dict[str, Any] = {}
    for _ in range(_ROUNDS):
        lacking = _looked_for(make, found)
        if not lacking:
            break
        found.update(dict.fromkeys(lacking, 1))
    return frozenset(found)


def _looked_for(make: Callable[[], Optimizer], beside: dict[str, Any]) -> set[str]:
    """What a step asks of a group with these keys beside its own, and neither finds nor puts there."""
    groups: list[_Asked] = []

    def noting() -> Optimizer:
        optimizer = make()
        groups[:] = [_Asked({**group, **beside}) for group in optimizer.param_groups]
        optimizer.param_groups = [*groups]
        return optimizer

    stepped(noting)
    lacking = {name for group in groups for name in group.lacking if not dict.__contains__(group, name)}
    return lacking - {"step"}  # which an optimizer counts for itself
