"""The picture of a plan: how the hyperparameters of its groups move over the steps of the run."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_optim.hyperparameters import numbers_in, value_at
from lit_optim.plan import canonical
from lit_optim.tables import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from lit_optim.plan import Group, Plan

__all__ = ["save_figure"]

_DRAWN = 2_000  # points of a curve; more can't be seen
_LABEL = 34  # characters of a name in a legend
_FEW = 10  # lines that have a colour of their own each, and a legend in normal type
_APART = 15  # times the top of another curve: a linear axis would flatten that one, as AdamW's beside Muon's
_FALLEN = 30  # times what a curve is down to for a fifth of the run: a linear axis would flatten that part
_WIDTH, _HEIGHT = 6.6, 2.6  # inches of a panel, without its legend
_BESIDE = 0.45  # inches of its height that the title or the ticks take
_DOTS_PER_INCH = 110
_DASHES = ("-", "--", "-.")  # dots are for what is frozen


@dataclass(frozen=True)
class _Line:
    """A curve, and the groups that follow it."""

    groups: tuple[Group, ...]
    values: tuple[float, ...]

    @property
    def freeze_until(self) -> int:
        return self.groups[0].freeze_until

    @property
    def top(self) -> float:
        return max(self.values)

    @property
    def falls(self) -> bool:
        """Whether it is decades below its top for a good part of the run."""
        return self.top > 0 and self.top > _FALLEN * self.quantile(0.2)

    def quantile(self, share: float) -> float:
        """What this share of its values above 0 stays below; some value has to be."""
        positive = sorted(value for value in self.values if value > 0)
        return positive[int(share * len(positive))]


def save_figure(plan: Plan, path: Path) -> None:
    """Draw every hyperparameter that moves (or lr, where none does) over the steps, into an image file.

    Groups that move alike share a line; as long as they are frozen it is grey and dotted. The axis is logarithmic where
    curves lie decades apart, or spend a good part of the run decades below their tops; curves that only end near 0 stay
    on a linear one.

    Args:
        plan: Any plan; where its end is unknown, the picture says so in place of curves.
        path: Where the image goes; the suffix chooses the format (``.png``, ``.svg``, ``.pdf``).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for group in plan.groups for name in group.schedules)) or ["lr"]
    steps = _steps(plan)
    panels = [_lines(plan, name, steps) for name in names]
    most = max(map(len, panels))
    height = _HEIGHT if most <= _FEW else min(9.0, max(4.1, most / 16))
    figure = Figure()
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    legend_width = 0.0
    for axes, name, lines in zip(all_axes, names, panels, strict=True):
        axes.set_title(_title(plan, name), loc="left", fontsize="medium")
        axes.grid(alpha=0.3)
        if steps and lines:
            handles = _draw(axes, plan, steps, lines)
            legend_width = max(legend_width, _add_legend(axes, handles, height - _BESIDE))
        elif not steps:
            axes.text(0.5, 0.5, "a run without a known end", ha="center", transform=axes.transAxes)
    all_axes[-1].set_xlabel("optimizer step")
    all_axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    width = _WIDTH + legend_width + 0.1
    figure.set_size_inches(width, height * len(panels) + 0.4)
    figure.set_layout_engine("constrained", rect=(0.0, 0.0, _WIDTH / width, 1.0))
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _title(plan: Plan, name: str) -> str:
    """The hyperparameter, and what is to be said of curves that are no formula of ours."""
    labels = dict.fromkeys(plan.label(group, name) for group in plan.groups if name in group.schedules)
    told = [label.partition(",")[0] for label in labels if label]
    return f"{name} ({', '.join(dict.fromkeys(told))})" if told else name


