"""What a sweep searches: checked, and completed where the config leaves it open, before the first job."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lit_optim.cli.overrides import accept_new_keys
from lit_optim.cli.study import load_study
from lit_optim.errors import ConfigError, Mistake, nearest
from lit_optim.names import dotted_name
from lit_optim.runs.metric import Mode, known_mode
from lit_optim.runs.settings import flat

if TYPE_CHECKING:
    from lit_optim.traits import Traits

__all__ = ["all_failed", "prepare"]

_DIRECTIONS: dict[str, Mode] = {"minimize": "min", "maximize": "max"}
_NO_RANGE = "give one: 'optimizer.lr=tag(log, interval(1e-4, 1e-1))'; or choose hydra/sweeper=tpe_sgd or tpe_adamw"
_NOTHING_FOUND = ("No trials are completed yet.", "Record does not exist.")  # of a study in memory, of a stored one
_SUIT = (
    "choose an optimizer and a sweeper that suit each other: grid_sgd and tpe_sgd optimizer=sgd, momentum, nesterov or "
    "rmsprop; grid_adamw and tpe_adamw optimizer=adamw and its kin"
)
_Swept = dict[str, Override]


def prepare(config: DictConfig) -> Mode | None:
    """Check what is swept, and complete the settings of a search (the Optuna sweeper).

    Keys of ``hydra.sweeper.params`` become what the same keys on the command line are to Hydra, so that one of them set
    there replaces the range. A ``direction`` of null becomes that of ``optimized_metric``, and a sampler with a seed
    draws by the numbers of the trials, or sweeps that share a study would all draw the same.

    Args:
        config: As the sweep starts with it, Hydra's settings included; these are changed in place.

    Returns:
        Which way of the metric is better, if this is a search.

    Raises:
        ConfigError: With whatever would fail in every job, or be searched in vain.
    """
    sweeper = config.hydra.sweeper
    with read_write(config), open_dict(config):
        if sweeper.get("params"):
            sweeper.params = {accept_new_keys([f"{key}="])[0][:-1]: value for key, value in sweeper.params.items()}
    swept = _swept(config)
    mistakes = [*_lacking(config, swept)]
    if "direction" not in sweeper:
        mistakes += _ranges(swept)
        _raise(mistakes)
        return None
    direction, wrong = _direction(config)
    mistakes += [*wrong, *_counts(sweeper), *_space(sweeper, swept)]
    _raise(mistakes)
    _calm()
    _check_study(sweeper, direction)
    with read_write(config), open_dict(config):
        sweeper.direction = direction
        if sweeper.sampler.get("seed") is not None:
            plain: Any = OmegaConf.to_container(sweeper)  # the sampler's own schema has no room for another class
            plain["sampler"] |= {"_target_": "lit_optim.cli.draws.ByTrial", "sampler": sweeper.sampler._target_}
            config.hydra.sweeper = plain
    return _DIRECTIONS[direction]


def all_failed(error: Exception) -> bool:
    """Whether a search has ended without any result; what is wrong, its jobs have told."""
    return isinstance(error, ValueError) and str(error) in _NOTHING_FOUND


def _raise(mistakes: list[Mistake]) -> None:
    if mistakes:
        raise ConfigError(*mistakes)


def _swept(config: DictConfig) -> _Swept:
    """The overrides that stand for several values, by key; what the command line fixes is none of them."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    try:
        overrides = OverridesParser.create().parse_overrides([*params, *config.hydra.overrides.task])
    except HydraException:  # which the sweeper will tell
        return {}
    last = {override.key_or_group: override for override in overrides}
    return {key: override for key, override in last.items() if override.is_sweep_override()}


def _lacking(config: DictConfig, swept: _Swept) -> Iterator[Mistake]:
    """Hyperparameters that the one optimizer of all jobs lacks; where it is swept itself, each job has its own."""
    keys = [key for key in swept if key.startswith("optimizer.")]
    if not keys or {"optimizer", "experiment", "optimizer._target_"} & {*swept}:
        return
    traits = _traits(config)
    typed = {one.lstrip("+~").partition("=")[0] for one in config.hydra.overrides.task}
    for key in () if traits is None else keys:
        assert traits is not None
        name = key.split(".")[1]
        if not traits.has(name) and name not in traits.arguments:
            known = tuple(traits.defaults)
            problem = f"{dotted_name(traits.optimizer)} has no hyperparameter {name!r}, and all jobs would set it"
            sweeper = None if key in typed else config.hydra.runtime.choices.get("hydra/sweeper")
            said = _said(swept[key]) if sweeper is None else f"{_said(swept[key])}, by hydra/sweeper={sweeper}"
            remedy = "leave it out, or choose an optimizer that has it" if sweeper is None else _SUIT
            yield Mistake(key, problem, said, known, nearest(name, known), remedy)


def _traits(config: DictConfig) -> Traits | None:
    """What is known of the optimizer's class; None where the jobs will tell what is wrong with it."""
    from lit_optim.classes import DEFAULT, Classes
    from lit_optim.cli.assemble import read_recipe

    try:
        recipe, _ = read_recipe(config)
        return Classes(recipe, []).traits.get(DEFAULT)
    except Exception:
        return None


