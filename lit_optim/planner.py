"""Model + recipe + horizon → plan: the cascade of rules, the merged groups, and every refusal.

Nothing is changed and nothing is stepped here; the model is only looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lit_optim.durations import Horizon
from lit_optim.errors import ConfigError, LitOptimError, Mistake, PlanError, nearest
from lit_optim.plan import Group, Plan, span
from lit_optim.recipe import Recipe, Rule
from lit_optim.schedules import Curve, Schedule
from lit_optim.selection import Entry, entries_of, select
from lit_optim.targets import dotted_name, instantiate, resolve
from lit_optim.traits import EXECUTION, Traits, traits_of

__all__ = ["make_plan"]


def make_plan(model: nn.Module, recipe: Recipe, horizon: Horizon) -> Plan:
    """Say who claims what, and how it moves, before anything is built.

    Args:
        model: Any module; wrappers (``torch.compile``, DataParallel, DistributedDataParallel) are looked through.
        recipe: What the user wrote.
        horizon: The run that durations are measured against.

    Returns:
        The plan; the same for the same input, byte for byte, everywhere.

    Raises:
        PlanError: With every mistake that was found.
    """
    planner = _Planner(recipe, horizon, entries_of(model))
    plan = planner.plan()
    if planner.mistakes or plan is None:
        raise PlanError(*dict.fromkeys(planner.mistakes))
    return plan


@dataclass(frozen=True)
class _Settings:
    """What a parameter ended with, and the config keys that it comes from."""

    traits: Traits
    hyperparameters: dict[str, Any]
    schedules: dict[str, Mapping[str, Any]]
    origins: dict[str, str] = field(compare=False)  # hyperparameter -> the config key that set its value
    schedule_origins: dict[str, str] = field(compare=False)
    shaped_by: frozenset[str] = field(compare=False)

    def same(self, other: _Settings) -> bool:
        """Whether the two can share a group; ``1`` and ``1.0`` and ``True`` are not confused."""
        return repr((dotted_name(self.traits.optimizer), sorted(self.hyperparameters.items()), self.schedules)) == repr(
            (dotted_name(other.traits.optimizer), sorted(other.hyperparameters.items()), other.schedules)
        )


class _Planner:
    """One pass over a recipe; ``mistakes`` gathers what is wrong on the way."""

    def __init__(self, recipe: Recipe, horizon: Horizon, entries: list[Entry]) -> None:
        self.recipe = recipe
        self.horizon = horizon
        self.mistakes: list[Mistake] = []
        self.frozen = [entry for entry in entries if not entry.parameter.requires_grad]
        self.trained = [entry for entry in entries if entry.parameter.requires_grad]

    def plan(self) -> Plan | None:
        classes = self._classes()
        self._check_parameters()
        walked = self._rules_of_entries()
        if "" not in classes or self.mistakes:
            return None
        settled = {rules: self._settle([self.recipe.rules[index] for index in rules], classes) for rules in {(), *walked}}
        merged: list[tuple[_Settings, list[Entry], set[str]]] = []
        home: dict[tuple[int, ...], int] = {}
        for rules, entry in zip(walked, self.trained, strict=True):
            if rules not in home:
                settings = settled[rules]
                shaped = set() if settings.same(settled[()]) else set(settings.shaped_by)
                place = next((i for i, (other, _, _) in enumerate(merged) if other.same(settings)), len(merged))
                if place == len(merged):
                    merged.append((settings, [], shaped))
                merged[place][2].update(shaped)
                home[rules] = place
            merged[home[rules]][1].append(entry)
        groups = self._groups(merged)
        self._check_groups(merged)
        if self.mistakes:
            return None
        claimed = {
            rule.name: tuple(dict.fromkeys(groups[home[rules]].name for rules in home if index in rules))
            for index, rule in enumerate(self.recipe.rules)
        }
        return Plan(
            groups=tuple(groups),
            horizon=self.horizon,
            frozen=tuple(entry.name for entry in self.frozen),
            frozen_numel=sum(entry.parameter.numel() for entry in self.frozen),
            tied={name: entry.name for entry in (*self.trained, *self.frozen) for name in entry.names[1:]},
            rules=claimed,
            warnings=tuple(self._idle_rules(settled)),
            execution={name: value for name, value in self.recipe.values.items() if name in EXECUTION},
        )

    def _classes(self) -> dict[str, Traits]:
        """The traits of the default class (under ``""``) and of each rule's own, by rule."""
        classes = {}
        for name, target in [("", self.recipe.optimizer), *((rule.name, rule.optimizer) for rule in self.recipe.rules)]:
            if target is not None:
                key = f"rules.{name}.optimizer" if name else "optimizer"
                try:
                    optimizer: type[Optimizer] = resolve(target, (Optimizer,), key)
                    classes[name] = traits_of(optimizer)
                except ConfigError as error:
                    self.mistakes.extend(error.mistakes)
                except (TypeError, ValueError) as error:
                    remedy = "choose a class that is constructed from parameters and hyperparameters alone"
                    self._note(f"{key}._target_", f"{target} can't be constructed: {error}", given=target, remedy=remedy)
        return classes

    def _check_parameters(self) -> None:
        if not self.trained:
            what = "every parameter is frozen (requires_grad=False)" if self.frozen else "the model has no parameters"
            self._note("model", f"nothing to train: {what}", remedy="give a model with trainable parameters")
        for entry in self.trained:
            if entry.is_lazy:
                problem = f"{entry.name} has no shape yet (a lazy module)"
                self._note("model", problem, remedy="run one batch through the model before it is planned")

    def _rules_of_entries(self) -> list[tuple[int, ...]]:
        """For each trained parameter the positions of the rules that match it, from top to bottom."""
        matched: list[list[int]] = [[] for _ in self.trained]
        for index, rule in enumerate(self.recipe.rules):
            key = f"rules.{rule.name}.match"
            try:
                chosen = select(rule.match, self.trained, key)
            except LitOptimError as error:
                self.mistakes.extend(error.mistakes)
                continue
            for position in chosen:
                matched[position].append(index)
            if not chosen:
                self._note_no_match(rule, key)
        return [tuple(rules) for rules in matched]

    def _note_no_match(self, rule: Rule, key: str) -> None:
        names = [name for entry in self.trained for name in entry.names]
        modules = [name.rpartition(".")[0] for name in names if "." in name]
        text = rule.match if isinstance(rule.match, str) else ""
        frozen = bool(self.frozen) and bool(select(rule.match, self.frozen, key))
        problem = "only frozen parameters match" if frozen else "no trainable parameter matches"
        allowed = tuple(dict.fromkeys([*modules, *names]))
        self._note(key, problem, given=repr(rule.match), allowed=allowed, nearest=nearest(text, allowed), remedy=(
            f"correct the match, or remove the rule (rules.{rule.name}=null)"))

    def _settle(self, rules: list[Rule], classes: Mapping[str, Traits]) -> _Settings:
        """The cascade: class and absolute values first, a later rule winning; then every ``multiply``; then schedules."""
        choosing = [rule.name for rule in rules if rule.name in classes]
        chooser = choosing[-1] if choosing else ""
        traits = classes[chooser]
        values: dict[str, Any] = dict(traits.defaults)
        origins: dict[str, str] = {}
        if traits.optimizer is classes[""].optimizer:
            self._assign(values, origins, {k: v for k, v in self.recipe.values.items() if k not in EXECUTION}, "optimizer", traits)
        for rule in rules:
            self._assign(values, origins, rule.values, f"rules.{rule.name}", traits)
        shaped = {origin.split(".")[1] for origin in origins.values() if origin.startswith("rules.")}
        for rule in rules:
            for name, factor in rule.multiply.items():
                key = f"rules.{rule.name}.multiply.{name}"
                if name not in values:
                    self._note_unknown(key, name, factor, traits)
                elif isinstance(values[name], bool) or not isinstance(values[name], (int, float)):
                    self._note(key, f"{name} is not one number here", given=repr(values[name]), remedy="set it in the rule instead")
                else:
                    values[name] *= factor
                    shaped.add(rule.name)
        schedules, schedule_origins = {}, {}
        for name, node in self.recipe.schedule.items():
            if name in values:
                schedules[name], schedule_origins[name] = node, f"schedule.{name}"
        for rule in rules:
            for name, own in rule.schedule.items():
                key = f"rules.{rule.name}.schedule.{name}"
                shaped.add(rule.name)
                if name not in values:
                    self._note_unknown(key, name, own, traits)
                elif own is None:
                    schedules.pop(name, None)
                else:
                    schedules[name], schedule_origins[name] = own, key
        return _Settings(traits, values, schedules, origins, schedule_origins, frozenset({*shaped, chooser} - {""}))

    def _assign(self, values: dict[str, Any], origins: dict[str, str], new: Mapping[str, Any], key: str, traits: Traits) -> None:
        for name, value in new.items():
            if name not in values:
                self._note_unknown(f"{key}.{name}", name, value, traits)
                continue
            wrong = traits.refusal({name: _hashable(value)})
            if wrong is not None:
                remedy = "drop the quotes, and write 1.0e-3 for 1e-3" if _is_number(value) else "correct the value"
                problem = f"{dotted_name(traits.optimizer)} refuses this: {wrong}"
                self._note(f"{key}.{name}", problem, given=repr(value), remedy=remedy)
                continue
            values[name], origins[name] = _hashable(value), f"{key}.{name}"

    def _groups(self, merged: list[tuple[_Settings, list[Entry], set[str]]]) -> list[Group]:
        order = [rule.name for rule in self.recipe.rules]
        groups: list[Group] = []
        taken: set[str] = set()
        for settings, entries, shaped in merged:
            rules = tuple(name for name in order if name in shaped)
            name = base = ".".join(sorted(rules)) or "default"  # whatever order the rules stand in
            count = 1
            while name in taken:
                count += 1
                name = f"{base}.{count}"
            taken.add(name)
            groups.append(
                Group(
                    name=name,
                    optimizer=dotted_name(settings.traits.optimizer),
                    hyperparameters=settings.hyperparameters,
                    schedules={k: _hashable(v) for k, v in settings.schedules.items()},
                    parameters=tuple(entry.name for entry in entries),
                    numel=sum(entry.parameter.numel() for entry in entries),
                    rules=rules,
                )
            )
        return groups

    def _check_groups(self, merged: list[tuple[_Settings, list[Entry], set[str]]]) -> None:
        """Ask the classes whether they take what the cascade gave, and the schedules whether they fit the run."""
        for settings, entries, _ in merged:
            wrong = settings.traits.refusal(settings.hyperparameters, sorted({entry.parameter.ndim for entry in entries}))
            if wrong is not None:
                keys = [origin for origin in settings.origins.values() if origin.startswith("rules.")]
                key = keys[-1] if keys else "optimizer"
                problem = f"{dotted_name(settings.traits.optimizer)} refuses this group: {wrong}"
                self._note(key, problem, given=_few(entry.name for entry in entries), remedy="change the values, or what the rules match")
            for name in settings.schedules:
                self._check_schedule(settings, name)
        for name, node in self.recipe.schedule.items():
            if not any(name in settings.hyperparameters for settings, _, _ in merged):
                self._note_unknown(f"schedule.{name}", name, node.get("_target_"), merged[0][0].traits)
        classes = list(dict.fromkeys(settings.traits.optimizer for settings, _, _ in merged))
        if len(classes) > 1:
            names = ", ".join(map(dotted_name, classes))
            key = next(f"rules.{rule.name}.optimizer" for rule in self.recipe.rules if rule.optimizer)
            remedy = "let all parameters end with the same class; hyperparameters may differ by rule"
            self._note(key, "one run holds one optimizer class in this version", given=names, remedy=remedy)
        elif len(merged) > 1:
            wrong = merged[0][0].traits.refusal_of_groups()
            if wrong is not None:
                problem = f"{dotted_name(classes[0])} holds one param group, this recipe makes {len(merged)}: {wrong}"
                self._note("rules", problem, remedy="remove the rules (rules=none), or choose another class")

    def _check_schedule(self, settings: _Settings, name: str) -> None:
        key, start = settings.schedule_origins[name], settings.hyperparameters[name]
        if isinstance(start, bool) or not isinstance(start, (int, float)):
            self._note(key, f"{name} is not one number, so it can't be scheduled", given=repr(start), remedy="schedule a number")
            return
        curve = self._curve(settings.schedules[name], start, key)
        if curve is None:
            return
        reached = span(curve, self.horizon)
        for value in (reached.low, reached.peak):
            wrong = settings.traits.refusal({name: value})
            if wrong is not None:
                problem = f"it takes {name} to {value:g}, which {dotted_name(settings.traits.optimizer)} refuses: {wrong}"
                self._note(key, problem, given=f"from {start:g}", remedy="change where the schedule goes")
                return

    def _curve(self, node: Mapping[str, Any], start: float, key: str) -> Curve | None:
        try:
            schedule: Schedule = instantiate(node, (Schedule,), key)
        except ConfigError as error:
            self.mistakes.extend(error.mistakes)
            return None
        try:
            return schedule.curve(start, self.horizon)
        except LitOptimError as error:
            for mistake in error.mistakes:
                self.mistakes.append(mistake.under(key))
            return None

    def _idle_rules(self, settled: Mapping[tuple[int, ...], _Settings]) -> list[str]:
        """Rules that match and yet leave no trace."""
        default = settled[()]
        at_work = {name for settings in settled.values() if not settings.same(default) for name in settings.shaped_by}
        return [
            f"rules.{rule.name} changes nothing: later rules override it, or the defaults say the same"
            for rule in self.recipe.rules
            if rule.name not in at_work
        ]

    def _note_unknown(self, key: str, name: str, value: Any, traits: Traits) -> None:
        problem = f"{dotted_name(traits.optimizer)} has no hyperparameter {name!r}"
        if name in EXECUTION:
            problem = f"{name!r} chooses how the whole optimizer computes"
        known = tuple(traits.defaults)
        remedy = "write it under optimizer" if name in EXECUTION else "correct the name or remove it"
        self._note(key, problem, given=repr(value), allowed=known, nearest=nearest(name, known), remedy=remedy)

    def _note(self, key: str, problem: str, **more: Any) -> None:
        self.mistakes.append(Mistake(key, problem, **more))


def _hashable(value: Any) -> Any:
    """Lists as tuples, so that a plan read back from JSON equals the one written."""
    if isinstance(value, Mapping):
        return {name: _hashable(item) for name, item in value.items()}
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def _is_number(value: object) -> bool:
    """Whether a text reads as a number (YAML 1.1 takes ``1e-3`` for text)."""
    try:
        return isinstance(value, str) and float(value) == float(value)
    except ValueError:
        return False


def _few(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
