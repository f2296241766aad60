"""What a process that fails says to the others of its run, as text that they can read: a cause, or a loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lit_optim.errors import LitOptimError, Mistake
from lit_optim.integration.terminated import is_told_to_end

__all__ = ["GO_ON", "cause", "is_late", "is_loss", "loss", "packed", "refusal", "unpacked"]

GO_ON = "mend the cause; if the run had begun, lit-optim resume FOLDER goes on from its last checkpoint"
_LATE = ("timed out", "timeout")  # what torch says where nobody came
_LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "remote process exited")


def refusal(error: BaseException) -> tuple[Mistake, ...]:
    """Why a process does not train."""
    if isinstance(error, LitOptimError):
        return error.mistakes
    return (Mistake("train", _named(error)),)


def cause(error: BaseException, which: str) -> tuple[Mistake, ...]:
    """Why a process that trained has ended, for the others, which have done nothing wrong.

    Args:
        error: Of the process.
        which: It is.
    """
    if isinstance(error, LitOptimError):
        return (Mistake(which, "it is refused, and the others end with it"), *error.mistakes)
    return (Mistake(which, f"it failed, and the others with it: {_named(error)}", remedy=GO_ON),)


def is_late(text: str) -> bool:
    """Whether a process says that it has waited for another in vain."""
    return any(word in text.lower() for word in _LATE)


def is_loss(error: BaseException) -> bool:
    """Whether a process fails since another has, or hangs."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (is_late(text) or any(word in text for word in _LOST))


def loss(error: BaseException, which: str) -> Mistake:
    """What a process that has lost another says where that one has said nothing.

    Args:
        error: Of the process.
        which: It is.
    """
    last = " ".join(str(error).split())
    if is_late(last):
        return Mistake("trainer.timeout", f"{which} waited for another in vain", last, remedy=GO_ON)
    return Mistake("trainer", f"{which} lost another, which has ended without a word", last, remedy=GO_ON)


def packed(mistakes: Sequence[Mistake]) -> str:
    """The text of them."""
    return json.dumps([asdict(one) for one in mistakes])


def unpacked(text: str) -> tuple[Mistake, ...]:
    """What `packed` was given; JSON makes lists of tuples."""
    return tuple(Mistake(**{name: _tuple(value) for name, value in one.items()}) for one in json.loads(text))


def _named(error: BaseException) -> str:
    if is_told_to_end(error):
        return "it was told to end (SIGTERM)"
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
