"""A comparison as text for the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_optim.runs.comparison import Comparison, Row
from lit_optim.runs.finding import natural
from lit_optim.runs.intervals import CONFIDENCE, Difference, Sample
from lit_optim.runs.layout import labelled, laid_out
from lit_optim.runs.reading import Run
from lit_optim.runs.settings import value_text
from lit_optim.tables import ABSENT, NO_BREAK, many, terminal_width, wrapped

__all__ = ["as_csv", "as_json", "as_text", "row_labels"]

_LONGEST = 28  # characters of the runs' names in one row
_DIGITS = 4  # of a long number, if these tell it from the others
_LONG_NUMBER = re.compile(r"-?\d+\.\d{6,}(e[-+]\d+)?")
_GO_ON = 3  # commands that go on with a run
_TAGS = 6  # of runs that lack the metric
_LABEL = 44  # characters of a row's label
_ORDER = {"max": "higher is better", "min": "lower is better"}


def as_text(comparison: Comparison, width: int | None = None) -> str:
    """The table, and what follows from it.

    Args:
        comparison: Any.
        width: Characters a line; the terminal's if not given.
    """
    width = width or terminal_width()
    names, settings = _names(comparison.rows), _settings(comparison)
    rest = _rest(comparison)
    untimed = {heading: cells for heading, cells in rest.items() if heading != "time"}
    grids = [laid_out(names, _results(comparison), settings, last, width) for last in (rest, untimed)]
    grid = min(grids, key=lambda text: text.count("\n"))  # the time is not worth a table of its own
    return "\n".join([grid, "", *(wrapped(line, width) for line in _notes(comparison))])


def as_csv(comparison: Comparison) -> str:
    """A line a row, numbers with all their digits; a setting that a run lacks is empty."""
    metric = "" if comparison.metric is None else comparison.metric.name
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    of_metric = [f"{which} {metric}{part}".strip() for which in ("best", "last") for part in ("", " std")]
    writer.writerow(["run", "status", "n", *of_metric, *comparison.keys, "steps", "epochs", "seconds"])
    for row in comparison.rows:
        numbers = [repr(value) for one in (row.best, row.last) for value in (one.mean, one.std)]
        there = [bool(row.best.n), row.best.n > 1, bool(row.last.n), row.last.n > 1]
        said = [_cell(row, key, "") for key in comparison.keys]
        means = [_mean_of(row, name) for name in ("steps", "epochs", "seconds")]
        writer.writerow(
            [
                ";".join(str(run.folder) for run in row.runs),
                _status(row),
                row.best.n,
                *(number if known else "" for number, known in zip(numbers, there, strict=True)),
                *said,
                *("" if mean is None else f"{mean:.12g}" for mean in means),
            ]
        )
    return file.getvalue()


def as_json(comparison: Comparison, command: str | None = None) -> str:
    """All of it as data; what is not a finite number is null.

    Args:
        comparison: Any.
        command: What runs the winner again.
    """
    metric, winner, plans = comparison.metric, comparison.winner, comparison.plans
    told = {
        "metric": metric and metric.name,
        "mode": metric and metric.mode,
        "differing": list(comparison.keys),
        "rows": [_row_as_data(row, comparison.keys) for row in comparison.rows],
        "difference": comparison.difference and _difference_as_data(comparison.difference),
        "plans": plans and {"from": str(plans[0].folder), "to": str(plans[1].folder), "changes": list(plans[2])},
        "winner": winner and {"run": str(winner.folder), "command": command},
        "problems": list(comparison.problems),
    }
    return json.dumps(told, indent=2) + "\n"


def row_labels(comparison: Comparison) -> list[str]:
    """What tells each row from the others: the settings that differ if they are short, else the names of its runs."""
    labels = labelled(_settings(comparison))
    tells = labels and max(map(len, labels)) <= _LABEL and len({*labels}) == len(labels)
    return labels if tells else _names(comparison.rows)


def _settings(comparison: Comparison) -> dict[str, Sequence[str]]:
    """What the rows say under each key that differs."""
    return {key: _rounded([_cell(row, key, ABSENT) for row in comparison.rows]) for key in comparison.keys}


def _names(rows: Sequence[Row]) -> list[str]:
    """A name for each row: its runs' folders, below the one that holds them all."""
    base = _base([run for row in rows for run in row.runs])
    folders = ([run.folder.absolute().relative_to(base) for run in row.runs] for row in rows)
    return [_together([str(folder) for folder in sorted(of_row, key=natural)]) for of_row in folders]


