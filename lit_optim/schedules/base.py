"""What a schedule is, and what it becomes in a run."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from lit_optim.durations import Horizon

__all__ = ["Curve", "Schedule"]

Curve = Callable[[int], float]
"""A hyperparameter's value at an optimizer step, counted from 0."""


class Schedule(ABC):
    """What a config names; own schedules subclass it (a frozen dataclass is enough) and implement `curve`."""

    @abstractmethod
    def curve(self, start: float, horizon: Horizon) -> Curve:
        """Bind the schedule to a group's own value and a run.

        Args:
            start: The value that the recipe gives the group.
            horizon: The run that durations are measured against.

        Returns:
            A pure function from the step (0 for the first) to the value which that step uses.

        Raises:
            PlanError: A field that makes no sense, or not in this run. Its keys are field names (``warmup``).
        """

    def __str__(self) -> str:
        """As one would write it: without what a dataclass takes by itself."""
        if not dataclasses.is_dataclass(self):
            return repr(self)
        said = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        parts = (f"{field.name}={_shown(value)}" for field, value in said if value != _default(field))
        return f"{type(self).__name__}({', '.join(parts)})"


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return factory() if callable(factory) else field.default


def _shown(value: object) -> str:
    if isinstance(value, Schedule):
        return str(value)
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, (list, tuple)) else repr(value)
