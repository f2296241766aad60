"""``metrics.csv``: a row for each time that something was logged and a column for each tag, written and read."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lit_optim.errors import Mistake, RunError

__all__ = ["NAME", "MetricsTable", "read_column", "read_tags"]

NAME = "metrics.csv"
"""What the file is called in a run's folder."""

_STEP = "step"


class MetricsTable:
    """A CSV file that grows: its first column is ``step``, and a tag that comes later is a new last one.

    The header is all that is kept in memory. Rows are with the operating system once `append` returns; whatever changes
    more than the end of the file writes a new one beside it, so that a kill leaves the old one or the new.

    Args:
        path: The file; rows that are in it stay.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tags: list[str] | None = None  # until the file is looked at

    def append(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Add rows.

        Args:
            rows: The step of each, and its values by tag.

        Raises:
            RunError: The file is there, and is another kind of file.
        """
        rows = [*rows]
        tags = self._known()
        new = {tag: None for _, values in rows for tag in values if tag not in tags}
        if new or not self.path.exists():
            tags = self._rewritten([*tags, *new])
        text = _text([step, *(values.get(tag, "") for tag in tags)] for step, values in rows)
        with self.path.open("ab", buffering=0) as file:  # all of it in one call
            file.write(text.encode())

    def drop_from(self, step: int) -> None:
        """Remove the rows of this step and of later ones.

        Raises:
            RunError: The file is there, and is another kind of file.
        """
        if self.path.exists():
            self._rewritten(self._known(), step)

    def check(self) -> None:
        """See whether rows can join it.

        Raises:
            RunError: It is another kind of file.
        """
        self._known()

    def _known(self) -> list[str]:
        if self._tags is None:
            self._tags = read_tags(self.path)
            if self._tags and not _ends_a_line(self.path):  # a kill broke its last row off
                self._rewritten(self._tags)
        return self._tags

    def _rewritten(self, tags: list[str], before: int | None = None) -> list[str]:
        partial = self.path.with_name(f"{self.path.name}.tmp")
        more = "," * (len(tags) - len(self._tags or ()))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(_text([[_STEP, *tags]]))
            kept = _rows(self.path) if before is None else _rows_before(self.path, before)
            file.writelines(f"{row}{more}\n" for row in kept)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
        self._tags = tags
        return tags


def read_tags(path: Path) -> list[str]:
    """The tags of a table, in the order of its columns; none where there is no file.

    Raises:
        RunError: It is another kind of file.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        first, *tags = next(csv.reader(file), [_STEP])
    if first != _STEP:
        raise RunError(Mistake("metrics.csv", "its first column is not 'step'", str(path), remedy="move it away"))
    return tags


def read_column(path: Path, tag: str) -> tuple[dict[int, float], bool]:
    """The values of one tag by their steps, a later row winning; empty where it has none.

    Returns:
        The values, and whether the file is whole; one that isn't counts up to there.

    Raises:
        OSError: It can't be read.
        RunError: It is another kind of file.
    """
    tags = read_tags(path)
    if tag not in tags:
        return {}, True
    column = tags.index(tag) + 1
    found = {}
    for row in _rows(path):
        cells = row.split(",")
        try:
            if cells[column]:
                found[int(cells[0])] = float(cells[column])
        except (ValueError, IndexError):
            return found, False
    return found, _ends_a_line(path)


def _rows_before(path: Path, step: int) -> Iterator[str]:
    for row in _rows(path):
        number = row.partition(",")[0]
        if not number.isdecimal():
            problem = f"a row begins with {number[:20]!r}, which is no step"
            raise RunError(Mistake("metrics.csv", problem, str(path), remedy="mend that row, or move the file away"))
        if int(number) < step:
            yield row


def _rows(path: Path) -> Iterator[str]:
    """The lines below the header, as far as they are whole."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", newline="") as file:
        next(csv.reader(file), None)  # whose names may hold line breaks; a row has numbers alone
        for line in file:
            if line.endswith("\n"):
                yield line[:-1]


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _text(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
