"""The story of one parameter: every rule that matches it, what each sets, and what stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from lit_optim.cascade import Settled
from lit_optim.durations import Horizon
from lit_optim.errors import Mistake, PlanError, nearest
from lit_optim.lr_scaling import SIZE
from lit_optim.planner import Planner, make_plan
from lit_optim.recipe import Recipe
from lit_optim.rules import Rule
from lit_optim.selection import Entry, ParameterIndex
from lit_optim.traits import EXECUTION

__all__ = ["explain"]

_STANDS = "stands"
_COLUMN = 48  # where remarks begin, at the latest


def explain(model: nn.Module, recipe: Recipe, horizon: Horizon, name: str) -> str:
    """Tell how a parameter came to its settings.

    Args:
        model: Any module.
        recipe: What the user wrote.
        horizon: The run.
        name: A parameter's qualified name, or the end of one that fits no other.

    Raises:
        PlanError: The recipe is refused, or there is no such parameter, or several.
    """
    plan = make_plan(model, recipe, horizon)
    planner = Planner(model, recipe, horizon)
    index = planner.matching.index
    position = _position(name, index)
    entry, settled = index.entries[position], planner.ends[position]
    rules = [recipe.rules[rule] for rule in planner.matching.rules_of[position]]
    lines = [_header(entry, index)]
    if settled is None:
        lines.append("The model itself has frozen it (requires_grad=False): no rule applies.")
        return "\n".join(lines)
    lines += [
        "",
        "What was said of it, from top to bottom:",
        *_aligned(_told(recipe, rules, settled, horizon.global_batch)),
        "",
    ]
    if settled.freeze is not None and settled.is_frozen:
        lines.append(f"What stands: it is frozen for the whole run ({settled.freeze.rule.key}.freeze)")
        return "\n".join(lines)
    group = next(group for group in plan.groups if entry.name in group.parameters)
    lines.append(f"What stands: group {group.name} of {group.optimizer}")
    lines += _aligned(_standing(settled, rules, recipe.lr_scaling is not None))
    return "\n".join(lines)


def _aligned(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """``what = value`` and what is to be said of it; the latter in one column where that doesn't lead too far."""
    said = [(f"  {what} = {value}", remark) for what, value, remark in rows]
    column = min(_COLUMN, max(len(left) for left, _ in said))
    return [f"{left.ljust(column)}  {remark}" for left, remark in said]


def _position(name: str, index: ParameterIndex) -> int:
    """The parameter of that name, or the only one whose name ends so."""
    exact = [place for place, known in enumerate(index.names) if known == name]
    ending = exact or [place for place, known in enumerate(index.names) if known.endswith(f".{name}")]
    found = sorted(index.entries_at(ending))
    if len(found) == 1:
        return found[0]
    names = tuple(index.names[place] for place in ending) or tuple(index.names)
    problem = "several parameters end so" if found else "there is no such parameter"
    near = () if found else nearest(name, names) or nearest(name, [known.partition(".")[2] for known in names])
    raise PlanError(Mistake("--explain", problem, repr(name), names, near, "name one of these in full"))


def _header(entry: Entry, index: ParameterIndex) -> str:
    owners = ", ".join(dict.fromkeys(type(owner).__name__ for owner in entry.owners))
    kinds = [kind for kind in ("embedding", "norm", "head") if index.is_kind(entry, kind)]
    shape = "no shape yet" if entry.is_lazy else f"shape {list(entry.parameter.shape)}, {entry.numel:,} numbers"
    tied = f"; also known as {', '.join(entry.names[1:])}" if len(entry.names) > 1 else ""
    return f"{entry.name}: of {owners}{''.join(f' ({kind})' for kind in kinds)}, {shape}{tied}"


def _told(recipe: Recipe, rules: list[Rule], settled: Settled, batch: int | None) -> Iterator[tuple[str, str, str]]:
    """Every statement that reached the parameter: where it stands, what it says, what became of it."""
    if recipe.optimizer is not None:
        is_chosen = settled.chosen_at == "optimizer"
        yield "optimizer", recipe.optimizer, _STANDS if is_chosen else f"overridden by {settled.chosen_at}"
    yield from _values(recipe.values, "optimizer", recipe.optimizer, settled)
    if recipe.lr_scaling is not None and "lr" in settled.hyperparameters:
        yield SIZE, f"{recipe.lr_scaling.batch_size:,}", f"{_STANDS}: lr {recipe.lr_scaling.told(batch)}"
    for name, node in recipe.schedule.items():
        if name in settled.hyperparameters:
            key = f"schedule.{name}"
            yield key, _text(node), _scheduled(key, name, settled)
    for rule in rules:
        yield f"{rule.key}.match", _text(rule.match), "fits"
        yield from _said_by(rule, settled)


