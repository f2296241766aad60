"""Hydra's refusals of a command line as ours, and the command line without what is refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, cast

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from yaml import YAMLError

from lit_optim.cli.job import MULTIRUN
from lit_optim.cli.overrides import accept_new_keys
from lit_optim.cli.suggestions import arguments_of, homes_of
from lit_optim.errors import ConfigError, LitOptimError, Mistake, RunError, nearest

__all__ = ["CONFIG_NAME", "translated", "unwritable", "without"]

_NO_CHOICE = re.compile(r"[a-z]+=(null|true|false|\[.*\]|\{.*\}|[0-9.]+)")  # of a config group
CONFIG_NAME = "config"
"""Of the config that every verb composes."""
_EXTRAS = {"optuna": "sweep", "joblib": "sweep", "submitit_slurm": "slurm", "submitit_local": "slurm"}  # by choice
_OF_A_SWEEP = ("hydra/sweeper", "hydra/launcher")


def without(error: LitOptimError, arguments: Sequence[str]) -> list[str] | None:
    """The command line without what is refused, and as a single run, for a look at the rest of it.

    Returns:
        None where something else than an argument is to blame, or something else than a run is asked for (``--cfg``),
        or configs of another folder may be.
    """
    keys = {mistake.key for mistake in error.mistakes}
    if not all(any(_is_of(one, {key}) for one in arguments) for key in keys):
        return None
    if any("--config-dir" in mistake.nearest for mistake in error.mistakes):
        return None
    rest = [
        one
        for one, before in zip(arguments, ["", *arguments], strict=False)
        if not _is_of(one, keys) and (one.startswith(("-", "~")) or "=" in one or before not in keys)
    ]
    flags = {one.partition("=")[0] for one in rest if one.startswith("-")}
    if not flags <= {*MULTIRUN, "--config-dir", "-cd"}:
        return None
    if MULTIRUN & {*arguments}:
        rest = [one for one in rest if one not in MULTIRUN and not _is_swept(one)]
    return rest


def _is_of(argument: str, keys: Collection[str]) -> bool:
    """Whether an override sets one of the keys, or something below it; or is itself among them."""
    key = re.split("[=@]", argument.lstrip("+~"))[0]
    return argument in keys or any(key == one or key.startswith(f"{one}.") for one in keys)


def _is_swept(argument: str) -> bool:
    try:
        return OverridesParser.create().parse_override(argument).is_sweep_override()
    except HydraException:
        return False


def translated(error: Exception, arguments: Sequence[str]) -> LitOptimError:
    """Hydra's refusal as ours: the key, what is allowed, the nearest names, the way out."""
    translated: LitOptimError
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = tuple(error.options or ())
        problem = f"there is no {choice!r} in the config group {group!r}" if group else "no such config"
        remedy = "choose one of these, or add your own folder of configs with --config-dir"
        if group in _OF_A_SWEEP and choice in _EXTRAS:
            problem, options, remedy = f"{choice} is not installed", (), f'pip install "lit-optim[{_EXTRAS[choice]}]"'
        translated = ConfigError(Mistake(group or "config", problem, choice, options, nearest(choice, options), remedy))
    elif isinstance(error, OSError) and not isinstance(error, HydraException):
        translated = unwritable(error)
    elif isinstance(error, UnicodeDecodeError):  # which doesn't say of which file
        line = error.object[: error.start].splitlines(keepends=True)[-1:]
        problem, near = f"a config file is not text in UTF-8: {error.reason}", b"".join(line).decode()
        translated = ConfigError(Mistake("config", problem, f"after {near!r}", remedy="save it as UTF-8"))
    elif isinstance(error, YAMLError):
        problem, place = str(getattr(error, "problem", error)), getattr(error, "problem_mark", None)
        given = None if place is None else f"{place.name}, line {place.line + 1}"
        translated = ConfigError(
            Mistake("config", f"a config file is no YAML: {problem}", given, remedy="mend the line")
        )
    elif isinstance(error, OverrideParseException):
        typed = next((one for one in arguments if f"++{one}" == error.override), str(error.override))
        name, _, value = typed.partition("=")
        remedy = f"quote the value once more, inside the shell's quotes: '{name}=\"{value}\"'"
        if "=" not in typed:
            remedy = "write KEY=VALUE, or leave it out"
        translated = ConfigError(
            Mistake(
                typed, "this override can't be read", _first_line(error).replace(f"++{typed}", typed), remedy=remedy
            )
        )
    else:
        translated = ConfigError(_unknown_key(error, arguments))
    translated.__cause__ = error
    return translated


def unwritable(error: OSError) -> RunError:
    """The refusal of a folder that can't be written."""
    remedy = "free some space, or choose a folder that you may write to: hydra.run.dir=FOLDER"
    problem = f"the run's folder can't be written: {error.strerror or error}"
    return RunError(Mistake("hydra.run.dir", problem, given=error.filename and str(error.filename), remedy=remedy))


