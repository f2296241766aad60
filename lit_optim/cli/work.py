"""How far a long piece of work of a verb is: a line of stderr where that is a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic

from lit_optim.progress_line import Field, Pace, ProgressLine, duration_text, is_terminal

__all__ = ["Work"]

_SHORT = 0.5  # seconds of work that nothing is shown of
_REDRAWN = 0.1  # seconds


class Work:
    """A context in which each call says that one more part is done; the line is gone at the end.

    Args:
        what: What is being done: ``reading runs``.
        total: How many parts there are.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._line: ProgressLine | None = None
        self._pace = Pace()
        self._is_watched = is_terminal(sys.stderr)
        self._redraw_at = monotonic() + _SHORT

    def __enter__(self) -> Work:
        self._left()
        return self

    def __call__(self, part: object = None, fields: Sequence[Field] = ()) -> None:
        """One more is done.

        Args:
            part: Anything.
            fields: What else the line says, behind the time left.
        """
        self._done += 1
        if self._is_watched and monotonic() >= self._redraw_at:
            self._line = ProgressLine(sys.stderr) if self._line is None else self._line
            head = f"{self._what} {self._done:{len(f'{self._total:,}')},}/{self._total:,}"
            self._line.show(head, self._done / self._total, [*self._left(), *fields])
            self._redraw_at = monotonic() + _REDRAWN

    def __exit__(self, *raised: object) -> None:
        if self._line is not None:
            self._line.finish()

    def _left(self) -> list[Field]:
        left = self._pace.left({self._what: self._done / max(1, self._total)}, monotonic())
        return [] if left is None else [Field(f"{duration_text(left)} left")]
