"""Rows of text as tables that fit the terminal: further columns stand in further tables below."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count

__all__ = ["ABSENT", "CUT", "NO_BREAK", "many", "shortened", "table", "terminal_width", "wrapped"]

ABSENT = "–"
"""The cell of a row that has nothing to say in a column."""

CUT = "…"
"""Stands for what is left out of a name or a cell that is too long."""

NO_BREAK = "\N{NO-BREAK SPACE}"
"""Joins words that are to stay on one line, see `wrapped`."""

_GAP = "  "
_NAME = (20 / 80, 34 / 80)  # of the width: down to the first the names give way where that saves a table
_NARROWEST = 20  # characters; below that nothing could be told apart


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Lay out rows under their headings, numbers to the right.

    Columns that don't fit go on in further tables below, each beginning with the names again; there, rows without
    anything to say are left out. A name or a cell that is too long is cut in its middle.

    Args:
        columns: One heading a column; the first is that of the rows' names.
        rows: As many cells each, the name first.
        width: Characters a line, at least 20; `terminal_width` if not given.

    Returns:
        Lines of plain text, none longer than the width and none ending in spaces.
    """
    width = max(_NARROWEST, width or terminal_width())
    names, *others = ([heading, *cells] for heading, *cells in zip(columns, *rows, strict=True))
    least, most = (min(max(map(len, names)), int(share * width)) for share in _NAME)
    others = [[_cut(cell, width - least - len(_GAP)) for cell in cells] for cells in others]
    widths = [max(map(len, cells)) for cells in others]
    most = min(most, width - max(widths, default=0) - len(_GAP))
    limit = min(range(most, least - 1, -1), key=lambda limit: len(_parts(widths, width - limit)))
    names = [cell.ljust(limit) for cell in (_cut(names[0], limit), *shortened(names[1:], limit))]
    parts = _parts(widths, width - limit)
    tables = (_lines(names, [others[i] for i in part], goes_on=number > 0) for number, part in enumerate(parts))
    return "\n\n".join("\n".join(lines) for lines in tables)


def many(count: float, noun: str) -> str:
    """A number of things: ``1 tensor``, ``1,200 tensors``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def terminal_width() -> int:
    """Characters a line of the terminal has, at least 80."""
    return max(80, shutil.get_terminal_size((120, 24)).columns)


def wrapped(text: str, width: int) -> str:
    """A paragraph of lines up to ``width`` long, those after the first indented; a longer word stays whole.

    Words that a no-break space joins stay on one line; it comes out as a plain one.
    """
    lines = textwrap.fill(text, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return lines.replace(NO_BREAK, " ")


def shortened(names: Sequence[str], limit: int) -> list[str]:
    """Cut long names in the middle, so that different names stay different.

    All are cut at one place, near which the most of the end stands (``all.very_long…no_decay.depth11``); where no place
    tells them apart, they are numbered (``all.ve…2…decay.depth11``).

    Args:
        names: Any.
        limit: The longest that may come out.
    """
    usual = limit - 1 - _head(limit - 1)
    for end in sorted(range(1, limit - 1), key=lambda end: abs(end - usual)):
        cut = [_cut(name, limit, end) for name in names]
        if len({*cut}) == len({*names}):
            return cut
    told = {name: name for name in names if len(name) <= limit}
    for name in names:
        if name not in told:
            numbered = (_cut(name, limit, mark=f"…{number}…") for number in count(2))
            told[name] = next(text for text in chain([_cut(name, limit)], numbered) if text not in told.values())
    return [told[name] for name in names]


def _cut(text: str, limit: int, end: int | None = None, mark: str = "…") -> str:
    """The text, or its first and its last characters (``end`` of them) around a mark."""
    if len(text) <= limit:
        return text
    left = max(0, limit - len(mark))
    end = left - _head(left) if end is None else end
    return text[: left - end] + mark + text[len(text) - end :]


def _head(limit: int) -> int:
    return limit * 2 // 5  # names differ towards their ends


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns that stand in each table, by index."""
    parts: list[list[int]] = [[]]
    left = room
    for index, needed in enumerate(widths):
        if needed + len(_GAP) > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append(index)
        left -= needed + len(_GAP)
    return parts


def _lines(names: Sequence[str], columns: Sequence[Sequence[str]], goes_on: bool) -> Iterator[str]:
    """One table; ``goes_on`` where it is not the first."""
    aligned = [_aligned(cells, max(map(len, cells))) for cells in columns]
    lines = [_GAP.join(cells).rstrip() for cells in zip(names, *aligned, strict=True)]
    yield lines[0]
    yield "─" * max(map(len, lines))
    for index, line in enumerate(lines[1:], 1):
        if not goes_on or any(cells[index] != ABSENT for cells in columns):
            yield line


def _aligned(cells: Sequence[str], width: int) -> list[str]:
    """Cells of one width, under their heading: to the right if all are numbers."""
    values = [cell for cell in cells[1:] if cell != ABSENT]
    if values and all(cell.lstrip("-.")[:1].isdigit() for cell in values):
        return [cell.rjust(width) for cell in cells]
    return [cell.ljust(width) for cell in cells]