def _unknown_key(error: Exception, arguments: Sequence[str]) -> Mistake:
    """An override of a key or a group that doesn't exist, with the names that do."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    message = _first_line(error)
    if isinstance(error, SearchPathException):
        return Mistake("--config-dir", message, remedy="name a folder that exists")
    if message.startswith("Ambiguous value"):
        several = message.split("'")[1].removeprefix("++")
        key = several.partition("=")[0]
        or_list = ", or write a list: [a,b]" if _may_be_a_list(key, arguments) else ""
        remedy = f"add -m to run each of them{or_list}"
        return Mistake(key, "several values, and this is no sweep", several, remedy=remedy)
    if message.startswith("Multiple values for"):  # …. To override a value use 'override GROUP: CHOICE'
        group, _, choice = message.split("'")[1].removeprefix("override ").partition(": ")
        remedy = f"write {group}={choice}, without a plus"
        return Mistake(group, "there is a choice of this config group already", f"+{group}={choice}", remedy=remedy)
    if isinstance(error, TypeError) or message.startswith("Config group override must be"):
        odd = next((argument for argument in arguments if _NO_CHOICE.fullmatch(argument)), "config")
        key = odd.partition("=")[0]
        return Mistake(
            key, "the name of a choice is needed", odd, remedy=f"name one of its choices: {key}=NAME, or leave it out"
        )
    key = _key_of(error)
    if not key:
        return Mistake("config", message, remedy="lit-optim train --cfg job prints the config as it is composed")
    given = next((argument for argument in arguments if _is_of(argument, {key})), None)
    if isinstance(cause, ValidationError):  # the key is there, and takes another kind of value
        return Mistake(key, _first_line(cause), given, remedy="correct the value")
    problem = "there is no such key or config group" if isinstance(error, ConfigCompositionException) else message
    if key.startswith("hydra/"):
        return Mistake(key, problem, given, _OF_A_SWEEP, nearest(key, _OF_A_SWEEP), "correct the name")
    try:
        config = _config_without(key, arguments)
    except (HydraException, OmegaConfBaseException):
        return Mistake(key, problem, given, remedy="correct the name")
    parent, _, name = key.rpartition(".")
    if not parent:
        homes = homes_of(name, config)
        value = "…" if given is None else given.partition("=")[2]
        remedy = f"write {homes[0]}={value}" if homes else "correct the name"
        return Mistake(key, problem, given, (*config,), homes or nearest(name, config), remedy)
    node: Any = config
    for part in parent.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    siblings = tuple(map(str, node)) if isinstance(node, dict) else ()
    known = tuple(dict.fromkeys([*siblings, *arguments_of(node)]))
    adds = "" if name in known or key.startswith("hydra.") else f"; +{key}=… adds a key that the config lacks"
    remedy = f"write +{given or key}, since the config lacks this key" if name in known else f"correct the name{adds}"
    near = () if name in known else nearest(name, known)  # for the name is right
    return Mistake(key, problem, given, known, near, remedy)


def _may_be_a_list(key: str, arguments: Sequence[str]) -> bool:
    """Whether what stands there without the override is no single number, truth value or choice."""
    try:
        value = OmegaConf.select(OmegaConf.create(_config_without(key, arguments)), key)
    except (HydraException, OmegaConfBaseException):
        return True
    return key == "trainer.devices" or ("." in key and not isinstance(value, (bool, int, float)))


def _config_without(key: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The config of the other overrides, as plain containers; what else can't be composed is left out as well."""
    others = [
        argument
        for argument in accept_new_keys(arguments)
        if "=" in argument and not argument.startswith("-") and not _is_swept(argument)
        if not _is_of(argument, {key}) and not argument.lstrip("+~").startswith("hydra.")
    ]
    try:
        with hydra.initialize_config_module("lit_optim.conf", version_base="1.3"):
            own = key.startswith("hydra.")
            config = hydra.compose(CONFIG_NAME, overrides=others, return_hydra_config=own)
    except OverrideParseException as error:
        return _config_without(key, [one for one in others if one != error.override])
    except (HydraException, OmegaConfBaseException) as error:
        rest = [one for one in others if not _is_of(one, {_key_of(error)})]
        if len(rest) == len(others):
            raise
        return _config_without(key, rest)
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=False))


def _key_of(error: Exception) -> str:
    """The key that Hydra's refusal is about; nothing where it doesn't say."""
    if isinstance(error, MissingConfigException):
        return str(error.missing_cfg_file or "").rpartition("/")[0]
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key, message = str(getattr(cause, "full_key", None) or ""), _first_line(error)
    if not key and "'" in message:
        key = message.split("'")[1]
    return re.split("[=@]", key.lstrip("+~"))[0]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
