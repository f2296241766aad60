"""Rules, or settings of a rule, without effect: legal, and seldom what was meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from lit_optim.cascade import Settled
from lit_optim.classes import Classes
from lit_optim.recipe import Recipe
from lit_optim.rules import Rule

__all__ = ["idle_rules"]

_Matching = tuple[int, ...]  # the positions of the rules that match a parameter


def idle_rules(
    recipe: Recipe,
    matching: Collection[_Matching],
    settle: Callable[[_Matching], Settled | None],
    classes: Classes,
) -> Iterator[str]:
    """A warning for each rule whose removal changes nothing, and for what a rule sets beside its ``freeze: true``.

    Of two rules that say the same the first is told, so that all that are told can be removed together. A rule that
    sets nothing but zeros is spared: ``weight_decay: 0.0`` holds whatever the optimizer may say.

    Args:
        recipe: What the user wrote.
        matching: The rules of each parameter that trains, by their positions; each combination once.
        settle: What a combination ends with.
        classes: The recipe's.
    """
    ends = {rules: settle(rules) for rules in matching}
    removed: set[int] = set()
    for index, rule in enumerate(recipe.rules):
        mine = {rules: end for rules, end in ends.items() if index in rules and end is not None}
        if not mine:
            continue
        without = {rules: tuple(one for one in rules if one != index and one not in removed) for rules in mine}
        frozen = all(end.is_frozen for end in mine.values())
        has_a_say = any(_has_a_say(rule, end) for end in mine.values())
        why = way_out = None
        if not has_a_say and (frozen or all(index < rules[-1] for rules in mine)):
            why = "all that it matches is frozen" if frozen else "later rules override all that it sets"
            way_out = "move it down"
        elif not _is_guard(rule, classes) and all(_same(mine[rules], settle(without[rules])) for rules in mine):
            why, way_out = "all that it sets stands without it", "correct what it sets"
        beside = [name for name in rule.to_config() if name not in ("match", "freeze")]
        if why is not None:
            removed.add(index)
            yield f"{rule.key}: it changes nothing, since {why}; remove it ({rule.key}=null), or {way_out}"
        elif rule.freeze and frozen and beside:
            yield (
                f"{rule.key}.freeze: it freezes all that the rule matches, so {', '.join(beside)} beside it "
                f"{'changes' if len(beside) == 1 else 'change'} nothing; remove what stands beside it, or freeze for a "
                "time (freeze_until)"
            )


def _has_a_say(rule: Rule, end: Settled) -> bool:
    if end.is_frozen:
        return end.freeze is not None and end.freeze.rule.name == rule.name
    return rule.name in end.shaped_by or (end.layer_decay is not None and end.layer_decay.name == rule.name)


def _is_guard(rule: Rule, classes: Classes) -> bool:
    """Whether it means something even where it changes no parameter: it only switches off, or speaks of a class."""
    if rule == Rule(rule.name, rule.match, rule.values) and all(value == 0 for value in rule.values.values()):
        return True
    return rule.optimizer is not None and dict(rule.arguments) != classes.of_groups(rule.name, rule.arguments)


def _same(one: Settled, other: Settled | None) -> bool:
    return other is not None and _effect(one) == _effect(other)


def _effect(settled: Settled) -> Mapping[str, Any] | None:
    """What a parameter trains with; None for not at all."""
    if settled.is_frozen:
        return None
    decay = None if settled.layer_decay is None else settled.layer_decay.layer_decay
    return {"identity": settled.identity, "decay": None if decay is None or decay.rate == 1 else decay}
