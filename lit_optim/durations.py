"""Lengths of training: ``"500steps"``, ``"2epochs"``, ``"5%"`` of the run, or a bare integer of optimizer steps."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lit_optim.errors import Mistake, PlanError

__all__ = ["Duration", "Horizon", "malformed", "steps_of"]

Duration = int | str
"""What a user may write: ``500``, ``"500steps"``, ``"2epochs"`` or ``"5%"``."""

_FORMS = ("500 (optimizer steps)", "500steps", "2epochs", "5%")
_PATTERN = re.compile(r"(?P<amount>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>steps?|epochs?|%)")
_UNKNOWN_TOTAL = (-1, math.inf)  # as Trainer.estimated_stepping_batches says it


@dataclass(frozen=True)
class Horizon:
    """How long a run is, counted in optimizer steps.

    Args:
        total_steps: Optimizer steps of the whole run, at least 1; ``-1`` or ``math.inf`` where nobody knows
            (whatever depends on it is then refused by the planner).
        steps_per_epoch: Optimizer steps of one epoch, at least 1; None where epochs have no length.
        global_batch: Samples behind one optimizer step, over all devices and accumulated micro-batches.

    Raises:
        PlanError: A number below 1 or of another kind.
    """

    total_steps: int | float
    steps_per_epoch: int | None = None
    global_batch: int | None = None

    def __post_init__(self) -> None:
        mistakes = [
            Mistake(
                f"horizon.{field}",
                "a horizon counts whole things, at least one",
                given=repr(value),
                allowed=("an integer of at least 1", "-1 where nobody knows" if field == "total_steps" else "None"),
                remedy="raise trainer.max_epochs, trainer.max_steps or trainer.limit_train_batches, or give more data",
            )
            for field, value in vars(self).items()
            if not (isinstance(value, int) and not isinstance(value, bool) and value >= 1)
            and not (value in _UNKNOWN_TOTAL if field == "total_steps" else value is None)
        ]
        if mistakes:
            raise PlanError(*mistakes)
        if not self.is_bounded:
            object.__setattr__(self, "total_steps", -1)  # one way to say it: equal horizons, equal hashes

    @property
    def is_bounded(self) -> bool:
        """Whether the end of the run is known."""
        return self.total_steps not in _UNKNOWN_TOTAL


def steps_of(duration: Duration, horizon: Horizon, key: str) -> int:
    """The optimizer steps that ``duration`` means in a run of this ``horizon``, rounded to the nearest.

    Args:
        duration: ``500``, ``"500steps"``, ``"2epochs"`` (fractions are allowed) or ``"5%"`` of the run.
        horizon: What epochs and percentages are measured against.
        key: The config key that the duration stands under, for the message.

    Returns:
        A number from 0 to ``horizon.total_steps``.

    Raises:
        PlanError: Another form, a unit that this horizon can't measure, or a length past the end of the run.
    """
    wrong = malformed(duration, key)
    if wrong is not None:
        raise PlanError(wrong)
    steps: float
    if isinstance(duration, int):
        steps = duration
    else:
        match = _PATTERN.fullmatch(duration.strip())
        assert match is not None
        steps = float(match["amount"]) * _unit_length(match["unit"], duration, horizon, key)
    if steps > horizon.total_steps * (1 + 1e-12) and horizon.is_bounded:
        raise PlanError(
            Mistake(
                key,
                f"{duration!r} is {_shown(steps)} steps, past the end of a run of {horizon.total_steps}",
                given=repr(duration),
                allowed=("0% to 100%", f"0 to {horizon.total_steps} steps"),
                remedy="shorten it, write it as a percentage, or lengthen the run (trainer.max_epochs)",
            )
        )
    return steps if isinstance(steps, int) else math.floor(steps + 0.5)


def _unit_length(unit: str, duration: Duration, horizon: Horizon, key: str) -> float:
    """Optimizer steps in one step, one epoch or one percent."""
    if unit.startswith("step"):
        return 1.0
    if unit == "%":
        if horizon.is_bounded:
            return horizon.total_steps / 100
        missing, remedy = (
            "how long the run is",
            "set trainer.max_steps (or trainer.max_epochs with data that has a length)",
        )
    else:
        if horizon.steps_per_epoch is not None:
            return float(horizon.steps_per_epoch)
        missing, remedy = (
            "how long an epoch is",
            "write it in steps, or set trainer.limit_train_batches to a number of batches",
        )
    raise PlanError(
        Mistake(key, f"{duration!r} can't be measured: nobody knows {missing}", given=repr(duration), remedy=remedy)
    )


def malformed(duration: object, key: str) -> Mistake | None:
    """What is wrong with the form of a duration; what it measures in a run is for `steps_of` to say.

    Args:
        duration: As written.
        key: The config key that it stands under.
    """
    remedy = "add a unit"
    if isinstance(duration, int):
        if duration >= 0 and not isinstance(duration, bool):
            return None
        remedy = "write 0 or more steps"
    elif isinstance(duration, float) and 0 < duration <= 1:
        remedy = f"write {duration * 100:g}% for that share of the run"
    elif isinstance(duration, str):
        if _PATTERN.fullmatch(duration.strip()):
            return None
        if duration.strip().isdigit():
            remedy = f"write {duration.strip()} without quotes, or {duration.strip()}steps"
    return Mistake(key, "this is not a length of training", given=repr(duration), allowed=_FORMS, remedy=remedy)


def _shown(steps: float) -> str:
    return f"{steps:g}" if abs(steps) < 1e300 else "too many"
