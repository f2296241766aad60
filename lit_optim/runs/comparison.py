"""Runs → rows, best first: what differs between them, and how sure it is that the first is better than the second."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_optim.runs.curves import recorded_tags
from lit_optim.runs.intervals import Difference, Sample, difference
from lit_optim.runs.logged import Curve, curve_of
from lit_optim.runs.metric import Metric, Mode, metric_of
from lit_optim.runs.reading import UNREADABLE, Run, Unreadable, plan_of
from lit_optim.runs.settings import differing, identity

__all__ = ["Comparison", "Row", "compare"]

_SEED = "seed"
_Tick = Callable[[Run], None]


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but their seeds, or one run.

    Args:
        runs: All of them, those with the best values first.
        best: Each seed's best value of the metric.
        last: Each seed's last value.
        left_out: Runs that the values are not of: those that have none, and, where others of the row have finished,
            those that have not.
    """

    runs: tuple[Run, ...]
    best: Sample
    last: Sample
    left_out: tuple[Run, ...] = ()

    @property
    def counted(self) -> list[Run]:
        """The runs that the values are of."""
        return [run for run in self.runs if run not in self.left_out]

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """Of the first; None where its config is not known."""
        return self.runs[0].settings

    @property
    def statuses(self) -> Counter[str]:
        """How many of its runs have each status."""
        return Counter(run.status for run in self.runs)

    @property
    def is_finished(self) -> bool:
        """Whether its values are of runs that have come to their end."""
        return all(run.status == "finished" for run in self.counted)

    @property
    def is_readable(self) -> bool:
        """Whether nothing of it is damaged."""
        return self.runs[0].status != UNREADABLE


@dataclass(frozen=True)
class Comparison:
    """What a comparison comes to.

    Args:
        metric: What the rows are sorted by; None where no run has a metric yet.
        rows: The best first, where one that has come to its end goes before all that have not: what they would have
            come to is not known. Those whose metric is NaN are behind all numbers, then come those without any, then
            those that can't be read.
        keys: The settings that differ between rows.
        difference: The first row's best values less the second's; None where there is nothing to compare.
        plans: The two runs whose plans are compared, and the differences in words; None where they are not.
        problems: What could not be read, a sentence each.
    """

    metric: Metric | None
    rows: tuple[Row, ...]
    keys: tuple[str, ...]
    difference: Difference | None = None
    plans: tuple[Run, Run, tuple[str, ...]] | None = None
    problems: tuple[str, ...] = ()

    @property
    def runs(self) -> list[Run]:
        """All runs, row by row."""
        return [run for row in self.rows for run in row.runs]

    @property
    def winner(self) -> Run | None:
        """The best run of the first row; None where that has no number. It is unfinished only where all are."""
        first = self.rows[0]
        return first.runs[0] if first.is_readable and math.isfinite(first.best.mean) else None


def compare(
    runs: Sequence[Run],
    metric: str | None = None,
    mode: Mode | None = None,
    pool: bool = True,
    tick: _Tick = lambda run: None,
) -> Comparison:
    """Compare runs.

    Args:
        runs: One or more.
        metric: The tag that counts; see `metric.metric_of`. Where no run has kept it, its curves are read.
        mode: ``min`` or ``max``; likewise.
        pool: Whether runs that differ only by their seeds share a row.
        tick: Called with each run whose curves are read, which is only where no run has kept the metric, or where
            what is best to the run itself (see `metric.falls`) is the worst here.

    Raises:
        ConfigError: No run has that metric.
    """
    problems = [problem for run in runs for problem in run.problems]
    curves: dict[Any, Curve] = {}
    recorded: list[str] = []
    if metric is not None and not any(metric in run.final or metric in run.best for run in runs):
        curves = _curves(runs, metric, problems, tick)
        recorded = [metric] if curves else recorded_tags(runs)
    chosen = metric_of(runs, metric, mode, recorded)
    if chosen is None:
        best, last = {}, {}
    elif curves:
        best = {folder: _best_of(curve, chosen) for folder, curve in curves.items()}
        last = {folder: [*curve.values()][-1] for folder, curve in curves.items()}
    else:
        best = _best_values(runs, chosen, problems, tick)
        last = {run.folder: run.final[chosen.name] for run in runs if chosen.name in run.final}
    pools: dict[Hashable, list[Run]] = {}
    for run in runs:
        pools.setdefault(_without_seed(run) if pool else run.folder, []).append(run)
    sign = -1 if chosen is not None and chosen.mode == "max" else 1
    rows = [_row(members, best, last, sign) for members in pools.values()]
    rows.sort(key=lambda row: _place(row, sign))
    compared = [*rows[:2]] if pool else []
    pair = [*runs] if len(runs) == 2 else [row.runs[0] for row in compared]
    return Comparison(
        metric=chosen,
        rows=tuple(rows),
        keys=tuple(_keys(rows, runs)),
        difference=_difference(compared),
        plans=_plans(sorted(pair, key=[run for row in rows for run in row.runs].index), problems),
        problems=tuple(problems),
    )


