"""Hands a verb to Hydra, and turns whatever is refused on the way into one clear error and exit code 1."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from lit_optim.cli.composition import CONFIG_NAME, translated, without
from lit_optim.cli.job import Ended, Job
from lit_optim.cli.multirun import Refused, Sweep
from lit_optim.cli.overrides import accept_new_keys, overrides_first, refuse_targets_of_hydra, refuse_unknown_flags
from lit_optim.cli.project import allowed_factories
from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.cli.refusals import Refusals
from lit_optim.cli.reporting import FULL_ERROR, report, restore_full_error
from lit_optim.cli.search import all_failed
from lit_optim.errors import LitOptimError
from lit_optim.integration.terminated import is_told_to_end

__all__ = ["NewFolders", "run_app"]

_HYDRA = {"version_base": "1.3", "config_path": "pkg://lit_optim.conf", "config_name": CONFIG_NAME}


class NewFolders(Callback):
    """Notes which folders this launch makes, before Hydra makes them."""

    noted: ClassVar[set[Path]] = set()  # of the class: Hydra constructs the object, and a process has one launch

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Of a single run: its folder, and those above it that are missing."""
        with suppress(InterpolationResolutionError):
            self._note(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Of a sweep: its folder; the jobs' own are below it."""
        with suppress(InterpolationResolutionError):
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
        with suppress(OSError):  # of a name that can't be one; Hydra is about to stumble over it itself
            missing = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
            NewFolders.noted.update(missing)


def run_app(
    arguments: Sequence[str], task: Callable[[DictConfig], Any], extra: Sequence[str] = (), flags: Sequence[str] = ()
) -> int:
    """Compose the config and call ``task`` with it, once, or once a job of a sweep.

    Args:
        arguments: Hydra's flags and overrides as typed.
        task: Gets the config; what it returns is the objective of a sweep.
        extra: Overrides that go behind the user's, and so win.
        flags: The verb's own, which are not among the arguments.

    Returns:
        0; 1 where anything was refused or failed; 130 after an interrupt, 143 after the signal to terminate.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # so that a config can name the user's own classes, as `python -m` would
    refusals = Refusals()
    factories: Sequence[str] = ()
    with refusals.noted():
        factories = allowed_factories(Path.cwd())
    with refusals.noted():
        refuse_unknown_flags(arguments, flags)
    with refusals.noted():
        refuse_targets_of_hydra(arguments)
    rest = without(refusals.joined(), arguments) if refusals.errors else arguments
    if rest is None:
        report(refusals.joined())
        return 1
    full_error = os.environ.get(FULL_ERROR)
    job = Job(task, [*sys.argv], arguments, full_error, factories, refusals.errors)
    code, failed = 1, 0
    os.environ[FULL_ERROR] = "1"  # Hydra then raises what it would print
    try:
        code = _launch(job, rest, extra)
    finally:
        restore_full_error(full_error)
        sys.argv = [*job.typed]
        failed = Sweep.end(cut_short=code != 0)
        NewFolders.tidy()
    return code or min(job.failures + failed, 1)


def _launch(job: Job, arguments: Sequence[str], extra: Sequence[str]) -> int:
    sys.argv = [job.typed[0], *overrides_first([*accept_new_keys(arguments), *extra])]
    try:
        hydra.main(**_HYDRA)(job)()
    except Refused as refused:
        error: LitOptimError = refused.error
    except Ended as ended:
        terminated = is_told_to_end(ended.by)
        if is_rank_zero():
            said = "terminated" if terminated else f"ended before its time, by {type(ended.by).__name__}: {ended.by}"
            print(f"lit-optim: {said}", *getattr(ended.by, "__notes__", ()), sep="\n", file=sys.stderr)
        return 143 if terminated else 1
    except KeyboardInterrupt:
        print("lit-optim: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:
        raise
    except LitOptimError:  # of a job in another process, which has told it
        return 1
    except (HydraException, OmegaConfBaseException, YAMLError, OSError, TypeError, ValueError) as failure:
        if all_failed(failure):
            return 1
        error = translated(failure, arguments)
        rest = without(error, arguments)
        if rest is not None:
            return _launch(replace(job, refused=(*job.refused, error)), rest, extra) or 1
    else:
        return 0
    restore_full_error(job.full_error)
    report(Refusals([*job.refused, error]).joined())
    return 1