def _said_by(rule: Rule, settled: Settled) -> Iterator[tuple[str, str, str]]:
    if rule.optimizer is not None:
        key = f"{rule.key}.optimizer"
        yield key, rule.optimizer, _STANDS if settled.chosen_at == key else f"overridden by {settled.chosen_at}"
    yield from _values(rule.arguments, f"{rule.key}.optimizer", rule.optimizer, settled)
    yield from _values(rule.values, rule.key, None, settled)
    for name, factor in rule.multiply.items():
        yield f"{rule.key}.multiply.{name}", f"× {factor:g}", _STANDS
    for name, node in rule.schedule.items():
        key = f"{rule.key}.schedule.{name}"
        taken = node is None and name not in settled.schedules
        yield key, _text(node), _STANDS if taken else _scheduled(key, name, settled)
    for what in ("freeze", "freeze_until"):
        said = getattr(rule, what)
        if said is not None:
            mine = settled.freeze is not None and settled.freeze.rule.name == rule.name
            undone = "nothing is frozen" if settled.freeze is None else f"overridden by {settled.freeze.rule.key}"
            yield f"{rule.key}.{what}", _text(said), _STANDS if mine or said is False else undone
    if rule.clip_norm is not None:
        mine = settled.clip is not None and settled.clip.name == rule.name
        word = _STANDS if mine else f"overridden by {settled.clip.key if settled.clip else 'nothing'}"
        yield f"{rule.key}.clip_norm", _text(rule.clip_norm), word
    if rule.layer_decay is not None:
        decay = settled.layer_decay
        mine = decay is not None and decay.name == rule.name
        where = f"{_STANDS}: layer {settled.depth}, lr × {settled.depth_factor:.3g}"
        yield (
            f"{rule.key}.layer_decay",
            f"× {rule.layer_decay.rate:g} a layer",
            where if mine else f"overridden by {decay.key if decay else 'nothing'}",
        )


def _values(
    values: Mapping[str, Any], key: str, target: str | None, settled: Settled
) -> Iterator[tuple[str, str, str]]:
    """What is set there; what is for all groups of the class that is named beside it stands if that is in force."""
    in_force = target is not None and target.rpartition(".")[2] == settled.traits.optimizer.__name__
    for name, value in values.items():
        if name in EXECUTION:  # of no single parameter
            continue
        stands = in_force and name in settled.traits.of_all_groups
        yield f"{key}.{name}", _text(value), _STANDS if stands else _outcome(f"{key}.{name}", name, settled)


def _outcome(key: str, name: str, settled: Settled) -> str:
    origin = settled.origins.get(name)
    if origin == key:
        return _STANDS
    if origin is None:
        return f"does not cross to {settled.traits.optimizer.__name__}"
    return f"overridden by {origin}"


def _scheduled(key: str, name: str, settled: Settled) -> str:
    origin = settled.schedule_origins.get(name)
    if origin == key:
        return _STANDS
    return f"overridden by {origin}" if origin else "taken away"


def _standing(settled: Settled, rules: list[Rule], is_scaled: bool) -> Iterator[tuple[str, str, str]]:
    for name, value in settled.hyperparameters.items():
        origin = settled.origins.get(name, "the class's own default")
        factors = [f"{rule.key}.multiply.{name}" for rule in rules if name in rule.multiply]
        if name == "lr" and is_scaled:
            factors.append(SIZE)
        if name == "lr" and settled.layer_decay is not None:
            factors.append(f"{settled.layer_decay.key}.layer_decay")
        yield name, _text(value), " × ".join([origin, *factors])
        if name in settled.schedules:
            yield f"schedule of {name}", _text(settled.schedules[name]), settled.schedule_origins[name]
    if settled.freeze is not None and settled.freeze_until:
        key = f"{settled.freeze.rule.key}.freeze_until"
        yield "moves from step", f"{settled.freeze_until:,}", key
    if settled.clip is not None and settled.clip_norm is not None:
        yield "gradient norm of the group at most", _text(settled.clip_norm), f"{settled.clip.key}.clip_norm"


def _text(value: Any) -> str:
    """A value as a recipe would write it, on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping) and "_target_" in value:
        more = ", ".join(f"{name}={_text(item)}" for name, item in value.items() if name != "_target_")
        return f"{str(value['_target_']).rpartition('.')[2]}({more})"
    return json.dumps(value).replace('"', "")
