"""Config nodes → data, model, trainer: each target's kind is checked before it is called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import DDPStrategy, Strategy
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lit_optim.cli.nodes import check_node, instantiated, node_of, refuse
from lit_optim.cli.refusals import Refusals
from lit_optim.cli.trainer_flags import flag_mistakes
from lit_optim.errors import ConfigError, LitOptimError, Mistake, RecipeError, nearest
from lit_optim.hyperparameters import is_number
from lit_optim.integration.classifier import LitClassifier
from lit_optim.integration.compiled import compile_arguments, compile_networks
from lit_optim.integration.module import attach
from lit_optim.integration.timeouts import named_strategy, takes_timeout
from lit_optim.lr_scaling import SIZE, WAY
from lit_optim.monitors import never_logged
from lit_optim.recipe import Recipe
from lit_optim.targets import callee_of, instantiate, parameters_of

__all__ = [
    "callbacks_of",
    "check_compile",
    "check_loggers",
    "check_model",
    "check_monitors",
    "check_top",
    "data_of",
    "loggers_of",
    "module_of",
    "no_such_metric",
    "read_recipe",
    "seed_of",
    "stand_in_for_data",
    "timeout_of",
    "trainer_of",
]

_ON_CHANGE = ("config", "error")
_INSIDE_TRAINER = (Strategy, Precision, Profiler, Accelerator, ClusterEnvironment, CheckpointIO, LayerSync)


def check_top(config: DictConfig) -> None:
    """The keys that no constructor checks."""
    mistakes = []
    for key, kind, example in (("name", str, "name=first_try"), ("test", bool, "test=false")):
        value = OmegaConf.select(config, key)
        if not isinstance(value, kind) or value == "":
            mistakes.append(Mistake(key, f"a {kind.__name__} is needed", repr(value), remedy=f"for example {example}"))
    chosen = OmegaConf.select(config, "resume.on_change")
    if chosen not in _ON_CHANGE:
        near = nearest(str(chosen), _ON_CHANGE)
        remedy = "config runs what is written now, error refuses a difference"
        mistakes.append(Mistake("resume.on_change", "no such choice", repr(chosen), _ON_CHANGE, near, remedy))
    node = node_of(config, "trainer")
    mistakes += [
        Mistake(f"trainer.{key}", f"this is what the config group {group}= is for", repr(node[key]), remedy="remove it")
        for key, group in (("callbacks", "callbacks"), ("logger", "logger"), ("enable_checkpointing", "callbacks"))
        if key in node
    ]
    if mistakes:
        raise ConfigError(*mistakes)


def seed_of(config: DictConfig) -> None:
    """Seed every generator of the process."""
    seed = OmegaConf.select(config, "seed")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        allowed = ("an integer from 0 to 4294967295",)
        raise ConfigError(
            Mistake("seed", "this can't seed a generator", repr(seed), allowed, remedy="for example seed=1")
        )
    seed_everything(seed, workers=True, verbose=False)


def read_recipe(config: DictConfig) -> tuple[Recipe, tuple[Mistake, ...]]:
    """The recipe that ``optimizer``, ``rules``, ``schedule`` and the batch size make, and what is wrong with it."""
    parts: dict[str, Any] = {key: OmegaConf.select(config, key) for key in (SIZE, WAY)}
    mistakes: list[Mistake] = []
    for part in ("optimizer", "rules", "schedule"):
        try:
            parts[part] = node_of(config, part) or None
        except LitOptimError as error:
            mistakes += error.mistakes
    try:
        recipe, structural = Recipe.read(parts)
    except RecipeError as error:
        recipe, structural = Recipe(None), error.mistakes
    return recipe, (*mistakes, *structural)


def data_of(config: DictConfig) -> LightningDataModule:
    """The data module."""
    data: LightningDataModule = _instantiate_own(node_of(config, "data"), LightningDataModule, "data", instantiated)
    return data


def stand_in_for_data(config: DictConfig) -> type[LightningDataModule] | None:
    """The class of data that is refused, which may say enough of itself for the model; None where it doesn't."""
    try:
        target = {"_target_": OmegaConf.select(config, "data._target_")}  # the arguments may be what is refused
        callee = callee_of(target, (LightningDataModule,), "data")
    except ConfigError:
        return None
    says = all(isinstance(getattr(callee, name, None), int) for name in ("in_dim", "out_dim"))
    return callee if says and isinstance(callee, type) else None


