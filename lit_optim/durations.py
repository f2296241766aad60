"""Lengths of training: ``"500steps"``, ``"2epochs"``, ``"5%"`` of the run, or a bare integer of optimizer steps."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from lit_optim.errors import Mistake, PlanError

__all__ = [
    "UNKNOWN_END",
    "Duration",
    "Horizon",
    "epoch_of",
    "later_epochs",
    "malformed",
    "steps_before",
    "steps_of",
]

Duration = int | str
"""What a user may write: ``500``, ``"500steps"``, ``"2epochs"`` or ``"5%"``."""

UNKNOWN_END = "set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too"
"""The remedy where something depends on how long the run is, and nobody knows."""

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
        global_batch: Samples behind one optimizer step, over all devices and accumulated micro-batches; None where
            that is unknown or changes.
        epoch_steps: Where epochs differ, as gradient accumulation that changes makes them: ``((0, 9), (4, 5))`` for 9
            steps in each of the first four epochs and 5 in each one after; the first is ``steps_per_epoch``. Empty
            where all epochs are alike.

    Raises:
        PlanError: A number below 1 or of another kind, or epochs out of order.
    """

    total_steps: int | float
    steps_per_epoch: int | None = None
    global_batch: int | None = None
    epoch_steps: tuple[tuple[int, int], ...] = ()

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
            if field != "epoch_steps"
            and not _is_count(value, least=1)
            and not (value in _UNKNOWN_TOTAL if field == "total_steps" else value is None)
        ]
        mistakes += self._wrong_epochs()
        if mistakes:
            raise PlanError(*mistakes)
        if not self.is_bounded:
            object.__setattr__(self, "total_steps", -1)  # one way to say it: equal horizons, equal hashes

    def _wrong_epochs(self) -> Iterator[Mistake]:
        pieces: object = self.epoch_steps
        if pieces == ():
            return
        if not (
            isinstance(pieces, tuple)
            and len(pieces) > 1
            and all(isinstance(piece, tuple) and len(piece) == 2 for piece in pieces)
            and all(_is_count(epoch) and _is_count(steps, least=1) for epoch, steps in pieces)
            and pieces[0] == (0, self.steps_per_epoch)
            and all(one[0] < two[0] and one[1] != two[1] for one, two in pairwise(pieces))
        ):
            yield Mistake(
                "horizon.epoch_steps",
                "these are no epochs that differ",
                given=repr(pieces),
                allowed=(
                    "() where all are alike",
                    "((0, steps_per_epoch), (first epoch, steps an epoch from then on), …)",
                ),
                remedy="count epochs from 0 in rising order, each with another number of steps than the one before it",
            )

    @property
    def is_bounded(self) -> bool:
        """Whether the end of the run is known."""
        return self.total_steps not in _UNKNOWN_TOTAL

    def without_end(self) -> Horizon:
        """The same run, as if nobody knew how long it is: for lengths that may reach past its end."""
        return replace(self, total_steps=-1)

    def stretch(self, begin: int, end: int | None = None) -> Horizon:
        """The part of the run from step ``begin`` on, up to ``end`` or to its end, as a run of its own.

        Args:
            begin: The first step of the part; epochs that differ keep their lengths if one begins here, and have none
                otherwise.
            end: The step after its last one.

        Returns:
            Of at least one step, where there are none left too.
        """
        total = self.total_steps if end is None else end
        left = max(total - begin, 1) if total not in _UNKNOWN_TOTAL else -1
        if not self.epoch_steps or begin == 0:
            return replace(self, total_steps=left)
        epoch = epoch_of(begin, self)
        if steps_before(epoch, self.epoch_steps) != begin:
            return Horizon(left, None, self.global_batch)
        pieces = [(max(first - epoch, 0), steps) for first, steps in self.epoch_steps]
        ahead = tuple(piece for piece, after in itertools.zip_longest(pieces, pieces[1:]) if not after or after[0] > 0)
        return Horizon(left, ahead[0][1], self.global_batch, ahead if len(ahead) > 1 else ())


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
        amount = float(match["amount"])
        if match["unit"].startswith("epoch") and horizon.epoch_steps:
            steps = steps_before(amount, horizon.epoch_steps)
        else:
            steps = amount * _unit_length(match["unit"], duration, horizon, key)
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
        missing, remedy = "how long the run is", UNKNOWN_END
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


def steps_before(epoch: float, pieces: Sequence[tuple[int, int]]) -> float:
    """Optimizer steps until an epoch begins, or until a part of it is over: ``2.5`` is the middle of the third.

    Args:
        epoch: Counted from 0.
        pieces: ``(first epoch, optimizer steps an epoch from then on)``, from epoch 0 on.

    Returns:
        An integer where ``epoch`` is one.
    """
    ends = (*(first for first, _ in pieces[1:]), epoch)
    gone = ((min(epoch, end) - first, steps) for (first, steps), end in zip(pieces, ends, strict=True))
    return sum(epochs * steps for epochs, steps in gone if epochs > 0)


def epoch_of(step: int, horizon: Horizon) -> int:
    """The epoch that an optimizer step belongs to, both counted from 0.

    Args:
        step: Any; past the end of the run, epochs go on as the last one.
        horizon: With a known length of its epochs.
    """
    assert horizon.steps_per_epoch is not None
    epoch, steps = 0, horizon.steps_per_epoch
    for first, steps_then in horizon.epoch_steps[1:]:
        if step < (first - epoch) * steps:
            break
        step -= (first - epoch) * steps
        epoch, steps = first, steps_then
    return epoch + step // steps


def later_epochs(horizon: Horizon) -> tuple[str, ...]:
    """What the epochs after the first ones have of their own, in words: ``5 from epoch 4 on``."""
    return tuple(f"{steps:,} from epoch {first:,} on" for first, steps in horizon.epoch_steps[1:])


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
        match = _PATTERN.fullmatch(duration.strip())
        if match is not None:
            if not match["unit"].startswith("step") or not match["amount"].partition(".")[2].strip("0"):
                return None
            remedy = "write a whole number of steps"
        if duration.strip().isdigit():
            remedy = f"write {duration.strip()} without quotes, or {duration.strip()}steps"
    return Mistake(key, "this is not a length of training", given=repr(duration), allowed=_FORMS, remedy=remedy)


def _is_count(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _shown(steps: float) -> str:
    return f"{steps:g}" if abs(steps) < 1e300 else "too many"
