"""One line of a terminal, written over and over, that says how far something is: what matters least is left out first.

It is drawn by tqdm, so that other bars, and whatever is printed with ``tqdm.write``, keep out of its way.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TextIO

from tqdm.std import Bar, tqdm

from lit_optim.tables import shortened

__all__ = [
    "GAP",
    "Field",
    "Pace",
    "ProgressLine",
    "bar_line",
    "duration_text",
    "is_notebook",
    "is_terminal",
    "number_text",
]

GAP = "  "
"""Between two fields."""

_ROOM_FOR_A_BAR = 10  # characters; a field that may be left out is, where it would leave the bar fewer
_SHORTEST_BAR = 3  # below that the percentage stands alone
_LONGEST_BAR = 30
_NAME = 20  # characters of a metric's name
_TOO_SOON = 1.0  # seconds
_WIDTH, _ROWS = 100, 24  # where nothing tells


class Field(NamedTuple):
    """A part of the line.

    Args:
        text: What it says.
        rank: 0 for what stands as long as there is room; of the others, which go before, the highest goes first.
    """

    text: str
    rank: int = 0


def bar_line(head: str, share: float | None, fields: Iterable[Field], width: int, only_ascii: bool = False) -> str:
    """``head   24%|██▍       |  field  field``, at most ``width`` characters.

    Args:
        head: What is going on.
        share: How much of it is done, from 0 to 1; None where that is not known, and no bar then.
        fields: In their order.
        width: Characters a line.
        only_ascii: Whether the terminal can't show block characters.
    """
    kept = list(fields)
    percentage = "" if share is None else f"{GAP}{int(100 * share):3d}%"
    room = width - len(head) - len(percentage)
    for_a_bar = 0 if share is None else len("||") + _ROOM_FOR_A_BAR
    while _length(kept) + for_a_bar > room and any(field.rank for field in kept):
        kept.remove(max(reversed(kept), key=lambda field: field.rank))
    while kept and _length(kept) > room:
        kept.pop()
    bar, length = "", min(room - _length(kept) - len("||"), _LONGEST_BAR)
    if share is not None and length >= _SHORTEST_BAR:
        bar = f"|{Bar(share, length, charset=Bar.ASCII if only_ascii else Bar.UTF)}|"
    line = head + percentage + bar + "".join(GAP + field.text for field in kept)
    return line[:width].rstrip()


def number_text(name: str, value: object) -> str:
    """A named value, four digits of it: ``val/acc 0.9137``; a long name is cut in its middle."""
    [name] = shortened([name], _NAME)
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"


def duration_text(seconds: float) -> str:
    """``0:07``, ``1:02:07``, ``2 d 03 h``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02d} h"
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a line there can be written over."""
    return stream is not None and stream.isatty()


def is_notebook() -> bool:
    """Whether stdout is the output of a notebook's cell, which takes a carriage return as a terminal does."""
    return type(sys.stdout).__module__.startswith("ipykernel.")


class Pace:
    """The time left, by the mean speed since it was first asked for.

    Nothing is foreseen that may end the work before its time, and what takes time now and then, as validation does,
    counts with the time that it has taken so far.
    """

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, float]] = {}  # of each end, the first share that is known, and when

    def left(self, shares: Mapping[str, float], now: float) -> float | None:
        """Seconds to the end that comes first; None while there is nothing to go by, and in the first second.

        Args:
            shares: How much is done, from 0 to 1, of the way to each end that there may be.
            now: In seconds of any clock that doesn't go back.
        """
        each = []
        for end, share in shares.items():
            before, since = self._began.setdefault(end, (share, now))
            if share > before and now - since >= _TOO_SOON:
                each.append((1 - share) / (share - before) * (now - since))
        return min(each, default=None)


class ProgressLine(tqdm):  # type: ignore[misc]  # which has no types
    """The line on a screen; nothing is drawn before `show`.

    Args:
        screen: A terminal, or a notebook's stdout.
    """

    monitor_interval = 0  # no thread that redraws: a process that forks would keep its half of it

    def __init__(self, screen: TextIO) -> None:
        self._shown: tuple[str, float | None, Sequence[Field]] = "", None, ()
        self._screen = screen
        super().__init__(file=screen, ncols=_WIDTH, nrows=_ROWS, leave=True)

    def show(self, head: str, share: float | None, fields: Sequence[Field]) -> None:
        """Write it over; see `bar_line`."""
        self._shown = head, share, fields
        self.refresh()

    def finish(self, leave: bool = False) -> None:
        """End it, with what stands there left or taken away."""
        self.leave = leave
        self.close()

    def __str__(self) -> str:
        return bar_line(*self._shown, _width(self._screen), self.ascii is True)


def _width(screen: TextIO) -> int:
    """Of a terminal as it is now; tqdm's own look at it draws nothing where its height is not known."""
    try:
        columns = os.get_terminal_size(screen.fileno()).columns
    except (OSError, ValueError):  # no terminal, or one that stands in for it
        columns = 0
    return columns or shutil.get_terminal_size((_WIDTH, _ROWS)).columns


def _length(fields: Sequence[Field]) -> int:
    return sum(len(GAP) + len(field.text) for field in fields)
