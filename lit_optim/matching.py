"""Which rules match each parameter of a model, and in which of a rule's layers it stands."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from lit_optim.depth import Depths, inferred_depths, listed_depths
from lit_optim.errors import Mistake
from lit_optim.grouping import few
from lit_optim.recipe import Recipe
from lit_optim.rules import Rule
from lit_optim.selection import Entry, ParameterIndex

__all__ = ["Matching"]


class Matching:
    """The rules of a recipe held against the parameters of a model.

    Args:
        model: Any module; wrappers are looked through.
        recipe: What the user wrote.
        mistakes: Gets what is wrong: a rule that matches nothing, a name that fits in several places, a tied parameter
            that is claimed two ways.

    Attributes:
        index: The model's parameters.
        rules_of: For each parameter the positions of the rules that match it, from top to bottom.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, mistakes: list[Mistake]) -> None:
        self.index = ParameterIndex(model)
        self.recipe = recipe
        self.mistakes = mistakes
        self._places = [self._select(rule) for rule in recipe.rules]
        matching: list[list[int]] = [[] for _ in self.index.entries]
        for position, places in enumerate(self._places):
            for entry in self.index.entries_at(places):
                matching[entry].append(position)
        self.rules_of = [tuple(rules) for rules in matching]
        self._depths: dict[str | None, Depths] = {}  # by the rule that lists them
        self._check_tied()

    def entries_of(self, rule: int) -> list[Entry]:
        """The parameters that the rule at this position matches."""
        return [self.index.entries[position] for position in sorted(self.index.entries_at(self._places[rule]))]

    def depths(self, rule: Rule) -> Depths:
        """The layers that a rule's layer decay goes by: told from the model, or from the rule's own list."""
        assert rule.layer_decay is not None
        order = rule.layer_decay.order
        key = None if order is None else rule.name
        if key not in self._depths:
            self._depths[key] = inferred_depths(self.index.model) if order is None else self._listed(rule, order)
        return self._depths[key]

    def _select(self, rule: Rule) -> set[int]:
        if rule.match is None:  # the recipe has refused it
            return set()
        key, remedy = f"{rule.key}.match", f"correct the match, or remove the rule ({rule.key}=null)"
        wrong: list[Mistake] = []
        places = self.index.select(rule.match, key, wrong)
        if not places and not wrong:
            problem = "no parameter is all that this asks for"
            wrong.append(Mistake(key, problem, given=repr(rule.match), remedy=remedy))
        self.mistakes += [one if places or one.key != key else replace(one, remedy=remedy) for one in wrong]
        return places

    def _listed(self, rule: Rule, order: tuple[str, ...]) -> Depths:
        key = f"{rule.key}.layer_decay.order"
        before = len(self.mistakes)
        for number, glob in enumerate(order):
            self.index.select(glob, f"{key}.{number}", self.mistakes)
        depths = listed_depths(order, self.index.names)
        entries = self.entries_of(self.recipe.rules.index(rule))
        left_out = [entry for entry in entries if not any(name in depths for name in entry.names)]
        if left_out and len(self.mistakes) == before:
            problem = f"no glob of the order fits {few(left_out)}"
            remedy = "add a glob for them where they stand between input and output, or narrow the match"
            self.mistakes.append(Mistake(key, problem, given=repr(list(order)), remedy=remedy))
        return depths

    def _check_tied(self) -> None:
        """Refuse a tied parameter that two rules claim by different names to set the same thing differently."""
        first = 0
        for entry, rules in zip(self.index.entries, self.rules_of, strict=True):
            count = len(entry.names)
            if count > 1:
                of_entry = {*range(first, first + count)}
                by_rule = {rule: self._places[rule] & of_entry for rule in rules}
                for earlier, later in itertools.combinations(rules, 2):
                    if not by_rule[earlier] & by_rule[later]:
                        both = (earlier, later)
                        claiming = [self.recipe.rules[rule] for rule in both]
                        self._check_claims(entry, claiming, [by_rule[rule] for rule in both])
            first += count

    def _check_claims(self, entry: Entry, rules: list[Rule], by_names: list[set[int]]) -> None:
        first, second = map(_claims, rules)
        twice = [what for what in first if what in second and first[what] != second[what]]
        if not twice and (_freezes_what_is_set(first, second) or _freezes_what_is_set(second, first)):
            twice = [*first, *second]
        if not twice:
            return
        claims = (
            f"as {', '.join(self.index.names[place] for place in sorted(places))} by {rule.key}"
            for rule, places in zip(rules, by_names, strict=True)
        )
        given = ", ".join(
            f"{rule.key}.{what}={says[what]!r}"
            for what in twice
            for rule, says in zip(rules, (first, second), strict=True)
            if what in says
        )
        remedy = f"exclude it from one of them, {{…, not: {entry.names[-1]}}}, or let both say the same"
        problem = f"a tied parameter is claimed two ways: {' and '.join(claims)}"
        self.mistakes.append(Mistake(f"{rules[1].key}.match", problem, given=given, remedy=remedy))


def _freezes_what_is_set(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one freezes for good what the other sets, which then has no effect."""
    return one.get("freeze") is True and bool(other) and "freeze" not in other


def _claims(rule: Rule) -> dict[str, Any]:
    """What a rule sets, by config key below its own, whether it stands beside its class or under it."""
    claims: dict[str, Any] = {**rule.arguments, **rule.values}
    claims |= {f"multiply.{name}": factor for name, factor in rule.multiply.items()}
    claims |= {f"schedule.{name}": node for name, node in rule.schedule.items()}
    freezes = rule.freeze if rule.freeze is not None else rule.freeze_until
    others = {
        "optimizer": rule.optimizer,
        "freeze": freezes,
        "layer_decay": rule.layer_decay,
        "clip_norm": rule.clip_norm,
    }
    return claims | {name: value for name, value in others.items() if value is not None}
