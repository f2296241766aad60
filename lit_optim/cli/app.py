"""Hands a verb to Hydra, and turns whatever is refused on the way into one clear error and exit code 1."""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, ValidationError

from lit_optim.cli.overrides import accept_new_keys, overrides_first, refuse_targets_of_hydra
from lit_optim.cli.project import allowed_factories
from lit_optim.cli.reporting import FULL_ERROR, report
from lit_optim.cli.top_level import check_top_level
from lit_optim.errors import ConfigError, LitOptimError, Mistake, RunError, nearest
from lit_optim.targets import allowing

__all__ = ["CONFIG_NAME", "NewFolders", "report", "run_app", "unwritable"]

_NO_CHOICE = re.compile(r"[a-z]+=(null|true|false|\[.*\]|\{.*\}|[0-9.]+)")  # of a config group
CONFIG_NAME = "config"
"""Of the config that every verb composes."""

_HYDRA = {"version_base": "1.3", "config_path": "pkg://lit_optim.conf", "config_name": CONFIG_NAME}


class NewFolders(Callback):
    """Notes which folders this launch makes, before Hydra makes them."""

    noted: ClassVar[set[Path]] = set()  # of the class: Hydra constructs the object, and a process has one launch

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Of a single run: its folder, and those above it that are missing."""
        self._note(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Of a sweep: its folder; the jobs' own are below it."""
        self._note(Path(config.hydra.sweep.dir))

    @classmethod
    def of(cls, folder: Path) -> set[Path]:
        """The noted ones from the folder of a job upwards, the job's own included where it is below one of them."""
        return {path for path in (folder, *folder.parents) if cls.noted & {path, *path.parents}}

    @classmethod
    def tidy(cls) -> None:
        """Remove those of them that no job left anything in; a sweep's list of its jobs alone is nothing."""
        for folder in sorted(cls.noted, key=lambda path: len(path.parts), reverse=True):
            if folder.is_dir() and {path.name for path in folder.iterdir()} <= {"multirun.yaml"}:
                shutil.rmtree(folder)
        cls.noted.clear()

    def _note(self, folder: Path) -> None:
        missing = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
        NewFolders.noted.update(missing)


class _Ended(BaseException):
    """A run that something ended from within, such as the signal that a cluster sends before it takes the machine."""