def _results(comparison: Comparison) -> dict[str, list[str]]:
    """The columns that rows are judged by."""
    rows, metric = comparison.rows, comparison.metric
    if metric is None:
        return {}
    several = {"n": [str(row.best.n) for row in rows]} if any(len(row.runs) > 1 for row in rows) else {}
    return {f"best {metric.name}": [_sample_text(row.best) for row in rows], **several}


def _rest(comparison: Comparison) -> dict[str, list[str]]:
    """What else is known of rows."""
    rows, metric = comparison.rows, comparison.metric
    last = {} if metric is None else {f"last {metric.name}": [_sample_text(row.last) for row in rows]}
    times = [_time(_mean_of(row, "seconds")) for row in rows]
    statuses = {} if _all_finished(comparison) else {"status": [*map(_status, rows)]}
    return {**last, "steps": [*map(_steps, rows)], "time": times, **statuses}


def _all_finished(comparison: Comparison) -> bool:
    return all(run.status == "finished" for run in comparison.runs)


def _notes(comparison: Comparison) -> Iterator[str]:
    runs, rows, metric = comparison.runs, comparison.rows, comparison.metric
    guess = ", which is assumed; else lit-optim compare --mode min" if metric is not None and metric.is_guess else ""
    by = "no run has a metric yet" if metric is None else f"by best {metric.name} ({_ORDER[metric.mode]}{guess})"
    means = "; mean ± standard deviation over n seeds" if any(row.best.n > 1 for row in rows) else ""
    nothing = "" if comparison.keys or len(rows) < 2 else "; no setting differs"
    finished = ", all finished" if _all_finished(comparison) else ""
    ends = {row.is_finished for row in rows if row.best.n and row.is_readable}
    first = ", those that have finished first" if len(ends) > 1 else ""
    yield f"{many(len(runs), 'run')} in {_shown(_base(runs))}{finished}, {by}{first}{means}{nothing}"
    left_out = [run for row in rows for run in row.left_out]
    if left_out:
        each = ", ".join(f"{_short(run, runs)} ({run.status})" for run in left_out[:8])
        more = f" and {len(left_out) - 8:,} more" if len(left_out) > 8 else ""
        yield f"not in the means of their rows: {each}{more}"
    apart = [run for row in rows if not row.best.n for run in row.runs if run.final]
    if metric is not None and apart:
        tags = sorted({tag for run in apart for tag in run.final})
        more = f" and {len(apart) - 1:,} more" if len(apart) > 1 else ""
        yield f"{_short(apart[0], runs)}{more} without {metric.name}; --metric compares by {', '.join(tags[:_TAGS])}"
    repeated = sum(len(row.runs) - len(row.left_out) - row.best.n for row in rows if row.best.n)
    if repeated:
        yield f"{many(repeated, 'run')} with the seed and the settings of another: such runs count once, by their mean"
    if comparison.difference is not None:
        judged = sum(math.isfinite(row.best.mean) for row in rows)
        chosen = f"; optimistic, since they are the best two of {judged} rows" if judged > 2 else ""
        yield _difference_text(comparison.difference) + chosen
    if comparison.plans is not None:
        one, other, changes = comparison.plans
        between = f"plans, {_short(one, runs)} → {_short(other, runs)}:"
        yield between if changes else f"{between} the same"
        yield from (f"    {change}" for change in changes)
    unfinished = [run for run in runs if run.can_go_on]
    for run in unfinished[:_GO_ON]:
        yield f"goes on    {_resume(run).replace(' ', NO_BREAK)}"
    if len(unfinished) > _GO_ON:
        yield f"    and likewise {len(unfinished) - _GO_ON:,} more that were killed or crashed"
    if comparison.winner is not None:
        so_far = "" if comparison.winner.status == "finished" else f" ({comparison.winner.status}, so far)"
        yield f"best run   {_shown(comparison.winner.folder.absolute())}{so_far}"


