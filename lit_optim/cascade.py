"""The cascade: what a parameter ends with, given the rules that match it, from top to bottom."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lit_optim.classes import DEFAULT, Classes, tuples
from lit_optim.durations import Duration
from lit_optim.errors import Mistake, nearest
from lit_optim.hyperparameters import numbers_in, place_of
from lit_optim.lr_scaling import SIZE
from lit_optim.plan import canonical
from lit_optim.recipe import Recipe
from lit_optim.rules import Rule
from lit_optim.targets import dotted_name
from lit_optim.traits import EXECUTION, Traits

__all__ = ["Cascade", "Freeze", "Settled"]


@dataclass(frozen=True)
class Freeze:
    """What a rule says of freezing: for good where ``until`` is None, else for a time from the start."""

    rule: Rule
    until: Duration | None


@dataclass(frozen=True)
class Settled:
    """What a parameter ends with, and the config keys that it comes from.

    Args:
        traits: Of the class in force.
        chosen_at: The config key that chose the class.
        hyperparameters: Every one of the class.
        schedules: Schedule nodes by hyperparameter.
        origins: The config key that set each value; the class's own defaults have none.
        schedule_origins: The config key that each schedule stands under.
        shaped_by: The rules that had a say.
        freeze: The rule that freezes it, if one does.
        freeze_until: The step that it moves from on; the planner, which knows the run, fills it in.
        layer_decay: The rule whose layer decay is in force, if there is one.
        clip: The rule that has the last word on the norm of the gradients, if there is one.
        depth: The layer that its learning rate was scaled for.
        depth_factor: What it was scaled by.
    """

    traits: Traits
    chosen_at: str
    hyperparameters: dict[str, Any]
    schedules: dict[str, Mapping[str, Any]]
    origins: dict[str, str]
    schedule_origins: dict[str, str]
    shaped_by: frozenset[str]
    freeze: Freeze | None = None
    freeze_until: int = 0
    layer_decay: Rule | None = None
    clip: Rule | None = None
    depth: int | None = None
    depth_factor: float = 1.0

    @property
    def is_frozen(self) -> bool:
        """Whether no optimizer holds it."""
        return self.freeze is not None and self.freeze.until is None

    @property
    def clip_norm(self) -> float | None:
        """What the norm of its group's gradients is clipped to."""
        norm = None if self.clip is None else self.clip.clip_norm
        return None if norm == math.inf else norm

    @functools.cached_property
    def identity(self) -> str:
        """Equal for those that can share a group."""
        cls = self.traits.optimizer
        settings = canonical([self.hyperparameters, self.schedules, self.freeze_until, self.clip_norm])
        return repr((cls.__module__, cls.__qualname__, settings))  # repr tells True from 1.0