def check_model(config: DictConfig) -> None:
    """Refuse of the model what can be said without the data: what it names."""
    callee_of(node_of(config, "model"), (nn.Module,), "model")


def module_of(
    config: DictConfig, data: LightningDataModule | type[LightningDataModule], recipe: Recipe
) -> LightningModule:
    """The model with its recipe: a LightningModule as it is, any other module as a classifier.

    ``in_dim`` and ``out_dim`` are the data's where the config leaves them null. Its networks are compiled where
    ``trainer.compile`` says so.
    """
    node = node_of(config, "model")
    kind = (data if isinstance(data, type) else type(data)).__name__
    mistakes = []
    arguments = parameters_of(callee_of(node, (nn.Module,), "model")) or {}
    for name in ("in_dim", "out_dim"):
        of_data = getattr(data, name, None)
        needed = name in arguments and arguments[name].default is inspect.Parameter.empty
        if name not in node and not needed:
            continue
        if node.get(name) is None:
            node[name] = of_data
        if node[name] is None:
            problem = f"{kind} doesn't say what it should be"
            remedy = f"set model.{name}, or give the data module an attribute {name}"
            mistakes.append(Mistake(f"model.{name}", problem, remedy=remedy))
        elif of_data is not None and node[name] != of_data and not isinstance(data, type):
            problem = f"the data ({kind}) has {of_data}"
            mistakes.append(
                Mistake(f"model.{name}", problem, repr(node[name]), (str(of_data),), remedy="leave it null")
            )
    if mistakes:
        raise ConfigError(*mistakes)
    model = _instantiate_own(node, nn.Module, "model")
    if getattr(model.forward, "__func__", None) is nn.Module.forward:
        problem, given = "this network has no forward", str(node["_target_"])
        raise ConfigError(Mistake("model._target_", problem, given, remedy="give it one, or name another"))
    module = attach(model, recipe) if isinstance(model, LightningModule) else LitClassifier(model, recipe)
    compile_networks(module, *_compile_of(config))
    return module


def callbacks_of(config: DictConfig) -> list[Callback]:
    """The callbacks by name, those set to null left out."""
    return _each(node_of(config, "callbacks"), Callback, "callbacks")


def check_monitors(config: DictConfig, module: LightningModule) -> None:
    """Refuse a metric that something waits for and the module never logs, as far as the module says what it logs."""
    said = {
        f"callbacks.{name}.monitor": node["monitor"]
        for name, node in node_of(config, "callbacks").items()
        if isinstance(node, Mapping) and node.get("monitor") is not None
    }
    mistakes = never_logged(module, said, remedy="monitor one of these, or null for none")
    objective, logged = OmegaConf.select(config, "optimized_metric"), getattr(module, "logged", None)
    if objective is not None and logged is not None and objective not in logged:
        mistakes.append(no_such_metric(str(objective), logged))
    if mistakes:
        raise ConfigError(*mistakes)


def no_such_metric(name: str, known: Iterable[str]) -> Mistake:
    """The mistake of an ``optimized_metric`` that is none of the run's."""
    remedy = "name a metric of the run, or set it to null"
    return Mistake("optimized_metric", "the run has no such metric", name, tuple(known), nearest(name, known), remedy)


def loggers_of(config: DictConfig) -> list[Logger]:
    """One logger, several by name, or none."""
    return _loggers(config, instantiated)


def check_loggers(config: DictConfig) -> None:
    """Refuse what `loggers_of` would; one from elsewhere is not built, which may begin a run of its own at once."""

    def seen(node: dict[str, Any], kinds: tuple[type, ...], key: str) -> None:
        check_node(node, kinds, key)
        if callee_of(node, kinds, key).__module__.startswith("lit_optim."):
            instantiate(node, kinds, key)

    _loggers(config, seen)


def _loggers(config: DictConfig, build: Callable[..., Any]) -> list[Any]:
    node = node_of(config, "logger")
    if "_target_" in node:
        return [build(node, (Logger,), "logger")]
    return _each(node, Logger, "logger", build)


