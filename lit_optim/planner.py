"""Model + recipe + horizon → plan: who matches what, the merged groups, and every refusal.

Nothing is changed and nothing is stepped here; the model is only looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lit_optim.cascade import DEFAULT, Cascade, Settled, tuples
from lit_optim.durations import Horizon
from lit_optim.errors import ConfigError, LitOptimError, Mistake, PlanError, nearest
from lit_optim.plan import Group, Plan, Span, span
from lit_optim.recipe import Recipe, Rule
from lit_optim.schedules import Curve, Schedule
from lit_optim.selection import Entry, entries_of, select
from lit_optim.targets import dotted_name, instantiate
from lit_optim.traits import EXECUTION, Traits

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


@dataclass
class _Merged:
    """Parameters that ended with the same settings: a group to be."""

    settled: Settled
    entries: list[Entry]
    shaped_by: set[str]


class _Planner:
    """One pass over a recipe; ``mistakes`` gathers what is wrong on the way, so that all of it is told at once."""

    def __init__(self, recipe: Recipe, horizon: Horizon, entries: list[Entry]) -> None:
        self.recipe = recipe
        self.horizon = horizon
        self.mistakes: list[Mistake] = []
        self.warnings: list[str] = []
        self.frozen = [entry for entry in entries if not entry.parameter.requires_grad]
        self.trained = [entry for entry in entries if entry.parameter.requires_grad]
        self.execution = {name: value for name, value in recipe.values.items() if name in EXECUTION}
        self.cascade = Cascade(recipe, self.mistakes)

    def plan(self) -> Plan | None:
        """The plan; None where too little is known to go on. It stands only if there are no mistakes."""
        self._check_parameters()
        matching = self._matching_rules()
        if DEFAULT not in self.cascade.classes or not self.trained:
            return None
        matched = {index for rules in matching for index in rules}
        unmatched = [(index,) for index in range(len(self.recipe.rules)) if index not in matched]
        settled = {
            rules: self.cascade.settle([self.recipe.rules[i] for i in rules])
            for rules in dict.fromkeys([(), *matching, *unmatched])
        }
        merged, home = self._merge(matching, settled)
        self._check_groups(merged)
        self._check_top_schedules(merged)
        self._check_classes(merged)
        self._check_execution(merged[0].settled.traits)
        groups = self._groups(merged)
        self._warn_of_idle_rules(settled[rules] for rules in home)
        return Plan(
            groups=tuple(groups),
            horizon=self.horizon,
            frozen=tuple(entry.name for entry in self.frozen),
            frozen_numel=sum(entry.parameter.numel() for entry in self.frozen if not entry.is_lazy),
            tied={name: entry.name for entry in (*self.trained, *self.frozen) for name in entry.names[1:]},
            rules={
                rule.name: tuple(dict.fromkeys(groups[home[rules]].name for rules in home if index in rules))
                for index, rule in enumerate(self.recipe.rules)
            },
            warnings=tuple(self.warnings),
            execution=self.execution,
        )

    def _check_parameters(self) -> None:
        if not self.trained:
            what = "every parameter is frozen (requires_grad=False)" if self.frozen else "the model has no parameters"
            self._note("model", f"nothing to train: {what}", remedy="give a model with trainable parameters")
        for entry in self.trained:
            if entry.is_lazy:
                problem = f"{entry.name} has no shape yet (a lazy module)"
                self._note("model", problem, remedy="run one batch through the model before it is planned")

    def _matching_rules(self) -> list[tuple[int, ...]]:
        """For each trained parameter the positions of the rules that match it, from top to bottom."""
        matching: list[list[int]] = [[] for _ in self.trained]
        for index, rule in enumerate(self.recipe.rules):
            key = f"rules.{rule.name}.match"
            try:
                chosen = select(rule.match, self.trained, key)
                if not chosen:
                    self._note_no_match(rule, key)
            except LitOptimError as error:
                self.mistakes.extend(error.mistakes)
                continue
            for position in chosen:
                matching[position].append(index)
        return [tuple(rules) for rules in matching]

    def _note_no_match(self, rule: Rule, key: str) -> None:
        names = [name for entry in self.trained for name in entry.names]
        modules = [name.rpartition(".")[0] for name in names if "." in name]
        text = rule.match.lstrip("^*.") if isinstance(rule.match, str) else ""
        frozen = bool(self.frozen) and bool(select(rule.match, self.frozen, key))
        problem = "only frozen parameters match" if frozen else "no trainable parameter matches"
        allowed = tuple(dict.fromkeys([*modules, *names]))
        near = nearest(text, allowed) or nearest(text.rpartition(".")[2], allowed)
        remedy = f"correct the match, or remove the rule (rules.{rule.name}=null)"
        self._note(key, problem, given=repr(rule.match), allowed=allowed, nearest=near, remedy=remedy)

    def _merge(
        self, matching: list[tuple[int, ...]], settled: Mapping[tuple[int, ...], Settled]
    ) -> tuple[list[_Merged], dict[tuple[int, ...], int]]:
        """Gather what ended with the same settings; also say where each combination of rules went."""
        merged: list[_Merged] = []
        home: dict[tuple[int, ...], int] = {}
        for rules, entry in zip(matching, self.trained, strict=True):
            if rules not in home:
                ends = settled[rules]
                home[rules] = next((i for i, other in enumerate(merged) if other.settled.same(ends)), len(merged))
                if home[rules] == len(merged):
                    merged.append(_Merged(ends, [], set()))
                if not ends.same(settled[()]):
                    merged[home[rules]].shaped_by |= ends.shaped_by
            merged[home[rules]].entries.append(entry)
        return merged, home

    def _groups(self, merged: list[_Merged]) -> list[Group]:
        groups: list[Group] = []
        for one in merged:
            rules = tuple(rule.name for rule in self.recipe.rules if rule.name in one.shaped_by)
            groups.append(
                Group(
                    name=_unique(".".join(sorted(rules)) or "default", {group.name for group in groups}),
                    optimizer=dotted_name(one.settled.traits.optimizer),
                    hyperparameters=one.settled.hyperparameters,
                    schedules={name: tuples(node) for name, node in one.settled.schedules.items()},
                    parameters=tuple(entry.name for entry in one.entries),
                    numel=sum(entry.parameter.numel() for entry in one.entries if not entry.is_lazy),
                    rules=rules,
                )
            )
        return groups

    def _check_groups(self, merged: list[_Merged]) -> None:
        """Ask the classes whether they take what the cascade gave, and the schedules whether they fit the run."""
        for one in merged:
            settled = one.settled
            ndims = sorted({entry.parameter.ndim for entry in one.entries if not entry.is_lazy})
            wrong = settled.traits.refusal(settled.hyperparameters, ndims)
            if wrong is not None:
                by_rules = [origin for origin in settled.origins.values() if origin.startswith("rules.")]
                problem = f"{dotted_name(settled.traits.optimizer)} refuses this for {_few(one.entries)}: {wrong}"
                given = ", ".join(
                    f"{origin}={settled.hyperparameters[name]}" for name, origin in settled.origins.items()
                )
                remedy = "change the values, or what the rules match"
                self._note(by_rules[-1] if by_rules else "optimizer", problem, given=given or None, remedy=remedy)
            for name in settled.schedules:
                self._check_schedule(one, name)

    def _check_top_schedules(self, merged: list[_Merged]) -> None:
        for name, node in self.recipe.schedule.items():
            if not any(name in one.settled.hyperparameters for one in merged):
                self.cascade.note_unknown(f"schedule.{name}", name, node.get("_target_"), merged[0].settled.traits)

    def _check_classes(self, merged: list[_Merged]) -> None:
        classes = list(dict.fromkeys(one.settled.traits.optimizer for one in merged))
        if len(classes) > 1:
            key = next(f"rules.{rule.name}.optimizer" for rule in self.recipe.rules if rule.optimizer)
            remedy = "let all parameters end with the same class; hyperparameters may differ by rule"
            names = ", ".join(map(dotted_name, classes))
            self._note(key, "one run holds one optimizer class in this version", given=names, remedy=remedy)
        elif len(merged) > 1:
            wrong = merged[0].settled.traits.refusal_of_groups()
            if wrong is not None:
                problem = f"{dotted_name(classes[0])} holds one param group, this recipe makes {len(merged)}: {wrong}"
                self._note("rules", problem, remedy="remove the rules (rules=none), or choose another class")

    def _check_execution(self, traits: Traits) -> None:
        """Refuse what would only come to light when the optimizer is built."""
        known = tuple(name for name in EXECUTION if name in traits.arguments)
        for name, value in self.execution.items():
            if name not in known:
                problem = f"{dotted_name(traits.optimizer)} has no argument {name!r}"
                self._note(f"optimizer.{name}", problem, given=repr(value), allowed=known, remedy="remove it")
            elif not isinstance(value, bool):
                self._note(f"optimizer.{name}", "true or false is needed", given=repr(value), remedy="correct it")
        wrong = traits.refusal({name: value for name, value in self.execution.items() if name in known})
        if wrong is not None:
            given = ", ".join(f"{name}={value}" for name, value in self.execution.items())
            problem = f"{dotted_name(traits.optimizer)} refuses this: {wrong}"
            self._note("optimizer", problem, given=given, remedy=f"keep one of {', '.join(self.execution)}")

    def _check_schedule(self, one: _Merged, name: str) -> None:
        settled = one.settled
        key, start = settled.schedule_origins[name], settled.hyperparameters[name]
        if isinstance(start, bool) or not isinstance(start, (int, float)):
            self._note(
                key,
                f"{name} is not one number, so it can't be scheduled",
                given=repr(start),
                remedy="schedule a number",
            )
            return
        reached = self._reached(settled.schedules[name], start, key)
        if reached is None:
            return
        for value in (reached.low, reached.peak):
            wrong = settled.traits.refusal({name: value})
            if wrong is not None:
                problem = (
                    f"it takes {name} to {value:g}, which {dotted_name(settled.traits.optimizer)} refuses: {wrong}"
                )
                self._note(key, problem, given=f"from {start:g}", remedy="change where the schedule goes")
                return
        if start == 0 and reached.peak > 0 and name in settled.origins:
            self.warnings.append(
                f"{key} takes {name} of {_few(one.entries)} from the 0 that {settled.origins[name]} sets to "
                f"{reached.peak:g}; final_factor in place of final_value, or a schedule of null in the rule, keeps it 0"
            )

    def _reached(self, node: Mapping[str, Any], start: float, key: str) -> Span | None:
        """Where a schedule goes in this run; None where it is refused."""
        try:
            schedule: Schedule = instantiate(node, (Schedule,), key)
        except ConfigError as error:
            self.mistakes.extend(error.mistakes)
            return None
        try:
            curve: Curve = schedule.curve(start, self.horizon)
            return span(curve, self.horizon)
        except LitOptimError as error:
            self.mistakes.extend(mistake.under(key) for mistake in error.mistakes)
        except (ArithmeticError, TypeError, ValueError) as error:
            self._note(
                key,
                f"it can't be evaluated: {type(error).__name__}: {error}",
                given=repr(node),
                remedy="mend its arguments, or what its curve() returns: a function of the step",
            )
        return None

    def _warn_of_idle_rules(self, reached: Iterable[Settled]) -> None:
        at_work = {name for ends in reached for name in ends.shaped_by}
        self.warnings += [
            f"rules.{rule.name} changes nothing: later rules override all that it sets"
            for rule in self.recipe.rules
            if rule.name not in at_work
        ]

    def _note(self, key: str, problem: str, **more: Any) -> None:
        self.mistakes.append(Mistake(key, problem, **more))


def _unique(name: str, taken: Iterable[str]) -> str:
    """The name, or with the first free number from 2 on."""
    names, count = {*taken}, 2
    while name in names and f"{name}.{count}" in names:
        count += 1
    return f"{name}.{count}" if name in names else name


def _few(entries: list[Entry]) -> str:
    names = [entry.name for entry in entries]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
