"""What a user may write: the default optimizer, rules over it, and schedules. Structure is checked here, names later.

A `Recipe` knows nothing of models or of torch: whether a rule matches anything, whether a class has a hyperparameter
and whether a value is in its range is for the planner to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_optim.errors import Mistake, RecipeError, nearest

__all__ = ["Recipe", "Rule", "Settings"]

_TOP_KEYS = ("optimizer", "rules", "schedule")
_RULE_KEYS = ("match", "multiply", "optimizer", "schedule")
_MATCH_KEYS = ("name", "regex", "module", "ndim", "numel", "not", "any")
_RULE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # a group's name becomes part of TensorBoard tags and file names
_COMPARISON = re.compile(r"\s*(<=|>=|<|>|==)?\s*[0-9]+\s*")

Settings = Mapping[str, Any]
"""Hyperparameters and other plain values by name."""


@dataclass(frozen=True)
class Rule:
    """What one rule says of the parameters that it matches.

    Args:
        name: Its key under ``rules``; groups are named after it.
        match: A glob on the qualified name, a mapping whose keys are ANDed, or a list of these, ORed.
        values: Hyperparameters that it sets.
        multiply: Factors that it applies once all values have settled.
        optimizer: The dotted name of the class that it chooses, if it does.
        schedule: Schedules of its own, by hyperparameter; None takes a schedule away.
    """

    name: str
    match: Any
    values: Settings = field(default_factory=dict)
    multiply: Mapping[str, float] = field(default_factory=dict)
    optimizer: str | None = None
    schedule: Mapping[str, Settings | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """The default optimizer, the rules in their order, and the schedules that every group shares.

    Args:
        optimizer: The dotted name of the default class.
        values: Hyperparameters of the default class.
        rules: From top to bottom; later ones win.
        schedule: Schedule nodes (``_target_`` and its arguments) by hyperparameter.
    """

    optimizer: str
    values: Settings = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    schedule: Mapping[str, Settings] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | Path) -> Recipe:
        """Read a recipe and check its structure.

        Args:
            config: A mapping, an OmegaConf ``DictConfig`` (interpolations are resolved), or the path of a YAML file.

        Raises:
            RecipeError: With every structural mistake: unknown keys, nodes of the wrong kind, a missing target.
        """
        node = _plain(config)
        if not isinstance(node, Mapping):
            raise RecipeError(Mistake("recipe", "a recipe is a mapping", given=repr(node), allowed=_TOP_KEYS))
        reader = _Reader([])
        recipe = reader.recipe(node)
        if reader.mistakes:
            raise RecipeError(*reader.mistakes)
        return recipe

    def to_config(self) -> dict[str, Any]:
        """The recipe as plain containers, such that ``Recipe.from_config(recipe.to_config()) == recipe``."""
        return {
            "optimizer": {"_target_": self.optimizer, **self.values},
            "rules": {rule.name: dict(_rule_node(rule)) for rule in self.rules},
            "schedule": {name: dict(node) for name, node in self.schedule.items()},
        }


def _rule_node(rule: Rule) -> Iterator[tuple[str, Any]]:
    yield "match", rule.match
    yield from rule.values.items()
    if rule.multiply:
        yield "multiply", dict(rule.multiply)
    if rule.optimizer is not None:
        yield "optimizer", {"_target_": rule.optimizer}
    if rule.schedule:
        yield "schedule", {name: None if node is None else dict(node) for name, node in rule.schedule.items()}


def _plain(config: Any) -> Any:
    """Plain containers out of whatever the user has."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        if isinstance(config, (str, Path)):
            path = Path(config).expanduser()
            if not path.is_file():
                raise RecipeError(
                    Mistake("recipe", "no such file", given=str(path), remedy="give a YAML file or a mapping")
                )
            config = OmegaConf.load(path)
        if not OmegaConf.is_config(config):
            config = OmegaConf.create(dict(config)) if isinstance(config, Mapping) else config
        return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    except (YAMLError, OSError) as error:  # OmegaConf raises the latter for a file that holds a bare value
        problem = f"this is not a recipe in YAML: {' '.join(str(error).split())}"
        raise RecipeError(Mistake("recipe", problem, given=str(config), remedy="mend the file")) from error
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "recipe")
        raise RecipeError(
            Mistake(key, str(error).splitlines()[0], remedy="mend the interpolation or the value")
        ) from error