class Cascade:
    """Settles rules over a recipe's defaults; what is wrong on the way is added to ``mistakes``.

    Args:
        recipe: What the user wrote.
        mistakes: Gets what is wrong.
        lr_factor: What every learning rate is multiplied by in the end.
    """

    def __init__(self, recipe: Recipe, mistakes: list[Mistake], lr_factor: float = 1.0) -> None:
        self.recipe = recipe
        self.mistakes = mistakes
        self.lr_factor = lr_factor
        self.classes = Classes(recipe, mistakes)

    def settle(self, rules: Sequence[Rule]) -> Settled | None:
        """Class and absolute values first, a later rule winning; then every ``multiply``, and the batch size's factor.

        Args:
            rules: Those that match, in the recipe's order.

        Returns:
            None where no class is in force.
        """
        usable = self.classes.traits  # the rest was refused
        rules = [rule for rule in rules if rule.optimizer is None or rule.name in usable]
        chooser = next((rule.name for rule in reversed(rules) if rule.optimizer is not None), DEFAULT)
        if chooser not in self.classes.traits:
            return None
        traits = self.classes.traits[chooser]
        chosen_at = "optimizer" if chooser == DEFAULT else f"rules.{chooser}.optimizer"
        values: dict[str, Any] = dict(traits.defaults)
        origins: dict[str, str] = {}
        said = list(self._said(rules, traits))
        beside = _sound({name: value for _, new in said for name, value in new.items()}, traits)
        for key, new in said:
            self._assign(values, origins, new, key, traits, beside)
        written = {name: values[name] for name in origins}
        self._check_said_by_groups(traits, written, chosen_at)
        values = {**traits.defaults_beside(written), **written}
        shaped = {origin.split(".")[1] for origin in origins.values() if origin.startswith("rules.")}
        for rule in rules:
            for name, factor in rule.multiply.items():
                self._multiply(values, name, factor, f"{rule.key}.multiply.{name}", traits)
                shaped.add(rule.name)
        if self.lr_factor != 1 and "lr" in values:
            self._multiply(values, "lr", self.lr_factor, SIZE, traits)
        schedules, schedule_origins = self._schedules(rules, values, traits)
        shaped |= {rule.name for rule in rules if rule.schedule}
        on_freezing = [rule for rule in rules if rule.freeze is not None or rule.freeze_until is not None]
        freeze = _freeze(on_freezing[-1]) if on_freezing else None  # the last word; ``freeze: false`` undoes the others
        decay = next((rule for rule in reversed(rules) if rule.layer_decay is not None), None)
        if decay is not None and "lr" not in values:
            self.note_unknown(f"{decay.key}.layer_decay", "lr", decay.layer_decay, traits)
            decay = None
        clipping = [rule for rule in rules if rule.clip_norm is not None]
        clips = any(rule.clip_norm != math.inf for rule in clipping)  # or infinity takes nothing back
        at_work = {*shaped, chooser, *(rule.name for rule in (*on_freezing[-1:], *clipping[-1:] * clips))}
        return Settled(
            traits,
            chosen_at,
            values,
            schedules,
            origins,
            schedule_origins,
            frozenset(at_work - {DEFAULT}),
            freeze=freeze,
            layer_decay=decay,
            clip=clipping[-1] if clipping else None,
        )

    def _check_said_by_groups(self, traits: Traits, written: Mapping[str, Any], chosen_at: str) -> None:
        for name in traits.said_by_groups:
            if name not in written:
                problem = f"{dotted_name(traits.optimizer)} wants every param group to say {name!r}"
                remedy = f"set {chosen_at}.{name}, and otherwise in a rule: rules.NAME.{name}"
                self.note(f"{chosen_at}.{name}", problem, remedy=remedy)

    def _said(self, rules: Sequence[Rule], traits: Traits) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What each place of the config says; the top's own values never cross to another class."""
        default = self.classes.traits.get(DEFAULT)
        if default is not None and traits.optimizer is default.optimizer:
            yield "optimizer", self.classes.of_groups(DEFAULT, self.recipe.values)
        for rule in rules:
            if rule.optimizer is not None:
                yield f"{rule.key}.optimizer", self.classes.of_groups(rule.name, rule.arguments)
            yield rule.key, rule.values

    def _schedules(
        self, rules: Sequence[Rule], values: Mapping[str, Any], traits: Traits
    ) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
        """The schedules in force, and where each stands: the shared ones, then the rules', a later one winning."""
        schedules: dict[str, Mapping[str, Any]] = {}
        origins: dict[str, str] = {}
        for key, said in (
            ("schedule", self.recipe.schedule),
            *((f"{rule.key}.schedule", rule.schedule) for rule in rules),
        ):
            mine: dict[str, str] = {}
            for name, node in said.items():
                place = place_of(name, values)
                if place is None:
                    if key != "schedule":  # the shared ones are for whatever groups have the number
                        self.note_unscheduled(f"{key}.{name}", name, node, values, traits)
                    continue
                if mine.setdefault(place, name) != name:
                    problem = (
                        f"{name} and {mine[place]} are the same number of {dotted_name(traits.optimizer)}: {place}"
                    )
                    self.note(f"{key}.{name}", problem, remedy=f"keep one of them ({key}.{name}=null removes this one)")
                if node is None:
                    schedules.pop(place, None)
                    origins.pop(place, None)
                else:
                    schedules[place], origins[place] = node, f"{key}.{name}"
        return schedules, origins

    def at_depth(self, settled: Settled, depth: int, last: int) -> Settled:
        """The same at a layer of the model: its learning rate scaled by the layer decay in force.

        Args:
            settled: With a layer decay.
            depth: The layer, 0 for the one nearest to the input.
            last: The layer of the output.
        """
        rule = settled.layer_decay
        assert rule is not None
        assert rule.layer_decay is not None
        factor = max(rule.layer_decay.rate ** (last - depth), rule.layer_decay.min_factor)
        values = dict(settled.hyperparameters)
        self._multiply(values, "lr", factor, f"{rule.key}.layer_decay", settled.traits)
        shaped_by = settled.shaped_by | {rule.name}
        return replace(settled, hyperparameters=values, shaped_by=shaped_by, depth=depth, depth_factor=factor)

    def _multiply(self, values: dict[str, Any], name: str, factor: float, key: str, traits: Traits) -> None:
        if name not in values:
            self.note_unknown(key, name, factor, traits)
        elif isinstance(values[name], bool) or not isinstance(values[name], (int, float)):
            self.note(
                key, f"{name} is not one number here", given=repr(values[name]), remedy="set it in the rule instead"
            )
        else:
            wrong = traits.refusal({name: values[name] * factor})
            if wrong is None:
                values[name] *= factor
            else:
                problem = f"{dotted_name(traits.optimizer)} refuses {values[name]:g} × {factor:g}: {wrong}"
                self.note(key, problem, given=repr(factor), remedy="correct the factor")

    def _assign(
        self,
        values: dict[str, Any],
        origins: dict[str, str],
        new: Mapping[str, Any],
        key: str,
        traits: Traits,
        beside: Mapping[str, Any],
    ) -> None:
        """Set what one place says.

        A value is wrong if the class refuses it alone, with the values of its place, and ``beside`` all that are said:
        SGD, for one, takes ``nesterov`` only with a momentum, which may stand in another rule.
        """
        so_far = {**values, **_sound(new, traits)}
        for name, value in new.items():
            if not traits.has(name):
                self.note_unknown(f"{key}.{name}", name, value, traits)
                continue
            wrong = traits.refusal({name: tuples(value)})
            if wrong is not None and all(
                traits.refusal({**others, name: tuples(value)}) is not None for others in (so_far, beside)
            ):
                remedy = "drop the quotes, and write 1.0e-3 for 1e-3" if _is_number(value) else "correct the value"
                problem = f"{dotted_name(traits.optimizer)} refuses this: {wrong}"
                self.note(f"{key}.{name}", problem, given=repr(value), remedy=remedy)
                continue
            values[name], origins[name] = tuples(value), f"{key}.{name}"

    def note_unscheduled(self, key: str, name: str, node: Any, values: Mapping[str, Any], traits: Traits) -> None:
        """The mistake of a schedule for what the class in force lacks; its numbers are what can move."""
        known = numbers_in(values)
        problem = f"{dotted_name(traits.optimizer)} has no hyperparameter {name!r}"
        remedy = "correct the name or remove it"
        given = None if node is None else repr(node["_target_"])
        self.note(key, problem, given=given, allowed=tuple(known), nearest=nearest(name, known), remedy=remedy)

    def note_unknown(self, key: str, name: str, value: Any, traits: Traits) -> None:
        """The mistake of a hyperparameter that the class in force lacks."""
        problem = f"{dotted_name(traits.optimizer)} has no hyperparameter {name!r}"
        known, remedy = (*traits.defaults, *sorted(traits.optional)), "correct the name or remove it"
        if name in EXECUTION or name in traits.of_all_groups:
            problem = f"{name!r} is for all groups of {dotted_name(traits.optimizer)} at once"
            remedy = "write it under the optimizer that names the class"
        elif name == "clip_norm":
            remedy = "write it in a rule: rules.NAME.clip_norm"
        elif ".optimizer." in f".{key}":
            known += traits.of_all_groups
        self.note(key, problem, given=repr(value), allowed=known, nearest=nearest(name, known), remedy=remedy)

    def note(self, key: str, problem: str, **more: Any) -> None:
        """Add a mistake."""
        self.mistakes.append(Mistake(key, problem, **more))


def _freeze(rule: Rule) -> Freeze | None:
    return Freeze(rule, rule.freeze_until) if rule.freeze or rule.freeze_until is not None else None


def _sound(values: Mapping[str, Any], traits: Traits) -> dict[str, Any]:
    """The values that the class has and takes, each by itself."""
    return {
        name: tuples(value)
        for name, value in values.items()
        if traits.has(name) and traits.refusal({name: tuples(value)}) is None
    }


def _is_number(value: object) -> bool:
    """Whether a text reads as a number (YAML 1.1 takes ``1e-3`` for text)."""
    try:
        return isinstance(value, str) and float(value) == float(value)
    except ValueError:
        return False
