"""A plan for the eye: the text that the terminal shows, and the picture of its curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lit_optim.durations import later_epochs
from lit_optim.figure import save_figure
from lit_optim.hyperparameters import divided
from lit_optim.plan import FROZEN, Span, canonical, span
from lit_optim.tables import ABSENT, CUT, many, table, terminal_width, wrapped

if TYPE_CHECKING:
    from lit_optim.plan import Plan

__all__ = ["plan_text", "save_figure"]

_USUAL = ("lr", "weight_decay", "momentum", "betas", "nesterov", "rho")
"""Told even where the recipe says nothing of them."""

_MODEL = "the model itself (requires_grad=False)"
_Settings = Mapping[str, Any]  # a group's hyperparameters: a span where one moves, else the value


def plan_text(plan: Plan, width: int | None = None) -> str:
    """The plan as a table, what its groups share, its totals, and its warnings.

    Args:
        plan: Any plan.
        width: Characters a line; the terminal's if not given.
    """
    width = width or terminal_width()
    settings = _settings(plan)
    own, shared = _divided(plan, settings)
    columns = dict(_facts(plan))
    for name in own:
        cells = [_text(values[name], plan) if name in values else ABSENT for values in settings]
        columns[name] = cells + [ABSENT] * bool(plan.frozen)
    grid = table([*columns], zip(*columns.values(), strict=True), width)
    cut = ["where … stands, something is cut out; the plan as JSON has it whole"] * (CUT in grid)
    notes = [*_shared_notes(plan, settings, shared), *_notes(plan), *cut, *_totals(plan, settings)]
    warnings = [f"warning: {warning}" for warning in plan.warnings]
    return "\n".join([grid, "", *(wrapped(line, width) for line in (*notes, *warnings))])


def _settings(plan: Plan) -> list[_Settings]:
    """What the hyperparameters of each group do; groups that share a schedule and a value share its span."""
    spans: dict[str, Span] = {}
    settings: list[_Settings] = []
    in_parts = {place.rpartition(".")[0] for group in plan.groups for place in group.schedules if "." in place}
    for group in plan.groups:
        values = divided(group.hyperparameters, in_parts)
        for name, curve in plan.bound(group).items():
            key = repr((canonical(group.schedules[name]), values[name]))
            if key not in spans:
                spans[key] = span(curve, plan.horizon)
            moves = spans[key].low < spans[key].peak or not plan.horizon.is_bounded
            values[name] = spans[key] if moves else spans[key].start
        settings.append(values)
    return settings


def _divided(plan: Plan, settings: Sequence[_Settings]) -> tuple[list[str], dict[tuple[str, ...], list[str]]]:
    """The hyperparameters worth telling: those with a column, and those that are one constant, by the classes with it.

    Worth it are the usual ones, what is scheduled, and what differs between groups of one class (between classes, their
    own defaults do). The learning rate always has a column.
    """
    names = dict.fromkeys(name for values in settings for name in values)
    told = [name for usual in _USUAL for name in names if usual in (name, name.rpartition(".")[0])]
    told += [name for name in names if any(name in group.schedules for group in plan.groups)]
    own: list[str] = []
    shared: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys([*told, *names]):
        said: dict[str, set[str]] = {}  # by class, what its groups say
        for group, values in zip(plan.groups, settings, strict=True):
            said.setdefault(group.optimizer, set()).add(repr(canonical(values[name])) if name in values else "")
        said = {optimizer: texts for optimizer, texts in said.items() if texts != {""}}
        differs = any(len(texts) > 1 for texts in said.values())
        moves = any(isinstance(values.get(name), Span) for values in settings)
        if name in told and not (moves or name == "lr") and len(set().union(*said.values())) == 1:
            shared.setdefault(tuple(said), []).append(name)
        elif name in told or differs:
            own.append(name)
    return own, shared


def _facts(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """The columns that are no hyperparameters; what is frozen for good stands in the last row."""
    groups, frozen = plan.groups, bool(plan.frozen)
    names = _class_names(plan)
    yield "group", [*(group.name for group in groups), *[FROZEN] * frozen]
    if len(names) > 1:
        yield "optimizer", [*(names[group.optimizer] for group in groups), *[ABSENT] * frozen]
    yield "tensors", [f"{n:,}" for n in (*(len(group.parameters) for group in groups), *[len(plan.frozen)] * frozen)]
    yield "parameters", [f"{n:,}" for n in (*(group.numel for group in groups), *[plan.frozen_numel] * frozen)]
    if any(group.clip_norm for group in groups):
        clipped = (ABSENT if group.clip_norm is None else _text(group.clip_norm, plan) for group in groups)
        yield "clip_norm", [*clipped, *[ABSENT] * frozen]
    if any(group.freeze_until for group in groups):
        yield "from step", [*(f"{group.freeze_until:,}" for group in groups), *[ABSENT] * frozen]


def _class_names(plan: Plan) -> dict[str, str]:
    """The classes by their last names, or whole where two have the same."""
    short = {group.optimizer: group.optimizer.rpartition(".")[2] for group in plan.groups}
    return {name: one if [*short.values()].count(one) == 1 else name for name, one in short.items()}


def _text(value: Any, plan: Plan) -> str:
    """Numbers to three digits, or more where they would round to 1: a beta of 0.9999 is not 1."""
    if isinstance(value, Span):
        return _span_text(value, plan)
    if isinstance(value, (tuple, list)):
        return ", ".join(_text(item, plan) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}" if 0.99 < abs(value) < 1 else f"{value:.3g}"
    return str(value)


def _span_text(span: Span, plan: Plan) -> str:
    """``start → end``, with the highest (or the lowest) in between where the curve passes over (or under) both."""
    start, low, peak, end = (_text(value, plan) for value in span)
    if not plan.horizon.is_bounded:
        return f"{start} → ?"
    between = " and ".join(extreme for extreme in (low, peak) if extreme not in (start, end))
    return start if start == end and not between else " → ".join(part for part in (start, between, end) if part)


def _shared_notes(
    plan: Plan, settings: Sequence[_Settings], shared: Mapping[tuple[str, ...], Sequence[str]]
) -> Iterator[str]:
    """What is the same in every group, or in every group of a class."""
    classes = _class_names(plan)
    everywhere = [*classes.values()] if len(classes) == 1 else []
    for kinds in dict.fromkeys([tuple(classes), *shared]):
        said = everywhere if kinds == tuple(classes) else []
        for name in shared.get(kinds, ()):
            value = next(values[name] for values in settings if name in values)
            if value is False:
                continue
            text = _text(value, plan)
            said = [*said, f"{name} ({text})" if isinstance(value, (tuple, list)) else f"{name} {text}"]
        of = "" if kinds == tuple(classes) else " of " + " and ".join(classes[kind] for kind in kinds)
        if said:
            yield f"in every group{of}: {', '.join(said)}"


def _notes(plan: Plan) -> Iterator[str]:
    """How steps are computed, what the batch size does, and who froze what is frozen."""
    for what, said in (("made with", plan.arguments), ("execution", plan.execution)):
        told = [_of_class(name, said[name], plan) for name in _class_names(plan) if said.get(name)]
        told += [f"{name} {_text(value, plan)}" for name, value in said.get("model", {}).items()]
        if told:
            yield f"{what}: {'; '.join(told)}"
    if plan.shard_units:
        yield f"shard units: {_units_text(plan.shard_units)}"
    if plan.lr_scaling is not None:
        yield f"learning rates {plan.lr_scaling.told(plan.horizon.global_batch)}"
    yield from _schedule_notes(plan)
    if plan.frozen:
        by = Counter(f"rules.{plan.frozen_by[name]}" if name in plan.frozen_by else _MODEL for name in plan.frozen)
        yield "frozen: " + ", ".join(f"{many(count, 'tensor')} by {who}" for who, count in by.items())


def _units_text(units: Sequence[str]) -> str:
    """The first few by name; what the model itself gathers comes last."""
    named = [name for name in units if name]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    own = ("; all else together" if named else "the whole model as one") if "" in units else ""
    return ", ".join(named[:3]) + more + own


def _schedule_notes(plan: Plan) -> Iterator[str]:
    """Which curves are no formula of ours, and how they came about; the groups are named where others differ."""
    names = dict.fromkeys(name for group in plan.groups for name in group.schedules)
    for name in names:
        having = [group for group in plan.groups if name in group.schedules]
        labels = [(plan.label(group, name), group.name) for group in having]
        for label in dict.fromkeys(label for label, _ in labels if label):
            groups = [group for own, group in labels if own == label]
            more = f" and {len(groups) - 3} more" if len(groups) > 3 else ""
            of = "" if len(groups) == len(having) else f" of {', '.join(groups[:3])}{more}"
            yield f"schedule of {name}{of}: {label}"


def _of_class(name: str, said: Mapping[str, Any], plan: Plan) -> str:
    """What one class is made with, after its name where there are several."""
    names = _class_names(plan)
    of = f"{names[name]} " if len(names) > 1 else ""
    return of + ", ".join(f"{argument} {_text(value, plan)}" for argument, value in said.items())


def _totals(plan: Plan, settings: Sequence[_Settings]) -> Iterator[str]:
    tensors = many(sum(len(group.parameters) for group in plan.groups), "tensor")
    yield (
        f"{many(plan.numel + plan.frozen_numel, 'parameter')}: {plan.numel:,} trained in {tensors} and "
        f"{many(len(plan.groups), 'group')}, {plan.frozen_numel:,} frozen in {many(len(plan.frozen), 'tensor')}, "
        f"{many(len(plan.tied), 'tied name')} (counted once)"
    )
    horizon = plan.horizon
    run = f"{many(horizon.total_steps, 'optimizer step')}" if horizon.is_bounded else "a run without a known end"
    epoch = f", {horizon.steps_per_epoch:,} an epoch" if horizon.steps_per_epoch else ""
    epoch = ", ".join([epoch, *later_epochs(horizon)])
    batch = f", {many(horizon.global_batch, 'sample')} a step" if horizon.global_batch else ""
    yield f"{run}{epoch}{batch}; {_legend(plan, settings)}plan\N{NO-BREAK SPACE}{plan.hash}"


def _legend(plan: Plan, settings: Sequence[_Settings]) -> str:
    """How to read the cells of what moves."""
    spans = [value for values in settings for value in values.values() if isinstance(value, Span)]
    if not spans:
        return ""
    if not plan.horizon.is_bounded:
        return "scheduled values: first step → ?; "
    dips = any(one.low < min(one.start, one.end) for one in spans)
    return f"scheduled values: first step → highest{' or lowest' * dips} in between → last step; "