def _steps(plan: Plan) -> list[int]:
    """The steps to draw: first, last, the ends of freezes, and enough between; none in a run without a known end."""
    if not plan.horizon.is_bounded:
        return []
    total = int(plan.horizon.total_steps)
    thaws = {group.freeze_until for group in plan.groups if group.freeze_until < total}
    return sorted({*range(0, total, max(1, total // _DRAWN)), total - 1, *thaws})


def _lines(plan: Plan, name: str, steps: Sequence[int]) -> list[_Line]:
    """The curves of one hyperparameter, for the groups that have it as a number."""
    drawn: dict[str, tuple[float, ...]] = {}
    sharing: dict[tuple[tuple[float, ...], int], list[Group]] = {}
    for group in plan.groups:
        if name in numbers_in(group.hyperparameters):
            start = value_at(name, group.hyperparameters)
            key = repr((canonical(group.schedules.get(name)), start))
            if key not in drawn:
                curve = plan.bound(group).get(name)
                drawn[key] = tuple(curve(step) if curve else start for step in steps)
            sharing.setdefault((drawn[key], group.freeze_until), []).append(group)
    return [_Line(tuple(groups), values) for (values, _), groups in sharing.items()]


def _is_log(lines: Sequence[_Line]) -> bool:
    """Whether the curves span decades, from one to another or in time."""
    if any(value < 0 for line in lines for value in line.values):
        return False
    tops = [line.top for line in lines if line.top > 0]
    return bool(tops) and (max(tops) > _APART * min(tops) or any(line.falls for line in lines))


def _limits(lines: Sequence[_Line]) -> tuple[float, float]:
    """Of a logarithmic axis, which has no room for the way down to 0."""
    seen = [line for line in lines if line.top > 0]
    top = max(line.top for line in seen)
    low = min(max(line.quantile(0.0), line.quantile(0.05) / 3 if line.falls else line.top / 200) for line in seen)
    margin = (top / low) ** 0.05
    return low / margin, top * margin


def _draw(axes: Axes, plan: Plan, steps: Sequence[int], lines: Sequence[_Line]) -> dict[str, Line2D]:
    """Draw the curves of a panel; returns what its legend has to name."""
    handles: dict[str, Line2D] = {}
    frozen: dict[str, Line2D] = {}
    is_log = _is_log(lines)
    if is_log:
        axes.set_yscale("log")
        axes.set_ylim(*_limits(lines))
    names = [group.name for group in plan.groups]
    labels = dict(zip(names, shortened(names, _LABEL), strict=True))
    for line, style in _styled(plan, lines):
        label = _label(line, labels)
        if is_log and line.top == 0:
            label += " (0 throughout)"
        thaw = bisect.bisect_left(steps, line.freeze_until)
        if thaw:
            label += f" (from step {line.freeze_until:,})"
            before = slice(0, thaw + 1)
            dots = axes.plot(steps[before], line.values[before], ":", color="0.55", linewidth=1.2, zorder=2.5)
            frozen = {"frozen": dots[0]}
        if thaw or len(steps) == 1:
            style |= {"marker": "o", "markersize": 4, "markevery": (0, len(steps))}
        [handles[label]] = axes.plot(steps[thaw:], line.values[thaw:], label=label, **style)
    return handles | frozen


def _styled(plan: Plan, lines: Sequence[_Line]) -> Iterator[tuple[_Line, dict[str, Any]]]:
    """Each line with its style: a few have colours of their own, many run through a map, the highest first."""
    from matplotlib import colormaps

    if len(lines) > _FEW:
        for index, line in enumerate(sorted(lines, key=lambda line: -line.top)):
            colour = colormaps["viridis"](0.92 * (1 - index / (len(lines) - 1)))
            yield line, {"color": colour, "linestyle": _DASHES[index % 3], "linewidth": 1.1}
        return
    firsts = [line.groups[0] for line in lines]
    order = plan.groups if len(plan.groups) <= _FEW else firsts  # the same colour in every panel, if they suffice
    drawn: list[tuple[float, ...]] = []
    for line in lines:
        over = drawn.count(line.values)  # what lies below shows between the dashes
        drawn.append(line.values)
        yield line, {"color": f"C{order.index(line.groups[0])}", "linestyle": _DASHES[over % 3], "linewidth": 1.6}


def _label(line: _Line, labels: dict[str, str]) -> str:
    first, *others = (labels[group.name] for group in line.groups)
    together = ", ".join([first, *others])
    if len(together) <= _LABEL:
        return together
    return f"{first} and {len(others)} more" if others else first


def _add_legend(axes: Axes, handles: Mapping[str, Line2D], height: float) -> float:
    """Put a legend beside the axes, in as many columns as their height (inches) calls for, and return its width."""
    size, spacing = (8.5, 0.4) if len(handles) <= _FEW + 1 else (6.5, 0.2)  # points, and parts of that
    rows = int(height * 72 / (size * (1.05 + spacing)))
    legend = axes.legend(
        handles.values(),
        handles.keys(),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        borderpad=0.0,
        frameon=False,
        ncols=math.ceil(len(handles) / rows),
        fontsize=size,
        labelspacing=spacing,
        handlelength=2.6,
        columnspacing=1.2,
    )
    legend.set_in_layout(False)  # it has its place beside the layout's rectangle
    return float(legend.get_window_extent().width / axes.figure.dpi)