def run_app(arguments: Sequence[str], task: Callable[[DictConfig], Any], extra: Sequence[str] = ()) -> int:
    """Compose the config and call ``task`` with it, once, or once a job of a sweep.

    Args:
        arguments: Hydra's flags and overrides as typed.
        task: Gets the config; what it returns is the objective of a sweep.
        extra: Overrides that go behind the user's, and so win.

    Returns:
        0; 1 where anything was refused or failed; 130 after an interrupt, 143 after the signal to terminate.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # so that a config can name the user's own classes, as `python -m` would
    try:
        factories = allowed_factories(Path.cwd())
        refuse_targets_of_hydra(arguments)
    except ConfigError as error:
        report(error)
        return 1
    with allowing(*factories):
        return _launch(arguments, task, extra)


def _launch(arguments: Sequence[str], task: Callable[[DictConfig], Any], extra: Sequence[str]) -> int:
    asked_for_traceback = os.environ.get(FULL_ERROR)
    typed, failures = list(sys.argv), 0

    def guarded(config: DictConfig) -> Any:
        nonlocal failures
        sys.argv = typed
        _restore(asked_for_traceback)
        try:
            warnings = check_top_level(config, cast("DictConfig", HydraConfig.instance().cfg))
            if warnings and int(os.environ.get("LOCAL_RANK", "0")) == 0:
                print("lit-optim: warning", *warnings, sep="\n", file=sys.stderr)
            return task(config)
        except LitOptimError as error:
            report(error)
        except InterpolationResolutionError as error:
            report(ConfigError(_unresolved(error)))
        except SystemExit as stop:
            raise _Ended(stop) from stop  # whatever its code, the run did not come to its end
        except BrokenPipeError:
            raise
        except Exception:
            traceback.print_exc()
        finally:
            os.environ[FULL_ERROR] = "1"
        failures += 1
        return None

    sys.argv = [typed[0], *overrides_first([*accept_new_keys(arguments), *extra])]
    os.environ[FULL_ERROR] = "1"  # Hydra then raises what it would print
    try:
        hydra.main(**_HYDRA)(guarded)()
    except _Ended as ended:
        terminated = isinstance(ended.__cause__, SystemExit) and type(ended.__cause__) is not SystemExit
        print(f"lit-optim: {'terminated' if terminated else 'ended before its time'}", file=sys.stderr)
        return 143 if terminated else 1
    except KeyboardInterrupt:
        print("lit-optim: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:
        raise
    except (HydraException, OmegaConfBaseException, OSError, TypeError, ValueError) as error:
        _restore(asked_for_traceback)
        report(_translated(error, arguments))
        return 1
    finally:
        _restore(asked_for_traceback)
        sys.argv = typed
        NewFolders.tidy()
    return min(failures, 1)


def _restore(value: str | None) -> None:
    if value is None:
        os.environ.pop(FULL_ERROR, None)
    else:
        os.environ[FULL_ERROR] = value


def _translated(error: Exception, arguments: Sequence[str]) -> LitOptimError:
    """Hydra's refusal as ours: the key, what is allowed, the nearest names, the way out."""
    translated: LitOptimError
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = tuple(error.options or ())
        problem = f"there is no {choice!r} in the config group {group!r}" if group else "no such config"
        remedy = "choose one of these, or add your own folder of configs with --config-dir"
        translated = ConfigError(Mistake(group or "config", problem, choice, options, nearest(choice, options), remedy))
    elif isinstance(error, OSError) and not isinstance(error, HydraException):
        translated = unwritable(error)
    elif isinstance(error, UnicodeDecodeError):  # which doesn't say of which file
        line = error.object[: error.start].splitlines(keepends=True)[-1:]
        problem, near = f"a config file is not text in UTF-8: {error.reason}", b"".join(line).decode()
        translated = ConfigError(Mistake("config", problem, f"after {near!r}", remedy="save it as UTF-8"))
    elif isinstance(error, OverrideParseException):
        typed = next((one for one in arguments if f"++{one}" == error.override), str(error.override))
        name, _, value = typed.partition("=")
        remedy = f"quote the value once more, inside the shell's quotes: '{name}=\"{value}\"'"
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
        several = message.split("'")[1]
        remedy = "add -m to run each of them, or write a list: [a,b]"
        return Mistake(several.partition("=")[0], "several values, and this is no sweep", several, remedy=remedy)
    if isinstance(error, TypeError) or message.startswith("Config group override must be"):
        odd = next((argument for argument in arguments if _NO_CHOICE.fullmatch(argument)), "config")
        key = odd.partition("=")[0]
        return Mistake(
            key, "the name of a choice is needed", odd, remedy=f"name one of its choices: {key}=NAME, or leave it out"
        )
    key = str(getattr(cause, "full_key", None) or "")
    if not key and "'" in message:
        key = message.split("'")[1]
    if not key:
        return Mistake("config", message, remedy="lit-optim train --cfg job prints the config as it is composed")
    key = key.partition("@")[0]
    given = next((argument for argument in arguments if argument.lstrip("+~").partition("=")[0] == key), None)
    if isinstance(cause, ValidationError):  # the key is there, and takes another kind of value
        return Mistake(key, _first_line(cause), given, remedy="correct the value")
    try:
        siblings = _names_beside(key, arguments)
    except (HydraException, OmegaConfBaseException):
        siblings = ()
    problem = "there is no such key or config group" if isinstance(error, ConfigCompositionException) else message
    remedy = "correct the name" + (f"; +{key}=… adds a key that the config lacks" if "." in key else "")
    return Mistake(key, problem, given, siblings, nearest(key.rpartition(".")[2], siblings), remedy)


def _names_beside(key: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """The keys that stand where ``key`` was looked for, in the config of the other overrides."""
    others = [
        argument
        for argument in accept_new_keys(arguments)
        if "=" in argument and not argument.startswith("-") and "," not in argument
        if not argument.lstrip("+~").startswith((key, "hydra."))
    ]
    with hydra.initialize_config_module("lit_optim.conf", version_base="1.3"):
        config = hydra.compose(_HYDRA["config_name"], overrides=others)
    parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
    return tuple(map(str, parent)) if isinstance(parent, DictConfig) else ()


def _unresolved(error: InterpolationResolutionError) -> Mistake:
    return Mistake(str(error.full_key or "config"), _first_line(error), remedy="mend the interpolation")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
