"""The cascade: what a parameter ends with, given the rules that match it, from top to bottom."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.optim import Optimizer

from lit_optim.durations import Duration
from lit_optim.errors import ConfigError, Mistake, nearest
from lit_optim.plan import canonical
from lit_optim.recipe import Recipe
from lit_optim.rules import Rule
from lit_optim.targets import dotted_name, resolve
from lit_optim.traits import EXECUTION, Traits, traits_of

__all__ = ["DEFAULT", "Cascade", "Freeze", "Settled", "tuples"]

DEFAULT = ""
"""Stands for the recipe's own optimizer among the names of rules."""


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
    depth: int | None = None
    depth_factor: float = 1.0

    @property
    def is_frozen(self) -> bool:
        """Whether no optimizer holds it."""
        return self.freeze is not None and self.freeze.until is None

    @functools.cached_property
    def identity(self) -> str:
        """Equal for those that can share a group."""
        cls = self.traits.optimizer
        settings = canonical([self.hyperparameters, self.schedules, self.freeze_until])
        return repr((cls.__module__, cls.__qualname__, settings))  # repr tells True from 1.0


class Cascade:
    """Settles rules over a recipe's defaults; what is wrong on the way is added to ``mistakes``."""

    def __init__(self, recipe: Recipe, mistakes: list[Mistake]) -> None:
        self.recipe = recipe
        self.mistakes = mistakes
        self.classes = self._classes()

    def _classes(self) -> dict[str, Traits]:
        """The traits of the default class and of each rule's own, by rule; those that can't be used are left out.

        For a misspelled class the nearest stands in, so that one look finds the mistakes behind this one as well.
        """
        classes = {}
        for name, target in [
            (DEFAULT, self.recipe.optimizer),
            *((rule.name, rule.optimizer) for rule in self.recipe.rules),
        ]:
            if target is None:
                continue
            key = "optimizer" if name == DEFAULT else f"rules.{name}.optimizer"
            traits = self._traits(target, key)
            if traits is None and self.mistakes[-1].nearest:
                package = target.rpartition(".")[0]
                told = len(self.mistakes)
                traits = self._traits(f"{package}.{self.mistakes[-1].nearest[0]}", key)
                del self.mistakes[told:]
            if traits is not None:
                classes[name] = traits
        return classes

    def _traits(self, target: str, key: str) -> Traits | None:
        try:
            optimizer: type[Optimizer] = resolve(target, (Optimizer,), key)
            return traits_of(optimizer)
        except ConfigError as error:
            self.mistakes.extend(error.mistakes)
        except Exception as error:  # whatever a class of the user's may raise
            remedy = "choose a class that is constructed from parameters and hyperparameters alone"
            self.note(f"{key}._target_", f"{target} can't be constructed: {error}", given=target, remedy=remedy)
        return None

    def settle(self, rules: Sequence[Rule]) -> Settled | None:
        """Class and absolute values first, a later rule winning; then every ``multiply``; then schedules.

        Args:
            rules: Those that match, in the recipe's order.

        Returns:
            None where no class is in force.
        """
        rules = [rule for rule in rules if rule.optimizer is None or rule.name in self.classes]  # the rest was refused
        chooser = next((rule.name for rule in reversed(rules) if rule.optimizer is not None), DEFAULT)
        if chooser not in self.classes:
            return None
        traits = self.classes[chooser]
        values: dict[str, Any] = dict(traits.defaults)
        origins: dict[str, str] = {}
        said = list(self._said(rules, traits))
        beside = _sound({name: value for _, new in said for name, value in new.items()}, traits)
        for key, new in said:
            self._assign(values, origins, new, key, traits, beside)
        written = {name: values[name] for name in origins}
        values = {**traits.defaults_beside(written), **written}
        shaped = {origin.split(".")[1] for origin in origins.values() if origin.startswith("rules.")}
        for rule in rules:
            for name, factor in rule.multiply.items():
                self._multiply(values, name, factor, f"{rule.key}.multiply.{name}", traits)
                shaped.add(rule.name)
        schedules, schedule_origins = self._schedules(rules, values, traits)
        shaped |= {rule.name for rule in rules if rule.schedule}
        on_freezing = [rule for rule in rules if rule.freeze is not None or rule.freeze_until is not None]
        freeze = _freeze(on_freezing[-1]) if on_freezing else None  # the last word; ``freeze: false`` undoes the others
        decay = next((rule for rule in reversed(rules) if rule.layer_decay is not None), None)
        if decay is not None and "lr" not in values:
            self.note_unknown(f"{decay.key}.layer_decay", "lr", decay.layer_decay, traits)
            decay = None
        at_work = {*shaped, chooser, *(rule.name for rule in on_freezing[-1:])}
        return Settled(
            traits,
            "optimizer" if chooser == DEFAULT else f"rules.{chooser}.optimizer",
            values,
            schedules,
            origins,
            schedule_origins,
            frozenset(at_work - {DEFAULT}),
            freeze=freeze,
            layer_decay=decay,
        )

    def _said(self, rules: Sequence[Rule], traits: Traits) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What each place of the config says; the top's own values never cross to another class."""
        if DEFAULT in self.classes and traits.optimizer is self.classes[DEFAULT].optimizer:
            yield "optimizer", {name: value for name, value in self.recipe.values.items() if name not in EXECUTION}
        for rule in rules:
            yield f"{rule.key}.optimizer", rule.arguments
            yield rule.key, rule.values

    def _schedules(
        self, rules: Sequence[Rule], values: Mapping[str, Any], traits: Traits
    ) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
        """The schedules in force, and where each stands: the shared ones, then the rules', a later one winning."""
        schedules = {name: node for name, node in self.recipe.schedule.items() if name in values}
        origins = {name: f"schedule.{name}" for name in schedules}
        for rule in rules:
            for name, node in rule.schedule.items():
                key = f"{rule.key}.schedule.{name}"
                if name not in values:
                    self.note_unknown(key, name, node, traits)
                elif node is None:
                    schedules.pop(name, None)
                    origins.pop(name, None)
                else:
                    schedules[name], origins[name] = node, key
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
            if name not in values:
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

    def note_unknown(self, key: str, name: str, value: Any, traits: Traits) -> None:
        """The mistake of a hyperparameter that the class in force lacks."""
        problem = f"{dotted_name(traits.optimizer)} has no hyperparameter {name!r}"
        if name in EXECUTION:
            problem = f"{name!r} chooses how the whole optimizer computes"
        known = tuple(traits.defaults)
        remedy = "write it under optimizer" if name in EXECUTION else "correct the name or remove it"
        self.note(key, problem, given=repr(value), allowed=known, nearest=nearest(name, known), remedy=remedy)

    def note(self, key: str, problem: str, **more: Any) -> None:
        """Add a mistake."""
        self.mistakes.append(Mistake(key, problem, **more))


def _freeze(rule: Rule) -> Freeze | None:
    return Freeze(rule, rule.freeze_until) if rule.freeze or rule.freeze_until is not None else None


def tuples(value: Any) -> Any:
    """Lists as tuples, so that a plan read back from JSON equals the one written."""
    if isinstance(value, Mapping):
        return {name: tuples(item) for name, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def _sound(values: Mapping[str, Any], traits: Traits) -> dict[str, Any]:
    """The values that the class has and takes, each by itself."""
    return {
        name: tuples(value)
        for name, value in values.items()
        if name in traits.defaults and traits.refusal({name: tuples(value)}) is None
    }


def _is_number(value: object) -> bool:
    """Whether a text reads as a number (YAML 1.1 takes ``1e-3`` for text)."""
    try:
        return isinstance(value, str) and float(value) == float(value)
    except ValueError:
        return False
