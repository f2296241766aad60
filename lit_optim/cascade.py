"""The cascade: what a parameter ends with, given the rules that match it, from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch.optim import Optimizer

from lit_optim.errors import ConfigError, Mistake, nearest
from lit_optim.plan import canonical
from lit_optim.recipe import Recipe, Rule
from lit_optim.targets import dotted_name, resolve
from lit_optim.traits import EXECUTION, Traits, traits_of

__all__ = ["DEFAULT", "Cascade", "Settled", "tuples"]

DEFAULT = ""
"""Stands for the recipe's own optimizer among the names of rules."""


@dataclass(frozen=True)
class Settled:
    """What a parameter ends with, and the config keys that it comes from.

    Args:
        traits: Of the class in force.
        hyperparameters: Every one of the class.
        schedules: Schedule nodes by hyperparameter.
        origins: The config key that set each value; the class's own defaults have none.
        schedule_origins: The config key that each schedule stands under.
        shaped_by: The rules that had a say.
    """

    traits: Traits
    hyperparameters: dict[str, Any]
    schedules: dict[str, Mapping[str, Any]]
    origins: dict[str, str] = field(compare=False)
    schedule_origins: dict[str, str] = field(compare=False)
    shaped_by: frozenset[str] = field(compare=False)

    def same(self, other: Settled) -> bool:
        """Whether the two can share a group."""
        mine, others = (
            (ends.traits.optimizer, canonical([ends.hyperparameters, ends.schedules])) for ends in (self, other)
        )
        return repr(mine) == repr(others)  # repr tells True from 1.0


class Cascade:
    """Settles rules over a recipe's defaults; what is wrong on the way is added to ``mistakes``."""

    def __init__(self, recipe: Recipe, mistakes: list[Mistake]) -> None:
        self.recipe = recipe
        self.mistakes = mistakes
        self.classes = self._classes()

    def _classes(self) -> dict[str, Traits]:
        """The traits of the default class and of each rule's own, by rule; those that can't be used are left out."""
        classes = {}
        for name, target in [
            (DEFAULT, self.recipe.optimizer),
            *((rule.name, rule.optimizer) for rule in self.recipe.rules),
        ]:
            if target is None:
                continue
            key = "optimizer" if name == DEFAULT else f"rules.{name}.optimizer"
            try:
                optimizer: type[Optimizer] = resolve(target, (Optimizer,), key)
                classes[name] = traits_of(optimizer)
            except ConfigError as error:
                self.mistakes.extend(error.mistakes)
            except Exception as error:  # whatever a class of the user's may raise
                remedy = "choose a class that is constructed from parameters and hyperparameters alone"
                self.note(f"{key}._target_", f"{target} can't be constructed: {error}", given=target, remedy=remedy)
        return classes

    def settle(self, rules: Sequence[Rule]) -> Settled:
        """Class and absolute values first, a later rule winning; then every ``multiply``; then schedules.

        Args:
            rules: Those that match, in the recipe's order.
        """
        rules = [rule for rule in rules if rule.optimizer is None or rule.name in self.classes]  # the rest was refused
        chooser = next((rule.name for rule in reversed(rules) if rule.optimizer is not None), DEFAULT)
        traits = self.classes[chooser]
        values: dict[str, Any] = dict(traits.defaults)
        origins: dict[str, str] = {}
        said: list[tuple[str, Mapping[str, Any]]] = [(f"rules.{rule.name}", rule.values) for rule in rules]
        if traits.optimizer is self.classes[DEFAULT].optimizer:
            own = {name: value for name, value in self.recipe.values.items() if name not in EXECUTION}
            said.insert(0, ("optimizer", own))
        beside = _sound({name: value for _, new in said for name, value in new.items()}, traits)
        for key, new in said:
            self._assign(values, origins, new, key, traits, beside)
        written = {name: values[name] for name in origins}
        values = {**traits.defaults_beside(written), **written}
        shaped = {origin.split(".")[1] for origin in origins.values() if origin.startswith("rules.")}
        for rule in rules:
            for name, factor in rule.multiply.items():
                self._multiply(values, name, factor, f"rules.{rule.name}.multiply.{name}", traits)
                shaped.add(rule.name)
        schedules = {name: node for name, node in self.recipe.schedule.items() if name in values}
        schedule_origins = {name: f"schedule.{name}" for name in schedules}
        for rule in rules:
            for name, node in rule.schedule.items():
                key = f"rules.{rule.name}.schedule.{name}"
                shaped.add(rule.name)
                if name not in values:
                    self.note_unknown(key, name, node, traits)
                elif node is None:
                    schedules.pop(name, None)
                else:
                    schedules[name], schedule_origins[name] = node, key
        return Settled(traits, values, schedules, origins, schedule_origins, frozenset({*shaped, chooser} - {DEFAULT}))

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
