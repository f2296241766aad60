"""A plan for the eye: the table of the terminal, and the picture of its curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_optim.tables import table

if TYPE_CHECKING:
    from lit_optim.durations import Horizon
    from lit_optim.plan import Plan, Span

__all__ = ["plan_text", "save_figure"]

_DRAWN = 2_000  # points of a curve in the picture; more can't be seen
_FACTS = ("group", "rules", "optimizer", "tensors", "parameters")


def plan_text(plan: Plan, width: int | None = None) -> str:
    """The plan as a table, its totals, and its warnings.

    Args:
        plan: Any plan.
        width: Characters a line; the terminal's if not given.
    """
    rows = table([*_FACTS, *_shown(plan)], _rows(plan), width)
    return "\n".join([rows, "", _totals(plan), *(f"warning: {warning}" for warning in plan.warnings)])


def save_figure(plan: Plan, path: Path) -> None:
    """Draw every hyperparameter that moves (or lr, where none does) over the steps, a line a group, into an image file.

    Args:
        plan: Any plan; where its end is unknown, the picture says so in place of curves.
        path: Where the image goes; the suffix chooses the format (``.png``, ``.svg``, ``.pdf``).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    moving = dict.fromkeys(name for group in plan.groups for name in group.schedules) or {"lr": None}
    figure = Figure(figsize=(8, 2.6 * len(moving) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(len(moving), squeeze=False)[:, 0], moving, strict=True):
        holders = [group for group in plan.groups if isinstance(group.hyperparameters.get(name), (int, float))]
        axes.set(title=name, xlabel="optimizer step")
        axes.grid(alpha=0.3)
        if not plan.horizon.is_bounded:
            axes.text(0.5, 0.5, "a run without a known end", ha="center", transform=axes.transAxes)
            continue
        steps = _drawn_steps(int(plan.horizon.total_steps))
        curves: dict[tuple[float, ...], list[str]] = {}  # groups that move alike share a line
        for group in holders:
            value = plan.bound(group).get(name)
            constant = group.hyperparameters[name]
            curves.setdefault(tuple(value(step) if value else constant for step in steps), []).append(group.name)
        for curve, names in curves.items():
            axes.plot(steps, curve, label=", ".join(names))
        tops = [max(curve) for curve in curves if max(curve) > 0]
        if tops and max(tops) / min(tops) > 20:
            axes.set_yscale("log")
        if len(curves) <= 12:
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def _drawn_steps(total: int) -> list[int]:
    stride = max(1, total // _DRAWN)
    return sorted({*range(0, total, stride), total - 1})


def _shown(plan: Plan) -> list[str]:
    """The hyperparameters worth a column: the usual three, what moves, and what is not the same in every group."""
    usual = [
        name
        for name in ("lr", "weight_decay", "momentum", "betas")
        if any(name in g.hyperparameters for g in plan.groups)
    ]
    names = dict.fromkeys(name for group in plan.groups for name in group.hyperparameters)
    moving = [name for name in names if any(name in group.schedules for group in plan.groups)]
    differing = [name for name in names if len({repr(group.hyperparameters.get(name)) for group in plan.groups}) > 1]
    return list(dict.fromkeys([*usual, *moving, *differing]))


def _rows(plan: Plan) -> Iterator[list[str]]:
    for group in plan.groups:
        spans = plan.spans(group)
        cells = [
            _span_text(spans[name], plan.horizon) if name in spans else _text(group.hyperparameters.get(name, "–"))
            for name in _shown(plan)
        ]
        yield [
            group.name,
            ", ".join(group.rules) or "–",
            group.optimizer.rpartition(".")[2],
            f"{len(group.parameters):,}",
            f"{group.numel:,}",
            *cells,
        ]


def _span_text(span: Span, horizon: Horizon) -> str:
    if not horizon.is_bounded:
        return f"{_text(span.start)} → ?"
    return " → ".join(_text(value) for value in (span.start, span.peak, span.end))


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_text, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _totals(plan: Plan) -> str:
    tensors = sum(len(group.parameters) for group in plan.groups)
    lines = [
        f"{plan.numel + plan.frozen_numel:,} parameters: {plan.numel:,} trained in {tensors:,} tensors and "
        f"{len(plan.groups):,} group{'s' * (len(plan.groups) != 1)}, "
        f"{plan.frozen_numel:,} frozen in {len(plan.frozen):,} tensors, {len(plan.tied):,} tied names (counted once)"
    ]
    horizon = plan.horizon
    run = f"{horizon.total_steps:,} optimizer steps" if horizon.is_bounded else "a run without a known end"
    epoch = f", {horizon.steps_per_epoch:,} an epoch" if horizon.steps_per_epoch else ""
    batch = f", {horizon.global_batch:,} samples a step" if horizon.global_batch else ""
    moving = "scheduled values: first step → highest → last step; " if any(g.schedules for g in plan.groups) else ""
    return "\n".join([*lines, f"{run}{epoch}{batch}; {moving}plan {plan.hash}"])
