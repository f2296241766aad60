"""One job of a launch: the task with its errors told, and in a sweep recorded, wherever the launcher runs it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from lit_optim.cli.prefixed import Prefixed
from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.cli.refusals import Refusals, unresolved
from lit_optim.cli.reporting import FULL_ERROR, report, restore_full_error
from lit_optim.cli.suggestions import without_leftovers
from lit_optim.cli.top_level import check_top_level
from lit_optim.errors import ConfigError, LitOptimError, Mistake, RunError
from lit_optim.integration.terminated import ending_at_once
from lit_optim.targets import allowing

__all__ = ["MULTIRUN", "Ended", "Job", "hydra_files", "is_sweep"]

MULTIRUN = frozenset({"-m", "--multirun"})
"""The flags of a sweep."""

_OF_A_SWEEP = ("hydra/sweeper", "hydra/launcher", "hydra.sweeper.", "hydra.launcher.")


class Ended(BaseException):
    """A run that something ended from within, such as the signal that a cluster sends before it takes the machine.

    Args:
        by: What it was.
    """

    @property
    def by(self) -> BaseException:
        """What ended it; an argument, and no cause, which would not cross to another process."""
        return cast("BaseException", self.args[0])


@dataclass
class Job:
    """The task as Hydra calls it: in this process, or, pickled, in one of a launcher's.

    What the task raises is told and counted, and in a sweep left in the job's folder (``metrics.json``), since the
    count of another process never comes back. Then it returns None, which a search takes for a failed trial.

    Args:
        task: Gets the config; what it returns is the objective of a sweep.
        typed: The command line.
        arguments: What of it is Hydra's.
        full_error: Hydra's variable of the environment as the user set it.
        factories: What the project lets configs call.
        refused: What of the command line is refused and left out of the config: then the task is not run, and whatever
            else is wrong is told with it.
    """

    task: Callable[[DictConfig], Any]
    typed: Sequence[str]
    arguments: Sequence[str]
    full_error: str | None
    factories: Sequence[str] = ()
    refused: Sequence[LitOptimError] = ()
    failures: int = 0
    _home: int = field(default_factory=os.getpid)

    def __call__(self, config: DictConfig) -> Any:
        """Run the task.

        Raises:
            Ended: The task was made to exit.
            Exception: Of the task, in another process and where it can't be recorded.
        """
        away = os.getpid() != self._home
        sys.argv = [*self.typed]  # for whoever notes how the run was started
        restore_full_error(self.full_error)
        with ExitStack() as stack:
            stack.enter_context(ending_at_once())
            stack.enter_context(allowing(*self.factories))
            if away:  # beside others, which print on the same terminal
                stack.enter_context(redirect_stdout(stack.enter_context(Prefixed(sys.stdout, _mark))))
                stack.enter_context(redirect_stderr(stack.enter_context(Prefixed(sys.stderr, _mark))))
            record = _Record() if is_sweep() else None
            try:
                return self._run(config)
            except SystemExit as stop:
                raise Ended(stop) from stop  # whatever its code, the run did not come to its end
            except BrokenPipeError:
                raise
            except Exception as error:
                self.failures += 1
                told = ConfigError(unresolved(error)) if isinstance(error, InterpolationResolutionError) else error
                if isinstance(told, LitOptimError):
                    mended = without_leftovers(told.mistakes, self.arguments)
                    told = told if mended == told.mistakes else type(told)(*mended)
                    report(told)
                else:
                    traceback.print_exc()
                if record is not None and not record.write(config, told) and away:
                    raise told from error
                return None
            finally:
                os.environ[FULL_ERROR] = "1"

    def _run(self, config: DictConfig) -> Any:
        refusals, warnings, is_of_sweep = Refusals([*self.refused]), list[str](), bool(MULTIRUN & {*self.arguments})
        with refusals.noted():
            if not (is_sweep() or is_of_sweep):
                _check_no_sweeper()
        with refusals.noted():
            warnings = check_top_level(config, cast("DictConfig", HydraConfig.instance().cfg))
        if refusals.errors:
            from lit_optim.cli.look import with_all_else

            error = refusals.joined()
            can_go_on = not is_of_sweep and _is_known(config, error)
            lost = {mistake.key for mistake in error.mistakes}
            raise with_all_else(error, config, lost) if can_go_on else error
        if warnings and is_rank_zero():
            print("lit-optim: warning", *warnings, sep="\n", file=sys.stderr)
        return self.task(config)


def is_sweep() -> bool:
    """Whether the job that runs is one of a sweep."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _check_no_sweeper() -> None:
    """Refuse a sweeper or a launcher that is chosen for a single run, which Hydra passes over in silence."""
    typed = [one for one in HydraConfig.get().overrides.hydra if one.lstrip("+").startswith(_OF_A_SWEEP)]
    if typed:
        key = typed[0].lstrip("+").partition("=")[0]
        raise ConfigError(Mistake(key, "this is of a sweep, and here is none", typed[0], remedy="add -m, or remove it"))


def hydra_files(config: DictConfig, overrides: Sequence[str] | None = None) -> dict[str, str]:
    """What goes into ``.hydra/``: the files that Hydra itself would write.

    Args:
        config: Of the run; kept with its interpolations where one of them can't be resolved.
        overrides: What made the config; Hydra's own if not given.
    """
    try:
        own = OmegaConf.to_yaml(config, resolve=True)
    except InterpolationResolutionError:
        own = OmegaConf.to_yaml(config)
    return {
        "config.yaml": own,
        "hydra.yaml": OmegaConf.to_yaml(HydraConfig.instance().cfg),
        "overrides.yaml": OmegaConf.to_yaml(HydraConfig.get().overrides.task if overrides is None else [*overrides]),
    }


def _is_known(config: DictConfig, error: LitOptimError) -> bool:
    """Whether a config is the one that was meant but for single keys: neither a choice nor a value is unknown."""
    unread = any("=" in mistake.key for mistake in error.mistakes)  # overrides that can't be read
    groups = {"experiment", *(str(key) for key in config if OmegaConf.is_dict(config._get_node(key)))}
    return not unread and not groups & {mistake.key for mistake in error.mistakes}


class _Record:
    """What a job of a sweep leaves where the run itself did not come to leave anything."""

    def __init__(self) -> None:
        from lit_optim.integration.run_folder import RunFolder

        self._folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
        self._is_ours = self._is_free()

    def write(self, config: DictConfig, error: Exception) -> bool:
        """Write the config and what went wrong with it; returns whether the folder tells it now."""
        if not self._is_ours:
            return False
        if not self._is_free():  # the run has begun, and speaks for itself
            return True
        status = "refused" if isinstance(error, LitOptimError) else "crashed"
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
        nothing: dict[str, Any] = {"final": {}, "best": {}, "steps": 0, "epochs": 0, "seconds": 0.0}
        try:
            self._folder.claim(hydra_files(config))
            self._folder.write_metrics({"status": status, "error": text, **nothing})
        except OSError:
            self._folder.withdraw()
            return False
        finally:
            self._folder.release()
        return True

    def _is_free(self) -> bool:
        try:
            self._folder.check_free()
        except RunError:
            return False
        return True


def _mark() -> str:
    return f"{HydraConfig.get().job.num} │ "
