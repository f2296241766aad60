"""Rows of text as a table that fits the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from io import StringIO

__all__ = ["table"]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Lay out rows under their headings, long cells folded, numbers to the right.

    Args:
        columns: One heading a column.
        rows: As many cells each.
        width: Characters a line; that of the terminal (at least 80) if not given.

    Returns:
        Lines of plain text, without trailing spaces.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    cells = [list(row) for row in rows]
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, heading in enumerate(columns):
        numeric = all(row[index][:1].isdigit() for row in cells)
        grid.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        grid.add_row(*row)
    width = width or max(80, shutil.get_terminal_size((120, 24)).columns)
    plain = {"color_system": None, "markup": False, "highlight": False, "emoji": False, "force_jupyter": False}
    console = Console(file=StringIO(), width=width, **plain)  # type: ignore[arg-type]
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")
