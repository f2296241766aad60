"""Paths, globs and whole trees → the folders of the runs in them, each once and in an order that doesn't change."""

from __future__ import annotations

import glob
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lit_optim.errors import Mistake, RunError, nearest

__all__ = ["find_runs", "natural"]

_SIGNS = frozenset({".hydra", "metrics.json"})
_SIGNS_TEXT = ".hydra/ or metrics.json"
_DEPTH = 10  # folders below a path that was given
_BEYOND_A_LINK = 3  # an experiment, a sweep, its jobs: a link to the root of the disk is not a tree of runs
_NO_RUNS_IN = ("checkpoints",)


def find_runs(given: Sequence[str]) -> list[Path]:
    """The folders of all runs in and below what is given; a run that several paths lead to is there once.

    A link is followed after the folders that are really there, so it names a run only where nothing else does.

    Args:
        given: Folders of runs, folders that hold runs at any depth, and patterns of such (``runs/*/2026-11-*``).

    Raises:
        RunError: With every path that nothing answers to, and every one without a run.
    """
    runs: dict[tuple[int, int], Path] = {}
    mistakes = []
    for text in given:
        starts = _matching(text)
        found = [run for start in starts for run in _below(start)]
        for identity, folder in found:
            runs.setdefault(identity, folder)
        if not found:
            mistakes.append(_no_run_in(text) if starts else _nothing_at(text))
    if mistakes:
        raise RunError(*mistakes)
    return sorted(runs.values(), key=natural)


def natural(path: Path) -> list[list[str | int]]:
    """A key to sort paths by, under which job 2 comes before job 10."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in path.parts]


def _matching(text: str) -> list[Path]:
    """The folders that a path or a pattern stands for; a path that is there is no pattern."""
    path = _path(text)
    found = [path] if _is_there(path) else _globbed(str(path))
    return [one for one in found if text and one.is_dir()]  # an empty text, of a variable that is not set, is no path


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's raises where there is no such user


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a name can be
        return False


def _globbed(pattern: str) -> list[Path]:
    return [Path(one) for one in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - Path's takes no absolute one


def _below(start: Path) -> Iterator[tuple[tuple[int, int], Path]]:
    """The runs in a tree, each with what tells it from all other folders of this machine."""
    seen = {_identity(above) for above in start.resolve().parents}  # a link that leads up leads out of what was given
    folders, links = deque([(start, _DEPTH)]), deque[tuple[Path, int]]()
    while folders or links:
        folder, depth = folders.popleft() if folders else links.popleft()
        try:
            identity = _identity(folder)
            if identity in seen:
                continue
            seen.add(identity)
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:  # gone meanwhile, or not for us to read
            continue
        if _SIGNS & {entry.name for entry in entries}:
            yield identity, folder
        for entry in entries if depth else ():
            if not entry.name.startswith(".") and entry.name not in _NO_RUNS_IN and _is_folder(entry):
                if entry.is_symlink():
                    links.append((folder / entry.name, min(depth - 1, _BEYOND_A_LINK)))
                else:
                    folders.append((folder / entry.name, depth - 1))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _no_run_in(text: str) -> Mistake:
    remedy = "name the folder of a run, or one that holds runs at any depth: lit-optim compare runs"
    return Mistake("RUN", f"there is no run here: no folder in it holds {_SIGNS_TEXT}", text, remedy=remedy)


def _nothing_at(text: str) -> Mistake:
    """Nothing answers: tell from which folder on, and what is there."""
    path = _path(text)
    if text and _is_there(path):
        remedy = f"name the folder of the run: the one that holds {_SIGNS_TEXT}"
        return Mistake("RUN", "this is a file, and a folder is needed", text, remedy=remedy)
    parents = [Path(path.anchor)]
    for part in path.relative_to(path.anchor).parts:
        deeper = [one for parent in parents for one in _children(parent, part)]
        if not deeper:
            names = sorted({one.name for parent in parents for one in _children(parent, "*")})
            problem = "no such folder" if part == glob.escape(part) else "no folder matches"
            near = nearest(part, names)
            where = f" in {parents[0]}" if len(parents) == 1 else ""
            return Mistake("RUN", f"{problem}: {part!r}{where}", text, tuple(names), near, "correct the path")
        parents = deeper
    return Mistake("RUN", "no folder matches", text, remedy="correct the path")


def _children(parent: Path, part: str) -> Iterable[Path]:
    if part == "..":
        return [parent / part]
    return [one for one in _globbed(str(Path(glob.escape(str(parent))) / part)) if one.is_dir()]
