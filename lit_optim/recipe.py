"""What a user may write: the default optimizer, rules over it, and schedules. Structure is checked here, names later.

A `Recipe` knows nothing of models or of torch: whether a rule matches anything, whether a class has a hyperparameter
and whether a value is in its range is for the planner to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lit_optim.durations import Duration, malformed
from lit_optim.errors import Mistake, RecipeError, nearest
from lit_optim.hyperparameters import is_number
from lit_optim.lr_scaling import SIZE, WAY, LrScaling, read_scaling
from lit_optim.matches import match_mistakes
from lit_optim.names import is_dotted
from lit_optim.rules import LayerDecay, Rule, Settings
from lit_optim.targets import target_mistakes

__all__ = ["Recipe"]

_TOP_KEYS = ("optimizer", "rules", "schedule", SIZE, WAY)
_RULE_KEYS = ("match", "multiply", "optimizer", "schedule", "freeze", "freeze_until", "layer_decay", "clip_norm")
_LAYER_DECAY_KEYS = ("rate", "order", "min_factor")
_RESERVED = {"default": "the group that no rule shapes", "frozen": "what no optimizer holds"}
_RULE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # a group's name becomes part of TensorBoard tags and file names


@dataclass(frozen=True)
class Recipe:
    """The default optimizer, the rules in their order, and the schedules that every group shares.

    Args:
        optimizer: The dotted name of the default class; None where every parameter gets its class from a rule.
        values: Hyperparameters of the default class.
        rules: From top to bottom; later ones win.
        schedule: Schedule nodes (``_target_`` and its arguments) by hyperparameter.
        lr_scaling: The batch size that the learning rates are written for, where they scale with that of the run.
    """

    optimizer: str | None
    values: Settings = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    schedule: Mapping[str, Settings] = field(default_factory=dict)
    lr_scaling: LrScaling | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | Path) -> Recipe:
        """Read a recipe and check its structure.

        Args:
            config: A mapping, an OmegaConf ``DictConfig`` (interpolations are resolved), or the path of a YAML file.

        Raises:
            RecipeError: With every structural mistake: unknown keys, nodes of the wrong kind, a missing target.
        """
        recipe, mistakes = cls.read(config)
        if mistakes:
            raise RecipeError(*mistakes)
        return recipe

    @classmethod
    def read(cls, config: Mapping[str, Any] | str | Path) -> tuple[Recipe, tuple[Mistake, ...]]:
        """What is sound in a recipe, and every structural mistake beside it, so that the planner's can be told too.

        Raises:
            RecipeError: There is no mapping to read.
        """
        node = _plain(config)
        if not isinstance(node, Mapping):
            raise RecipeError(Mistake("recipe", "a recipe is a mapping", given=repr(node), allowed=_TOP_KEYS))
        reader = _Reader([])
        recipe = reader.recipe(node)
        return recipe, tuple(reader.mistakes)

    def to_config(self) -> dict[str, Any]:
        """The recipe as plain containers, such that ``Recipe.from_config(recipe.to_config()) == recipe``."""
        scaling = self.lr_scaling
        return {
            "optimizer": None if self.optimizer is None else {"_target_": self.optimizer, **self.values},
            "rules": {rule.name: rule.to_config() for rule in self.rules},
            "schedule": {name: dict(node) for name, node in self.schedule.items()},
            **({} if scaling is None else {SIZE: scaling.batch_size, WAY: scaling.way}),
        }


def _of_torch(choice: str) -> str | None:
    """The class of torch's that the name of a choice means: ``adamw`` is ``torch.optim.AdamW``."""
    from torch import optim

    names = [name for name, item in vars(optim).items() if isinstance(item, type) and name != "Optimizer"]
    near = nearest(choice, names, 1)
    return f"torch.optim.{near[0]}" if near else None


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
    except UnicodeDecodeError as error:
        problem = f"this file is not text in UTF-8: {error.reason} at byte {error.start}"
        raise RecipeError(Mistake("recipe", problem, given=str(config), remedy="save it as UTF-8")) from error
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
        rules = self._mapping(node.get("rules"), "rules", "rules by name, in the order they apply")
        optimizer: str | None = None
        values: Settings = {}
        chosen_by_rules = any(isinstance(rule, Mapping) and rule.get("optimizer") for rule in rules.values())
        if node.get("optimizer") is not None or not chosen_by_rules:
            optimizer, values = self._optimizer(node.get("optimizer"), "optimizer")
        scaling, of_scaling = read_scaling(node)
        self.mistakes += of_scaling
        return Recipe(
            optimizer=optimizer,
            values=values,
            rules=tuple(self._rule(str(name), rule) for name, rule in rules.items() if rule is not None),
            schedule={
                name: node
                for name, node in self._schedule(node.get("schedule"), "schedule").items()
                if node is not None
            },
            lr_scaling=scaling,
        )

    def _rule(self, name: str, node: Any) -> Rule:
        key = f"rules.{name}"
        if name in _RESERVED:
            self._note(key, f"this names {_RESERVED[name]}", given=repr(name), remedy="rename it")
        elif not _RULE_NAME.fullmatch(name):
            remedy = "rename it: a letter first, then letters, digits, '_' and '-'"
            self._note(key, "this can't name a param group", given=repr(name), remedy=remedy)
        if not isinstance(node, Mapping):
            self._mapping(node, key, "what the rule matches and what it sets")
            return Rule(name, None)
        node = {str(name): value for name, value in node.items()}
        before = len(self.mistakes)
        match = self._match(node, key)
        optimizer: str | None = None
        arguments: Settings = {}
        if node.get("optimizer") is not None:
            optimizer, arguments = self._optimizer(node["optimizer"], f"{key}.optimizer")
        own = self._values({name: value for name, value in node.items() if name not in _RULE_KEYS}, key)
        for twice in (name for name in own if name in arguments):
            problem = "set here and under the rule's optimizer"
            self._note(f"{key}.{twice}", problem, given=repr(own[twice]), remedy="keep one")
        rule = Rule(
            name,
            match,
            own,
            self._factors(node.get("multiply"), f"{key}.multiply"),
            optimizer,
            arguments,
            self._schedule(node.get("schedule"), f"{key}.schedule"),
            *self._freezing(node, key),
            self._layer_decay(node.get("layer_decay"), f"{key}.layer_decay"),
            self._clip_norm(node.get("clip_norm"), f"{key}.clip_norm"),
        )
        says_nothing = rule == Rule(name, match)
        if says_nothing and len(self.mistakes) == before:
            remedy = f"set a hyperparameter, multiply one, or remove the rule ({key}=null)"
            allowed = ("lr", "weight_decay", "…", *_RULE_KEYS[1:])
            self._note(key, "the rule sets nothing", allowed=allowed, remedy=remedy)
        return rule

    def _match(self, node: Mapping[str, Any], key: str) -> Any:
        """The match, or None where it can't be used."""
        if "match" not in node:
            problem = "the rule doesn't say which parameters it is for"
            self._note(f"{key}.match", problem, remedy="add match: a name or a glob")
            return None
        wrong = list(match_mistakes(node["match"], f"{key}.match"))
        self.mistakes += wrong
        return None if wrong else node["match"]

    def _factors(self, node: Any, key: str) -> dict[str, float]:
        factors = self._mapping(node, key, "factors by hyperparameter")
        for name, factor in [*factors.items()]:
            if not is_number(factor):
                self._note(f"{key}.{name}", "a factor is a number", given=repr(factor), remedy="give a number")
                del factors[name]
        return factors

    def _freezing(self, node: Mapping[str, Any], key: str) -> tuple[bool | None, Duration | None]:
        freeze, until = node.get("freeze"), node.get("freeze_until")
        if freeze is not None and not isinstance(freeze, bool):
            remedy = "write true or false; freeze_until: 20% freezes for a time"
            self._note(f"{key}.freeze", "true or false is needed", given=repr(freeze), remedy=remedy)
            freeze = None
        wrong = None if until is None else malformed(until, f"{key}.freeze_until")
        if wrong is not None:
            self.mistakes.append(wrong)
            until = None
        if freeze is not None and until is not None:
            remedy = "keep freeze (for the whole run) or freeze_until (from the start, for a time)"
            problem = "freeze and freeze_until both say how long"
            self._note(f"{key}.freeze_until", problem, given=repr(until), remedy=remedy)
        return freeze, until

    def _clip_norm(self, node: Any, key: str) -> float | None:
        if node is None or (is_number(node) and node > 0):
            return None if node is None else float(node)
        remedy = "for example 1.0; .inf takes back what an earlier rule says"
        self._note(key, "a norm above 0 is needed", given=repr(node), remedy=remedy)
        return None

    def _layer_decay(self, node: Any, key: str) -> LayerDecay | None:
        if node is None:
            return None
        decay = dict(node) if isinstance(node, Mapping) else {"rate": node}
        before = len(self.mistakes)
        rate_key = f"{key}.rate" if isinstance(node, Mapping) else key
        for name in decay:
            if name not in _LAYER_DECAY_KEYS:
                self._unknown(f"{key}.{name}", decay[name], _LAYER_DECAY_KEYS, f"a layer decay has no key {name!r}")
        rate, order, least = decay.get("rate"), decay.get("order"), decay.get("min_factor", 0.0)
        if not is_number(rate) or not 0 < rate <= 1:
            remedy = "0.75 takes a quarter off the learning rate with every layer away from the output"
            self._note(rate_key, "a rate above 0, at most 1 is needed", given=_shown(rate), remedy=remedy)
        if not is_number(least) or not 0 <= least <= 1:
            self._note(f"{key}.min_factor", "a factor from 0 to 1 is needed", given=repr(least), remedy="correct it")
        listed = isinstance(order, Sequence) and not isinstance(order, str) and bool(order)
        if order is not None and not (listed and all(isinstance(glob, str) and glob for glob in order)):
            remedy = "for example [stem, blocks.#, head], from the input to the output"
            self._note(f"{key}.order", "a list of globs is needed", given=repr(order), remedy=remedy)
        if len(self.mistakes) > before or rate is None:
            return None
        return LayerDecay(float(rate), None if order is None else tuple(order), float(least))

    def _optimizer(self, node: Any, key: str) -> tuple[str | None, dict[str, Any]]:
        """The class's name and the hyperparameters written beside it."""
        if isinstance(node, str):
            target = node if is_dotted(node) else _of_torch(node)
            remedy = f"write {key}: {{_target_: {target or 'torch.optim.AdamW'}}}" + ("" if target else ", say")
            self._note(key, "the class goes under _target_", given=repr(node), remedy=remedy)
            return target, {}
        node = self._mapping(node, key, "a class (_target_) and its hyperparameters")
        target = node.pop("_target_", None)
        if not isinstance(target, str):
            remedy = "name it, for example torch.optim.AdamW"
            self._note(f"{key}._target_", "the optimizer's class is missing", given=_shown(target), remedy=remedy)
            target = None
        return target, self._values(node, key)

    def _values(self, node: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Hyperparameters: plain data, and no word of Hydra's."""
        values: dict[str, Any] = {}
        for name, value in node.items():
            wrong = target_mistakes(value, f"{key}.{name}")
            if name.endswith("optimizer") and isinstance(value, Mapping) and isinstance(value.get("_target_"), str):
                by_name = f"an optimizer inside of another is named by its class: {name}: {value['_target_']}"
                wrong = [replace(mistake, remedy=by_name) for mistake in wrong]
            self.mistakes += wrong
            if name.startswith("_") and name.endswith("_"):
                remedy = "remove it: the planner, not Hydra, builds the optimizer"
                self._note(f"{key}.{name}", "not a hyperparameter", given=repr(value), remedy=remedy)
            elif not wrong:
                values[name] = value
        return values

    def _schedule(self, node: Any, key: str) -> dict[str, Settings | None]:
        schedules: dict[str, Settings | None] = {}
        for name, schedule in self._by_number(self._mapping(node, key, "schedules by hyperparameter")):
            is_node = isinstance(schedule, Mapping) and isinstance(schedule.get("_target_"), str)
            if schedule is None or is_node:
                schedules[name] = schedule
                continue
            remedy = f"for example {key}.{name}._target_=lit_optim.schedules.Cosine"
            problem = "a schedule is a class (_target_) and its arguments"
            self._note(f"{key}.{name}", problem, given=repr(schedule), remedy=remedy)
        return schedules

    def _by_number(self, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """``{betas: {0: …}}``, which is what ``betas.0.…=`` makes on the command line, is ``{betas.0: …}``."""
        for name, item in node.items():
            if isinstance(item, Mapping) and item and all(str(index).isdecimal() for index in item):
                yield from ((f"{name}.{index}", schedule) for index, schedule in item.items())
            else:
                yield name, item

    def _mapping(self, node: Any, key: str, meaning: str) -> dict[str, Any]:
        if node is None:
            return {}
        if isinstance(node, Mapping):
            return {str(name): value for name, value in node.items()}
        self._note(key, f"a mapping is needed: {meaning}", given=repr(node), remedy="indent its parts under it")
        return {}

    def _unknown(self, key: str, value: Any, allowed: tuple[str, ...], problem: str) -> None:
        near = nearest(key.rpartition(".")[2], allowed)
        remedy = "correct the name or remove it"
        self._note(key, problem, given=repr(value), allowed=allowed, nearest=near, remedy=remedy)

    def _note(self, key: str, problem: str, **more: Any) -> None:
        self.mistakes.append(Mistake(key, problem, **more))


def _shown(value: Any) -> str | None:
    return None if value is None else repr(value)
