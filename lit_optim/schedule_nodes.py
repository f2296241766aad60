"""What a schedule node of a config stands for: one of our schedules, a user's, or a scheduler of torch's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lit_optim.errors import ConfigError, Mistake
from lit_optim.names import find
from lit_optim.schedules import Schedule
from lit_optim.targets import instantiate

__all__ = ["schedule_of"]

_TORCH = "torch.optim.lr_scheduler."
_SAME = {  # curve, of a schedule that has a warm-up of its own and can stand inside of another
    "ConstantLR": "Piecewise",
    "CosineAnnealingLR": "Cosine",
    "CosineAnnealingWarmRestarts": "CosineRestarts",
    "ExponentialLR": "Exponential",
    "LinearLR": "Linear",
    "MultiStepLR": "Milestones",
    "OneCycleLR": "OneCycle",
    "PolynomialLR": "Polynomial",
    "StepLR": "Exponential with staircase: true",
}


def schedule_of(node: Mapping[str, Any], key: str) -> Schedule:
    """The schedule that a node names; torch is imported only where that is no `Schedule` by itself.

    Args:
        node: ``_target_`` and its arguments.
        key: The config key of the node, for messages.

    Raises:
        ConfigError: Targets that may not be called, or arguments that they don't take.
    """
    if _is_ours(node.get("_target_")):
        mistakes = [one for name, value in node.items() for one in _of_torch(value, f"{key}.{name}")]
        if mistakes:
            raise ConfigError(*mistakes)
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


def _of_torch(value: object, key: str) -> Iterator[Mistake]:
    """Schedulers of torch's inside of a schedule of another kind, which would not know how they are stepped."""
    if isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _of_torch(one, f"{key}.{index}")
    target = value.get("_target_") if isinstance(value, Mapping) else None
    if isinstance(target, str) and target.startswith(_TORCH):
        name = target.removeprefix(_TORCH)
        own = f"use lit_optim.schedules.{_SAME[name]}, or " if name in _SAME else ""
        remedy = f"{own}join torch's in a {_TORCH}SequentialLR, with a LinearLR for a warm-up"
        if name == "ReduceLROnPlateau":
            remedy = "use lit_optim.schedules.Plateau by itself; it has a warmup of its own"
        yield Mistake(
            f"{key}._target_", "a scheduler of torch's can't be a part of this schedule", target, remedy=remedy
        )
