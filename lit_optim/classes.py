"""The optimizer classes of a recipe: what is known of each, and what it is constructed with for all of its groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch.optim import Optimizer

from lit_optim.construction import constructor_of
from lit_optim.errors import ConfigError, Mistake
from lit_optim.needs import has_modes, own_backward
from lit_optim.recipe import Recipe
from lit_optim.targets import dotted_name, resolve
from lit_optim.traits import EXECUTION, Traits, traits_of

__all__ = ["DEFAULT", "Argument", "Classes", "tuples"]

DEFAULT = ""
"""Stands for the recipe's own optimizer among the names of rules."""


class Argument(NamedTuple):
    """What a class is constructed with, and the config key that says so."""

    value: Any
    key: str


class Classes:
    """The default class and each rule's own; those that can't be used are left out, with a mistake each.

    Args:
        recipe: What the user wrote.
        mistakes: Gets what is wrong.

    Attributes:
        traits: By rule, and by `DEFAULT`.
        said: All that is said where the class is named, likewise.
    """

    def __init__(self, recipe: Recipe, mistakes: list[Mistake]) -> None:
        self.traits: dict[str, Traits] = {}
        self.said: dict[str, Mapping[str, Any]] = {}
        self._mistakes = mistakes
        self._arguments: dict[type[Optimizer], dict[str, Argument]] = {}
        for name, target, said, beside, key in _named(recipe):
            self.said[name] = {**beside, **said}
            traits = self._look_up(target, self.said[name], key)
            if traits is not None:
                self.traits[name] = traits
                self._gather(traits, said, key)

    def arguments(self, traits: Traits) -> Mapping[str, Argument]:
        """What the config says for all groups of a class: how it is executed, and what is no hyperparameter."""
        return self._arguments[traits.optimizer]

    def of_groups(self, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """What is said beside the class of a rule, without what is for all of its groups."""
        beside = {*EXECUTION, *self.traits[name].of_all_groups}
        return {argument: value for argument, value in said.items() if argument not in beside}

    def _look_up(self, target: str, said: Mapping[str, Any], key: str) -> Traits | None:
        """The traits; for a misspelled class those of the nearest, so that one look finds what is wrong behind it."""
        traits = self._traits(target, said, key)
        if traits is None and self._mistakes[-1].nearest and self._mistakes[-1].key == f"{key}._target_":
            package = target.rpartition(".")[0]
            told = len(self._mistakes)
            traits = self._traits(f"{package}.{self._mistakes[-1].nearest[0]}", said, key)
            del self._mistakes[told:]
        return traits

    def _traits(self, target: str, said: Mapping[str, Any], key: str) -> Traits | None:
        try:
            optimizer: type[Optimizer] = resolve(target, (Optimizer,), key)
            lacking = [*_lacking(optimizer, said, key)]
            if lacking:
                raise ConfigError(*lacking)
            return traits_of(optimizer, said)
        except ConfigError as error:
            self._mistakes.extend(error.mistakes)
        except Exception as error:  # whatever a class of the user's may raise
            why = str(error) or type(error).__name__
            remedy = "give it what it asks for, or choose another class"
            problem = f"{target} can't be constructed: {why}"
            self._mistakes.append(Mistake(f"{key}._target_", problem, given=target, remedy=remedy))
        return None

    def _gather(self, traits: Traits, said: Mapping[str, Any], key: str) -> None:
        """Note what is said for all groups of the class; two rules that name it have to say the same."""
        known = self._arguments.setdefault(traits.optimizer, {})
        for name in (name for name in said if name in EXECUTION or name in traits.of_all_groups):
            argument = Argument(tuples(said[name]), f"{key}.{name}")
            before = known.setdefault(name, argument)
            if before.value != argument.value:
                problem = (
                    f"{before.key} says {before.value!r}, and all groups of {dotted_name(traits.optimizer)} share it"
                )
                remedy = "say the same, or say it once"
                self._mistakes.append(Mistake(argument.key, problem, given=repr(argument.value), remedy=remedy))


def _named(recipe: Recipe) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any], str]]:
    """Each class that the recipe names: by whom, its dotted name, what is said with it and beside it, and where."""
    if recipe.optimizer is not None:
        yield DEFAULT, recipe.optimizer, recipe.values, {}, "optimizer"
    for rule in recipe.rules:
        if rule.optimizer is not None:
            yield rule.name, rule.optimizer, rule.arguments, rule.values, f"{rule.key}.optimizer"


def _lacking(optimizer: type[Optimizer], said: Mapping[str, Any], key: str) -> Iterator[Mistake]:
    """Why a class can't be constructed with what is said, as far as its signature tells."""
    name, constructor = dotted_name(optimizer), constructor_of(optimizer)
    backward = own_backward(optimizer)
    if backward is not None:
        problem = f"{name} needs a backward pass of its own ({backward}), which automatic optimization never calls"
        yield Mistake(f"{key}._target_", problem, given=name, remedy="choose another class")
        return
    for argument in constructor.required:
        if said.get(argument) is None:
            wraps = argument in constructor.inner
            problem = f"{name} can't be constructed without {argument!r}"
            remedy = f"name the class that it works around: {key}.{argument}=torch.optim.AdamW"
            remedy = remedy if wraps else f"set {key}.{argument}"
            yield Mistake(f"{key}.{argument}", problem, remedy=remedy)
    for argument in constructor.inner:
        if said.get(argument) is not None:
            try:
                inside = resolve(said[argument], (Optimizer,), f"{key}.{argument}")
                why = "has modes, which {} doesn't switch" if has_modes(inside) else None
                if constructor_of(inside).inner:
                    why = "works around another optimizer as {} does"
                if why is not None:
                    problem = f"{dotted_name(inside)} {why.format(name)}"
                    yield Mistake(
                        f"{key}.{argument}", problem, said[argument], remedy="let it work around another class"
                    )
            except ConfigError as error:  # a class by its name, without _target_
                yield from (replace(wrong, key=wrong.key.removesuffix("._target_")) for wrong in error.mistakes)


def tuples(value: Any) -> Any:
    """Lists as tuples, so that a plan read back from JSON equals the one written."""
    if isinstance(value, Mapping):
        return {name: tuples(item) for name, item in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value