def _difference_text(found: Difference) -> str:
    what = f"first row less second: {found.mean:+.4g}"
    if found.low is None or found.high is None:
        there = " and ".join(map(str, found.counts))
        return f"{what}; no interval: it takes 2 seeds or more in each row, and there are {there}"
    how = (
        f"paired by {many(found.counts[0], 'seed')}"
        if found.kind == "paired"
        else f"Welch, n {found.counts[0]} and {found.counts[1]}"
    )
    says = "holds 0: they can't be told apart" if found.low <= 0 <= found.high else "leaves out 0"
    if found.low == found.high:
        says = "has no width: so few values that don't vary tell nothing of how others would"
    return f"{what}, {CONFIDENCE:.0%} interval {found.low:+.4g} to {found.high:+.4g} ({how}), which {says}"


def _sample_text(sample: Sample) -> str:
    if not sample.n:
        return ABSENT
    spread = f" ± {sample.std:.2g}" if sample.n > 1 else ""
    return f"{sample.mean:.5g}{spread}"


def _cell(row: Row, key: str, absent: str) -> str:
    """What the row says under a setting; of the seed, all that its runs have."""
    if row.settings is None or key not in row.settings:
        return absent
    if key == "seed":
        seeds = dict.fromkeys(value_text(run.seed) for run in sorted(row.runs, key=lambda run: _by_number(run.seed)))
        return ", ".join(seeds)
    return value_text(row.settings[key])


def _rounded(cells: Sequence[str]) -> Sequence[str]:
    """Long numbers, such as a search draws, with the few digits that tell them apart."""
    for digits in range(_DIGITS, 17):
        rounded = [f"{float(cell):.{digits}g}" if _LONG_NUMBER.fullmatch(cell) else cell for cell in cells]
        if len({*rounded}) == len({*cells}):
            return rounded
    return cells


def _by_number(seed: Any) -> tuple[bool, float, str]:
    is_number = isinstance(seed, (int, float))
    return not is_number, seed if is_number else 0, str(seed)


def _status(row: Row) -> str:
    statuses = row.statuses
    if len(statuses) == 1:
        return row.runs[0].status
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def _steps(row: Row) -> str:
    steps = {run.steps for run in row.runs if run.steps is not None}
    if not steps:
        return ABSENT
    return f"{min(steps):,}" + (f" to {max(steps):,}" if len(steps) > 1 else "")


def _mean_of(row: Row, name: str) -> float | None:
    values = [getattr(run, name) for run in row.runs if getattr(run, name) is not None]
    return math.fsum(values) / len(values) if values else None


def _time(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _row_as_data(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    settings = row.settings or {}
    return {
        "runs": [
            {
                "folder": str(run.folder),
                "seed": _plain(run.seed),
                "status": run.status,
                "error": run.error,
                "steps": run.steps,
                "epochs": run.epochs,
                "seconds": _finite(run.seconds),
                "resume": _resume(run) if run.can_go_on else None,
                "counted": run not in row.left_out and bool(row.best.n),
            }
            for run in row.runs
        ],
        "status": _status(row),
        "n": row.best.n,
        "best": _sample_as_data(row.best),
        "last": _sample_as_data(row.last),
        "settings": {key: _plain(settings[key]) for key in keys if key in settings and key != "seed"},
    }


def _sample_as_data(sample: Sample) -> dict[str, Any] | None:
    values = [_finite(value) for value in sample.by_seed.values()]
    return {"mean": _finite(sample.mean), "std": _finite(sample.std), "values": values} if values else None


def _difference_as_data(found: Difference) -> Mapping[str, Any]:
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "confidence": CONFIDENCE,
        "kind": found.kind,
        "n": list(found.counts),
    }


def _plain(value: Any) -> Any:
    """A setting in what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    is_plain = (
        value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    )
    return value if is_plain else str(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _together(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(names) < 2 or len(text) <= _LONGEST else f"{names[0]} and {len(names) - 1:,} more"


def _base(runs: Sequence[Run]) -> Path:
    return Path(os.path.commonpath([run.folder.absolute().parent for run in runs]))


def _short(run: Run, runs: Sequence[Run]) -> str:
    return str(run.folder.absolute().relative_to(_base(runs)))


def _resume(run: Run) -> str:
    """The command that goes on with it."""
    return shlex.join(["lit-optim", "resume", _shown(run.folder.absolute())])


def _shown(path: Path) -> str:
    """Relative to the working directory where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