def _ranges(swept: _Swept) -> Iterator[Mistake]:
    """Ranges, of which only a search can make values."""
    for key, override in swept.items():
        if override.is_interval_sweep():
            remedy = f"list the values, {key}=A,B,C; or search in it: hydra/sweeper=tpe"
            problem = "this sweeper tries every value, and a range has no end of them"
            yield Mistake(key, problem, _said(override), remedy=remedy)


def _direction(config: DictConfig) -> tuple[str, list[Mistake]]:
    """``minimize`` or ``maximize``, as said or as the metric has it."""
    key, names, metric = "hydra.sweeper.direction", tuple(_DIRECTIONS), config.optimized_metric
    if metric is None:
        remedy = "name a metric of the run: optimized_metric=val/acc"
        return "", [Mistake("optimized_metric", "a search has nothing to look at", remedy=remedy)]
    known = known_mode(str(metric), flat(OmegaConf.to_container(config, resolve=False)))
    said = config.hydra.sweeper.direction
    said = getattr(said, "name", said)  # of an enumeration, in the sweeper's own schema
    if said is None and known is None:
        problem = f"whether more or less of {metric} is better, neither its name nor a checkpoint's mode says"
        return "", [Mistake(key, problem, allowed=names, remedy=f"say it: {key}=minimize")]
    if said is None:
        return next(name for name, mode in _DIRECTIONS.items() if mode == known), []
    if said not in _DIRECTIONS:
        problem = "there is no such direction; a run has one objective, its optimized_metric"
        return "", [Mistake(key, problem, str(said), names, nearest(str(said), names), "name one of these")]
    if known not in (None, _DIRECTIONS[said]):
        right = next(name for name, mode in _DIRECTIONS.items() if mode == known)
        problem = f"{'more' if known == 'max' else 'less'} of {metric} is better"
        return said, [Mistake(key, problem, said, (right,), remedy=f"set {key}={right}")]
    return said, []


def _counts(sweeper: DictConfig) -> Iterator[Mistake]:
    for name, what in (("n_trials", "trials"), ("n_jobs", "trials at a time")):
        if sweeper[name] < 1:
            yield Mistake(
                f"hydra.sweeper.{name}", f"this many {what} make no search", str(sweeper[name]), ("1 or more",),
                remedy=f"for example hydra.sweeper.{name}=2",
            )  # fmt: skip
    seed = sweeper.sampler.get("seed")
    if seed is not None and seed < 0:
        yield Mistake(
            "hydra.sweeper.sampler.seed", "this can't seed a sampler", str(seed), ("0 or more", "null"),
            remedy="for example hydra.sweeper.sampler.seed=1",
        )  # fmt: skip


def _space(sweeper: DictConfig, swept: _Swept) -> Iterator[Mistake]:
    if not swept and not sweeper.get("custom_search_space") and not sweeper.get("search_space"):
        yield Mistake("hydra.sweeper.params", "nothing has a range to search in", remedy=_NO_RANGE)
    if str(sweeper.sampler.get("_target_")).endswith("GridSampler"):  # which tries all of them
        return
    for key in swept:
        if key == "seed" or key.endswith(".seed"):
            problem = "a search among seeds finds the luckiest, and not the best setting"
            remedy = "leave it out, and then run the best settings with several: lit-optim train -m seed=1,2,3 …"
            yield Mistake(key, problem, _said(swept[key]), remedy=remedy)


def _check_study(sweeper: DictConfig, direction: str) -> None:
    """Look for the stored study that the search is to go on with; the storage gets its tables.

    Raises:
        ConfigError: The storage can't be used, or the study has no name or goes the other way.
    """
    if not isinstance(sweeper.storage, str):
        return
    if not sweeper.study_name:
        problem, remedy = "a study without a name is another each time", "for example hydra.sweeper.study_name=lr"
        raise ConfigError(Mistake("hydra.sweeper.study_name", problem, remedy=remedy))
    try:
        study = load_study(sweeper)
    except KeyError:  # there is none yet
        return
    except Exception as error:  # whatever a database may raise
        problem = f"the storage can't be used: {' '.join(str(error).split('(Background')[0].split())}"
        remedy = "for a file in this folder: hydra.sweeper.storage=sqlite:///sweep.db"
        raise ConfigError(Mistake("hydra.sweeper.storage", problem, sweeper.storage, remedy=remedy)) from error
    before = study.direction.name.lower()
    if before not in (direction, "not_set"):  # which a sweep that starts at the same time is about to set
        remedy = "name another study, or the same metric"
        problem = f"this study is to {before} its metric, and the search to {direction} it"
        raise ConfigError(Mistake("hydra.sweeper.study_name", problem, sweeper.study_name, remedy=remedy))


def _calm() -> None:
    """Keep to themselves what Optuna and its database say of their own workings."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)


def _said(override: Override) -> str:
    """As it was typed, or stands in the config."""
    return str(override.input_line).removeprefix("++")
