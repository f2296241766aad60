"""``lit-optim compare``: which of the runs was best, and what differed, from what they left behind."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_optim.cli.overrides import as_typed
from lit_optim.cli.parser import Parser
from lit_optim.cli.reporting import report
from lit_optim.cli.work import Work
from lit_optim.errors import ConfigError, LitOptimError, Mistake, nearest

if TYPE_CHECKING:
    from lit_optim.runs.comparison import Comparison
    from lit_optim.runs.curves import Spread
    from lit_optim.runs.metric import Mode
    from lit_optim.runs.reading import Run

__all__ = ["print_comparison", "run"]

_WHAT = "Tells which run was best and what differed: a line a run, or a line for runs that differ by their seeds alone."
_FORMATS = (".png", ".svg", ".pdf")
_MODES = ("min", "max")
_OF_A_RUN = ("metrics.*", "plan.*", "trackers.json", "findings.txt", "events.out.tfevents.*")
_BANDS = ("range", "std")
_FLAGS = ("--metric", "--mode", "--no-pool", "--plot", "--tag", "--band", "--csv", "--json", "--help")
_FOLDER = "this is a folder"
_SHOWN = 20  # warnings


def run(arguments: Sequence[str]) -> int:
    """The verb.

    Returns:
        0 with a comparison, 1 where something is wrong, 130 after an interrupt.
    """
    try:
        own = _parsed(arguments)
        if own is not None:
            _compare(own)
    except LitOptimError as error:
        report(error)
        return 1
    except KeyboardInterrupt:
        print("lit-optim: interrupted", file=sys.stderr)
        return 130
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace | None:
    """The flags, checked; None where only help was asked for."""
    parser = Parser("lit-optim compare", add_help=False, allow_abbrev=False, description=_WHAT)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="the folder of a run, of a sweep, or of many; a pattern")
    parser.add_argument("--metric", metavar="TAG", help="sort by this (the runs' optimized_metric)")
    parser.add_argument("--mode", metavar="min|max", help="whether less or more of it is better (from config or name)")
    parser.add_argument("--no-pool", action="store_true", help="a line for every run, also where only seeds differ")
    parser.add_argument("--plot", metavar="FILE", help="draw curves into an image file")
    parser.add_argument("--tag", help="what is drawn (the metric)")
    parser.add_argument("--band", metavar="|".join(_BANDS), help="what is drawn around the mean over seeds (range)")
    to: dict[str, Any] = {"nargs": "?", "const": "-", "metavar": "FILE"}
    parser.add_argument("--csv", **to, help="write the table as CSV; without a FILE, print it in place of the table")
    parser.add_argument("--json", **to, help="write or print all of it as JSON")
    parser.add_argument("-h", "--help", action="store_true", help="show this")
    own, unknown = parser.parse_known_intermixed_args(list(arguments))
    if own.help:
        print(parser.format_help(), end="")
        return None
    mistakes = [
        Mistake("lit-optim compare", "no such flag", flag, _FLAGS, nearest(flag, _FLAGS), "correct it or leave it out")
        for flag in (one.partition("=")[0] for one in unknown if one.startswith("-"))
    ]
    for flag in ("csv", "json"):
        if getattr(own, flag) is not None and _why_not(Path(getattr(own, flag))) == _FOLDER:  # --json runs/a
            own.runs.append(getattr(own, flag))
            setattr(own, flag, "-")
    if not own.runs:
        mistakes.append(Mistake("RUN", "no run is named", remedy="lit-optim compare runs compares all in that folder"))
    mistakes += [
        Mistake(f"--{name}", "there is no such choice", given, choices, nearest(given, choices), "name one of these")
        for name, given, choices in (("mode", own.mode, _MODES), ("band", own.band, _BANDS))
        if given not in (None, *choices)
    ]
    mistakes += [
        Mistake(f"--{name}", "it says what to draw, and nothing is drawn", given, remedy="add --plot FILE")
        for name, given in (("tag", own.tag), ("band", own.band))
        if given is not None and own.plot is None
    ]
    mistakes += _file_mistakes(own)
    if mistakes:
        raise ConfigError(*mistakes)
    return own


def _file_mistakes(own: argparse.Namespace) -> list[Mistake]:
    """What keeps the files from being written; told before the work."""
    mistakes = []
    given = [(f"--{name}", getattr(own, name)) for name in ("plot", "csv", "json") if getattr(own, name) is not None]
    for flag, text in given:
        path = Path(text)
        problem = None if text == "-" and flag != "--plot" else _why_not(path)
        remedy = "give a file in a folder that you may write to"
        if flag == "--plot":
            remedy += ", ending in .png, .svg or .pdf"
            if path.suffix.lower() not in _FORMATS:
                problem = problem or "no format for this suffix"
        # Path.absolute leaves a/../b as it is, and Path.resolve raises on links that lead in a circle
        if [os.path.abspath(other) for _, other in given].count(os.path.abspath(text)) > 1:  # noqa: PTH100
            problem = problem or "two things can't go into one file"
        if problem is not None:
            mistakes.append(Mistake(flag, problem, text, remedy=remedy))
    return mistakes


def _why_not(path: Path) -> str | None:
    """Why a file may not be written; one that is there is written over, unless a run has made it."""
    try:
        if path.is_dir():
            return _FOLDER
        if not path.parent.is_dir():
            return "there is no such folder"
        of_a_run = any(map(path.match, _OF_A_RUN)) and (path.parent / ".hydra").is_dir()
        if path.exists() and (of_a_run or path.absolute().parent.name in (".hydra", "checkpoints")):
            return "this file belongs to a run"
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            return "it can't be written: permission denied"
    except OSError as error:
        return f"it can't be written: {error.strerror}"
    return None


def _compare(own: argparse.Namespace) -> None:
    from lit_optim.runs.comparison import compare
    from lit_optim.runs.finding import find_runs
    from lit_optim.runs.reading import read_run
    from lit_optim.runs.telling import as_csv, as_json

    folders = find_runs(own.runs)
    runs = []
    with Work("reading runs", len(folders)) as tick:
        for folder in folders:
            runs.append(read_run(folder))
            tick()
    with Work("reading curves", len(runs)) as tick:
        comparison = compare(runs, own.metric, own.mode, not own.no_pool, tick)
    problems = list(comparison.problems)
    again = None if comparison.winner is None else _again(comparison.winner, problems)
    if own.plot is not None:
        _draw(comparison, own.tag, own.band or "range", Path(own.plot), problems)
    if own.csv is not None:
        _write("--csv", own.csv, as_csv(comparison))
    if own.json is not None:
        _write("--json", own.json, as_json(comparison, again))
    if "-" not in (own.csv, own.json):
        _print(comparison, again)
    _warn(problems)


def print_comparison(runs: Sequence[Run], mode: Mode | None = None) -> None:
    """What ``lit-optim compare`` prints of runs that are read already; nothing where no run has the metric they name.

    Args:
        runs: Two or more.
        mode: Which way of their metric is better; see `lit_optim.runs.metric.metric_of`.
    """
    from lit_optim.runs.comparison import compare

    with Work("reading curves", len(runs)) as tick:
        try:
            comparison = compare(runs, mode=mode, tick=tick)
        except ConfigError:
            return
    problems = list(comparison.problems)
    _print(comparison, None if comparison.winner is None else _again(comparison.winner, problems))
    _warn(problems)


def _print(comparison: Comparison, again: str | None) -> None:
    from lit_optim.runs.telling import as_text

    print(as_text(comparison), *([] if again is None else [f"again      {again}"]), sep="\n", flush=True)


def _again(winner: Run, problems: list[str]) -> str | None:
    """The command that runs the winner once more, to be pasted into a shell."""
    from lit_optim.runs.reading import Unreadable, config_folder_of, overrides_of

    try:
        overrides = as_typed(overrides_of(winner.folder))
    except Unreadable as error:
        problems.append(f"{error}; so the command that runs it again can't be told")
        return None
    folder = config_folder_of(winner.folder)
    flags = [] if folder is None else ["--config-dir", folder]
    return shlex.join(["lit-optim", "train", *flags, *overrides])


def _draw(comparison: Comparison, tag: str | None, band: Spread, path: Path, problems: list[str]) -> None:
    from lit_optim.runs.curves import bands
    from lit_optim.runs.telling import row_labels
    from lit_optim.runs_figure import save_bands

    if tag is None and comparison.metric is None:
        remedy = "wait for the first validation, or name what to draw: --tag train/loss"
        raise ConfigError(Mistake("--plot", "no run has a metric yet", str(path), remedy=remedy))
    tag = tag or str(comparison.metric and comparison.metric.name)
    named = list(zip(row_labels(comparison), (row.counted for row in comparison.rows), strict=True))
    with Work("reading curves", sum(len(runs) for _, runs in named)) as tick:
        found = bands(named, tag, problems, tick, band)
    try:
        save_bands(found, tag, path, band)
    except OSError as error:
        remedy = "give a file in a folder that you may write to, ending in .png, .svg or .pdf"
        raise ConfigError(Mistake("--plot", str(error), str(path), remedy=remedy)) from error
    print(f"drawn: {path}", file=sys.stderr)


def _write(flag: str, given: str, text: str) -> None:
    if given == "-":
        print(text, end="")
        return
    try:
        Path(given).write_text(text, encoding="utf-8")
    except OSError as error:
        remedy = "give a file in a folder that you may write to"
        raise ConfigError(Mistake(flag, str(error), given, remedy=remedy)) from error
    print(f"written: {given}", file=sys.stderr)


def _warn(problems: Sequence[str]) -> None:
    for problem in problems[:_SHOWN]:
        print(f"warning: {problem}", file=sys.stderr)
    if len(problems) > _SHOWN:
        print(f"warning: and {len(problems) - _SHOWN:,} more", file=sys.stderr)