@dataclass
class _Reader:
    """Walks the config once and notes every mistake on the way, in the order of the text."""

    mistakes: list[Mistake]

    def recipe(self, node: Mapping[str, Any]) -> Recipe:
        for name in node:
            if name not in _TOP_KEYS:
                self._unknown(str(name), node[name], _TOP_KEYS, "a recipe has no such part")
        optimizer, values = self._optimizer(node.get("optimizer"), "optimizer")
        rules = self._mapping(node.get("rules"), "rules", "rules by name, in the order they apply")
        return Recipe(
            optimizer=optimizer or "",
            values=values,
            rules=tuple(self._rule(str(name), rule) for name, rule in rules.items() if rule is not None),
            schedule={
                name: node
                for name, node in self._schedule(node.get("schedule"), "schedule").items()
                if node is not None
            },
        )

    def _rule(self, name: str, node: Any) -> Rule:
        key = f"rules.{name}"
        if name == "default":
            self._note(key, "this names the group that no rule shapes", given=repr(name), remedy="rename it")
        elif not _RULE_NAME.fullmatch(name):
            remedy = "rename it: a letter first, then letters, digits, '_' and '-'"
            self._note(key, "this can't name a param group", given=repr(name), remedy=remedy)
        if not isinstance(node, Mapping):
            self._mapping(node, key, "what the rule matches and what it sets")
            return Rule(name, None)
        node = {str(name): value for name, value in node.items()}
        if "match" not in node:
            self._note(
                f"{key}.match", "the rule doesn't say which parameters it is for", remedy="add match: a name or a glob"
            )
        else:
            self._match(node["match"], f"{key}.match")
        optimizer: str | None = None
        values: dict[str, Any] = {}
        if node.get("optimizer") is not None:
            optimizer, values = self._optimizer(node["optimizer"], f"{key}.optimizer")
        own = {name: value for name, value in node.items() if name not in _RULE_KEYS}
        for twice in (name for name in own if name in values):
            self._note(
                f"{key}.{twice}", "set here and under the rule's optimizer", given=repr(own[twice]), remedy="keep one"
            )
        multiply = self._mapping(node.get("multiply"), f"{key}.multiply", "factors by hyperparameter")
        for hyperparameter, factor in multiply.items():
            if isinstance(factor, bool) or not isinstance(factor, (int, float)):
                self._note(
                    f"{key}.multiply.{hyperparameter}",
                    "a factor is a number",
                    given=repr(factor),
                    remedy="give a number",
                )
        rule = Rule(
            name,
            node.get("match"),
            {**values, **own},
            multiply,
            optimizer,
            self._schedule(node.get("schedule"), f"{key}.schedule"),
        )
        if not (rule.values or rule.multiply or rule.optimizer or rule.schedule):
            remedy = "set a hyperparameter, multiply one, or remove the rule (rules." + name + "=null)"
            self._note(
                key, "the rule sets nothing", allowed=("lr", "weight_decay", "…", *_RULE_KEYS[1:]), remedy=remedy
            )
        return rule

    def _optimizer(self, node: Any, key: str) -> tuple[str | None, dict[str, Any]]:
        """The class's name and the hyperparameters written beside it."""
        if isinstance(node, str):
            self._note(
                key, "the class goes under _target_", given=repr(node), remedy=f"write {key}: {{_target_: {node}}}"
            )
            return node, {}
        node = self._mapping(node, key, "a class (_target_) and its hyperparameters")
        target = node.get("_target_")
        if not isinstance(target, str):
            example = "for example torch.optim.AdamW"
            self._note(
                f"{key}._target_",
                "the optimizer's class is missing",
                given=_shown(target),
                remedy=f"name it, {example}",
            )
            target = None
        values = {str(name): value for name, value in node.items() if name != "_target_"}
        for name in [*values]:
            if name.startswith("_") and name.endswith("_"):
                remedy = "remove it: the planner, not Hydra, builds the optimizer"
                self._note(f"{key}.{name}", "not a hyperparameter", given=repr(values.pop(name)), remedy=remedy)
        return target, values

    def _schedule(self, node: Any, key: str) -> dict[str, Settings | None]:
        schedules: dict[str, Settings | None] = {}
        for name, schedule in self._mapping(node, key, "schedules by hyperparameter").items():
            if schedule is not None and not (
                isinstance(schedule, Mapping) and isinstance(schedule.get("_target_"), str)
            ):
                example = f"{key}.{name}._target_=lit_optim.schedules.Cosine"
                self._note(
                    f"{key}.{name}",
                    "a schedule is a class (_target_) and its arguments",
                    given=repr(schedule),
                    remedy=f"for example {example}",
                )
                continue
            schedules[str(name)] = schedule
        return schedules

    def _match(self, match: Any, key: str) -> None:
        """A glob, a mapping of known keys, or a list of these."""
        if isinstance(match, str) and match:
            return
        if isinstance(match, Sequence) and not isinstance(match, str) and match:
            for index, item in enumerate(match):
                self._match(item, f"{key}.{index}")
        elif isinstance(match, Mapping) and match:
            for name, value in match.items():
                self._match_key(str(name), value, f"{key}.{name}")
        else:
            forms = (
                "a glob such as head or layer.[02]",
                "a mapping such as {module: Linear, ndim: 2}",
                "a list of these",
            )
            self._note(key, "this selects nothing", given=repr(match), allowed=forms, remedy="write one of these")

    def _match_key(self, name: str, value: Any, key: str) -> None:
        if name not in _MATCH_KEYS:
            self._unknown(key, value, _MATCH_KEYS, f"a match has no key {name!r}")
        elif name in ("not", "any"):
            self._match(value, key)
        else:
            values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            for item in values:
                if name in ("ndim", "numel"):
                    whole = isinstance(item, int) and not isinstance(item, bool) and item >= 0
                    if not whole and not (isinstance(item, str) and _COMPARISON.fullmatch(item)):
                        self._note(
                            key,
                            "a number or a comparison is needed",
                            given=repr(item),
                            allowed=("2", "'<=1'", "'>1000'"),
                        )
                elif not isinstance(item, str) or not item:
                    self._note(key, "a name is needed", given=repr(item), remedy="write a string")
                elif name == "regex":
                    try:
                        re.compile(item)
                    except re.error as error:
                        self._note(
                            key, f"not a regular expression: {error}", given=repr(item), remedy="mend it, or use a glob"
                        )

    def _mapping(self, node: Any, key: str, meaning: str) -> dict[str, Any]:
        if node is None:
            return {}
        if isinstance(node, Mapping):
            return {str(name): value for name, value in node.items()}
        self._note(key, f"a mapping is needed: {meaning}", given=repr(node), remedy="indent its parts under it")
        return {}

    def _unknown(self, key: str, value: Any, allowed: tuple[str, ...], problem: str) -> None:
        near = nearest(key.rpartition(".")[2], allowed)
        self._note(
            key, problem, given=repr(value), allowed=allowed, nearest=near, remedy="correct the name or remove it"
        )

    def _note(self, key: str, problem: str, **more: Any) -> None:
        self.mistakes.append(Mistake(key, problem, **more))


def _shown(value: Any) -> str | None:
    return None if value is None else repr(value)