def trainer_of(config: DictConfig, callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> Trainer:
    """The Trainer; ``trainer.callbacks`` and ``trainer.logger`` are config groups of their own."""
    node = {name: value for name, value in node_of(config, "trainer").items() if name != "compile"}  # see `module_of`
    refusals = Refusals()
    with refusals.noted():
        check_node(
            {name: item for name, item in node.items() if name != "timeout"}, (Trainer,), "trainer", _INSIDE_TRAINER
        )
    with refusals.noted():
        refuse(flag_mistakes(node))
    refusals.told()
    timeout = timeout_of(config)
    node.pop("timeout", None)
    if timeout is not None:
        node["strategy"] = _with_timeout(node.get("strategy", "auto"), timeout)
    more: dict[str, Any] = {"callbacks": list(callbacks), "logger": list(loggers) or False}
    if not any("checkpoint" in type(callback).__name__.lower() for callback in callbacks):
        more["enable_checkpointing"] = False
    if not any(isinstance(callback, ProgressBar) for callback in callbacks):
        more["enable_progress_bar"] = False
    try:
        trainer: Trainer = instantiate(node, (Trainer,), "trainer", _INSIDE_TRAINER, **more)
    except ConfigError as error:
        raise ConfigError(*(_of_a_flag(mistake, node) for mistake in error.mistakes)) from error
    if timeout is not None and node["strategy"] == "auto" and type(trainer.strategy) is DDPStrategy:
        more["strategy"] = named_strategy("ddp", timeout)  # which is what several devices come to
        trainer = instantiate(node, (Trainer,), "trainer", _INSIDE_TRAINER, **more)
    return trainer


def check_compile(config: DictConfig) -> None:
    """Refuse what `module_of` would refuse of ``trainer.compile``."""
    compile_arguments(*_compile_of(config))


def _compile_of(config: DictConfig) -> tuple[object, str]:
    return node_of(config, "trainer").get("compile"), "trainer.compile"


def timeout_of(config: DictConfig) -> timedelta | None:
    """How long the processes of a run wait for each other; None where the config leaves it to Lightning."""
    seconds = node_of(config, "trainer").get("timeout")
    return None if seconds is None else timedelta(seconds=seconds)


def _of_a_flag(mistake: Mistake, node: Mapping[str, Any]) -> Mistake:
    """What a Trainer says of itself, under the flag that it names."""
    if "backend found" in mistake.problem or "can not run on your system" in mistake.problem:
        here = "on a machine without such devices add trainer.accelerator=cpu"
        return replace(mistake, remedy=f"{here} trainer.devices=2" if node.get("devices") == -1 else here)
    named = [name for name in node if re.search(rf"\b{name}\b", mistake.problem)]
    if mistake.key != "trainer" or len(named) != 1:
        return mistake
    return replace(mistake, key=f"trainer.{named[0]}", given=repr(node[named[0]]), remedy="correct the value")


def _with_timeout(strategy: Any, timeout: timedelta) -> Any:
    """What a config says of the strategy, told how long to wait where it says nothing of that itself."""
    if isinstance(strategy, str):
        return named_strategy(strategy, timeout)
    if not isinstance(strategy, Mapping) or "_target_" not in strategy:
        return strategy
    own = strategy.get("timeout", timeout)
    if not takes_timeout(callee_of(strategy, _INSIDE_TRAINER, "trainer.strategy")):
        return strategy
    return {**strategy, "timeout": timedelta(seconds=own) if is_number(own) else own}


def _each(nodes: Mapping[str, Any], kind: type, key: str, build: Callable[..., Any] = instantiated) -> list[Any]:
    """Those of several nodes by name that are not null, built."""
    refusals, built = Refusals(), []
    for name, node in nodes.items():
        if node is not None:
            with refusals.noted():
                built.append(build(node, (kind,), f"{key}.{name}"))
    refusals.told()
    return built


def _instantiate_own(node: dict[str, Any], kind: type, key: str, build: Callable[..., Any] = instantiate) -> Any:
    """Build what may be a user's class, which the arguments of another choice don't fit."""
    try:
        return build(node, (kind,), key)
    except ConfigError as error:
        own = f"rename or remove it; for a class of your own start from {key}=own"
        mistakes = (replace(m, remedy=own) if "has no argument" in m.problem else m for m in error.mistakes)
        raise ConfigError(*mistakes) from error
