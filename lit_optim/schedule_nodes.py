"""What a schedule node of a config stands for: one of our schedules, a user's, or a scheduler of torch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lit_optim.errors import ConfigError
from lit_optim.names import find
from lit_optim.schedules import Schedule
from lit_optim.targets import instantiate

__all__ = ["schedule_of"]


def schedule_of(node: Mapping[str, Any], key: str) -> Schedule:
    """The schedule that a node names; torch is imported only where that is no `Schedule` by itself.

    Args:
        node: ``_target_`` and its arguments.
        key: The config key of the node, for messages.

    Raises:
        ConfigError: Targets that may not be called, or arguments that they don't take.
    """
    if _is_ours(node.get("_target_")):
        schedule: Schedule = instantiate(node, (Schedule,), key)
        return schedule
    from lit_optim.torch_schedules import torch_schedule

    return torch_schedule(node, key)


def _is_ours(target: object) -> bool:
    """Whether a target is a `Schedule`, or was meant to be one of this package."""
    try:
        found = find(target, (Schedule,), "")
    except ConfigError:
        return str(target).startswith("lit_optim.")
    return isinstance(found, type) and issubclass(found, Schedule)