def _curves(runs: Iterable[Run], tag: str, problems: list[str], tick: _Tick) -> dict[Any, Curve]:
    """By folder: the curves of those runs that have one."""
    curves = {}
    for run in runs:
        tick(run)
        curve, found = curve_of(run.folder, tag)
        problems += found if not run.may_be_cut_off else ()
        if curve:
            curves[run.folder] = curve
    return curves


def _best_of(curve: Curve, metric: Metric) -> float:
    """Of the finite values, if there are any."""
    values = [value for value in curve.values() if math.isfinite(value)]
    return metric.better(values) if values else math.nan


def _best_values(runs: Iterable[Run], metric: Metric, problems: list[str], tick: _Tick) -> dict[Any, float]:
    """By folder: the best value that a run has kept; from its events where it kept the other extreme."""
    kept = {run.folder: run.best.get(metric.name, run.final.get(metric.name)) for run in runs}
    best = {folder: value for folder, value in kept.items() if value is not None}
    if metric.is_kept:
        return best
    there = [run for run in runs if run.folder in best]
    curves = _curves(there, metric.name, problems, tick)
    found = {folder: _best_of(curve, metric) for folder, curve in curves.items()}
    unknown = [run for run in there if math.isnan(found.get(run.folder, math.nan))]
    if unknown:
        others = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        problems.append(
            f"{unknown[0].folder}{others}: no curve of {metric.name} to find its {metric.mode}imum in, so the last "
            "value stands for the best"
        )
    return found | {run.folder: run.final[metric.name] for run in unknown if metric.name in run.final}


def _without_seed(run: Run) -> Hashable:
    """What is equal for runs that differ by their seeds alone; a run without a config is alone."""
    if run.settings is None:
        return run.folder
    return frozenset((key, identity(value)) for key, value in run.settings.items() if key != _SEED)


def _row(runs: Sequence[Run], best: Mapping[Any, float], last: Mapping[Any, float], sign: int) -> Row:
    finished = [run for run in runs if run.status == "finished" and run.folder in best]
    counted = finished or [run for run in runs if run.folder in best]

    def order(run: Run) -> tuple[Any, ...]:
        return (run not in counted, *_rank(best.get(run.folder, math.nan), run.folder in best, sign))

    ordered = tuple(sorted(runs, key=order))
    left_out = tuple(run for run in ordered if run not in counted) if counted else ()
    counted = [run for run in ordered if run not in left_out]
    return Row(ordered, _sample(counted, best), _sample(counted, last), left_out)


def _sample(runs: Iterable[Run], values: Mapping[Any, float]) -> Sample:
    """One value a seed: a run that was repeated with its seed tells nothing new, so such runs count by their mean."""
    by_seed: dict[Hashable, list[float]] = {}
    for run in runs:
        if run.folder in values:
            seed = str(run.folder) if run.seed is None else identity(run.seed)
            by_seed.setdefault(seed, []).append(values[run.folder])
    return Sample({seed: math.fsum(of_seed) / len(of_seed) for seed, of_seed in by_seed.items()})


def _place(row: Row, sign: int) -> tuple[bool, int, bool, float]:
    kind, value = _rank(row.best.mean, bool(row.best.n), sign)
    return not row.is_readable, kind, not row.is_finished, value


def _rank(value: float, is_there: bool, sign: int) -> tuple[int, float]:
    if not is_there:
        return 2, 0.0
    return (1, 0.0) if math.isnan(value) else (0, sign * value)


def _keys(rows: Sequence[Row], runs: Sequence[Run]) -> list[str]:
    """What differs; the seeds only where they differ between rows."""
    keys = differing(run.settings for run in runs if run.settings is not None)
    seeds = {frozenset(identity(run.seed) for run in row.runs) for row in rows if row.settings is not None}
    return [key for key in keys if key != _SEED or len(seeds) > 1]


def _difference(rows: Sequence[Row]) -> Difference | None:
    if len(rows) < 2 or not all(math.isfinite(row.best.mean) and row.is_readable for row in rows):
        return None
    return difference(rows[0].best, rows[1].best)


def _plans(pair: Sequence[Run], problems: list[str]) -> tuple[Run, Run, tuple[str, ...]] | None:
    plans = []
    for run in pair if not {run.status for run in pair} & {"empty", "refused"} else ():  # which have planned nothing
        try:
            plans.append(plan_of(run.folder))
        except Unreadable as error:
            problems.append(f"{error}; the plans are not compared")
    return (pair[0], pair[1], tuple(plans[0].diff(plans[1]))) if len(plans) == 2 else None
