"""The curves of a run from whatever it logged them to: its events files, and what its ``metrics.csv`` has beside."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lit_optim.errors import RunError
from lit_optim.metrics_table import NAME, read_column, read_tags
from lit_optim.runs import events
from lit_optim.runs.events import Curve

__all__ = ["Curve", "curve_of", "tags_of"]


def curve_of(folder: Path, tag: str) -> tuple[Curve, list[str]]:
    """As `events.curve_of`."""
    curve, problems = events.curve_of(folder, tag)
    table = folder / NAME
    if not table.exists():
        return curve, problems
    try:
        column, is_whole = read_column(table, tag)
    except (OSError, UnicodeDecodeError, RunError) as error:
        return curve, [*problems, f"{table}: it can't be read: {error}"]
    damaged = [] if is_whole else [f"{table}: it is cut off or damaged; what stands before that is used"]
    return dict(sorted((column | curve).items())), [*problems, *damaged]


def tags_of(folder: Path) -> Collection[str]:
    """The tags of all curves of a run."""
    try:
        return {*events.tags_of(folder), *read_tags(folder / NAME)}
    except (OSError, UnicodeDecodeError, RunError):
        return events.tags_of(folder)
