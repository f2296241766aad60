"""What is different between two plans, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from lit_optim.durations import later_epochs
from lit_optim.plan import FROZEN, Group, Plan

__all__ = ["differences"]

_ABSENT = "(absent)"


def differences(old: Plan, new: Plan) -> Iterator[str]:
    """Horizon, groups that came or went, changed settings, and parameters that moved; nothing for equal plans."""
    for name in ("total_steps", "steps_per_epoch", "global_batch"):
        yield from _change(f"horizon: {name}", getattr(old.horizon, name), getattr(new.horizon, name))
    yield from _change("horizon: steps of later epochs", later_epochs(old.horizon), later_epochs(new.horizon))
    yield from _change("learning rates: scaled", *(_scaling(plan) for plan in (old, new)))
    groups, others = ({group.name: group for group in plan.groups} for plan in (old, new))
    yield from (f"{name}: group removed" for name in groups if name not in others)
    yield from (f"{name}: group added, {_text(group)}" for name, group in others.items() if name not in groups)
    for name in (name for name in groups if name in others):
        yield from _of_group(groups[name], others[name])
    for name in {**old.arguments, **new.arguments}:
        yield from _of_class(name, old.arguments.get(name, {}), new.arguments.get(name, {}))
    yield from _moves(old, new)
    yield from _change("frozen: parameters", old.frozen_numel, new.frozen_numel)
    for name in {**old.tied, **new.tied}:
        yield from _change(f"{name}: another name of", old.tied.get(name), new.tied.get(name))
    for name in {**old.rules, **new.rules}:
        yield from _change(f"rules.{name}: shapes", old.rules.get(name), new.rules.get(name))
    if [*old.rules] != [*new.rules] and {*old.rules} == {*new.rules}:
        yield f"rules: their order {', '.join(old.rules)} → {', '.join(new.rules)}"


def _scaling(plan: Plan) -> str | None:
    return None if plan.lr_scaling is None else plan.lr_scaling.told(plan.horizon.global_batch)


def _moves(old: Plan, new: Plan) -> Iterator[str]:
    before, after = _places(old), _places(new)
    moves = Counter((before.get(name, _ABSENT), after.get(name, _ABSENT)) for name in {**before, **after})
    moved = {move: count for move, count in moves.items() if move[0] != move[1]}
    for (source, target), count in moved.items():
        yield f"{count:,} tensor{'s' * (count != 1)} moved from {source} to {target}"
    if not moved and [*before] != [*after]:
        yield "parameters: the same, in another order"


def _places(plan: Plan) -> dict[str, str]:
    """Where each parameter is: its group's name, or that it is frozen and by which rule."""
    held = {parameter: group.name for group in plan.groups for parameter in group.parameters}
    by_rule = {name: f"{FROZEN} (rules.{rule})" for name, rule in plan.frozen_by.items()}
    return held | dict.fromkeys(plan.frozen, FROZEN) | by_rule


def _of_group(old: Group, new: Group) -> Iterator[str]:
    yield from _change(f"{old.name}: parameters", old.numel, new.numel)
    yield from _change(f"{old.name}: shaped by", old.rules, new.rules)
    yield from _change(f"{old.name}: optimizer", old.optimizer, new.optimizer)
    yield from _change(f"{old.name}: moves from step", old.freeze_until, new.freeze_until)
    yield from _change(f"{old.name}: gradient norm clipped to", old.clip_norm, new.clip_norm)
    for name, value in {**old.hyperparameters, **new.hyperparameters}.items():
        if name in old.hyperparameters and name in new.hyperparameters:
            yield from _change(f"{old.name}: {name}", old.hyperparameters[name], new.hyperparameters[name])
        elif old.optimizer == new.optimizer:
            there = "gone" if name in old.hyperparameters else "new"
            yield f"{old.name}: {name} {_text(value)} is {there}"
    for name in {**old.schedules, **new.schedules}:
        yield from _change(f"{old.name}: schedule of {name}", old.schedules.get(name), new.schedules.get(name))


def _of_class(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for argument in {**old, **new}:
        yield from _change(f"{name}: {argument}", old.get(argument), new.get(argument))


def _change(what: str, before: Any, after: Any) -> Iterator[str]:
    if before != after:
        old, new = _text(before), _text(after)
        if old == new:  # too close for six digits
            old, new = repr(before), repr(after)
        yield f"{what} {old} → {new}"


def _text(value: Any) -> str:
    """A value as a person would say it."""
    if isinstance(value, Group):
        rate = value.hyperparameters.get("lr")
        rate_text = "" if rate is None else f", lr {_text(rate)}"
        return f"{value.optimizer.rpartition('.')[2]}{rate_text}"
    if value is None or value == ():
        return "none"
    if isinstance(value, Mapping):
        arguments = ", ".join(f"{name}={_text(item)}" for name, item in value.items() if name != "_target_")
        return f"{str(value.get('_target_', '')).rpartition('.')[2]}({arguments})"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
