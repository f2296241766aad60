"""A sweep as a whole (``-m``): checked before its first job; at its end, which jobs failed and which was the best."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError

from lit_optim.cli.compare import print_comparison
from lit_optim.cli.refusals import unresolved
from lit_optim.cli.reporting import shown
from lit_optim.cli.search import prepare
from lit_optim.cli.study import load_study, told_of
from lit_optim.errors import ConfigError, LitOptimError, Mistake, RunError
from lit_optim.runs.finding import find_runs, natural
from lit_optim.runs.metric import Mode
from lit_optim.runs.reading import Run, read_run

__all__ = ["Refused", "Sweep"]

_SHOWN = 8  # reasons


class Refused(BaseException):
    """A launch that is not to begin. (Hydra makes a warning of an exception in a callback.)

    Args:
        error: Why.
    """

    def __init__(self, error: LitOptimError) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True)
class _Begun:
    """A sweep that is on its way: its folder, the runs that were in it before, what is searched for, and by what."""

    folder: Path
    before: frozenset[Path]
    mode: Mode | None
    sweeper: DictConfig


class Sweep(Callback):
    """Looks at a sweep before Hydra starts it, and again at its end, however that comes."""

    begun: ClassVar[_Begun | None] = None  # of the class: Hydra constructs the object, and a process has one launch

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check it, and note what is in its folder.

        Raises:
            Refused: It can't come to anything.
        """
        try:
            mode = prepare(config)
            folder = Path(config.hydra.sweep.dir).absolute()
            Sweep.begun = _Begun(folder, frozenset(_runs_in(folder)), mode, config.hydra.sweeper)
        except LitOptimError as error:
            raise Refused(error) from error
        except InterpolationResolutionError as error:
            raise Refused(ConfigError(unresolved(error))) from error
        except Exception as error:
            problem = f"this sweep can't be prepared: {type(error).__name__}: {error}"
            remedy = "correct what is set under hydra.sweeper and hydra.sweep; HYDRA_FULL_ERROR=1 shows where it failed"
            raise Refused(ConfigError(Mistake("--multirun", problem, remedy=remedy))) from error

    @classmethod
    def end(cls, cut_short: bool = False) -> int:
        """Tell which jobs failed and why, then the comparison of all; leave nothing of a sweep that never began.

        Args:
            cut_short: Whether more jobs were to come, so that even one result is worth a table.

        Returns:
            How many jobs failed.
        """
        begun, cls.begun = cls.begun, None
        if begun is None:
            return 0
        runs = [read_run(folder) for folder in _runs_in(begun.folder) if folder not in begun.before]
        failures = {run: why for run in runs if (why := _failure(run)) is not None}
        nothing_stays = all(run.status == "refused" for run in runs)
        if len(runs) > 1:
            sys.stdout.flush()
            _tell(failures, len(runs), begun.folder, "" if nothing_stays else f", in {shown(begun.folder)}")
        if nothing_stays:
            for run in runs:
                _forget(run.folder, begun.folder)
        elif len(runs) > 1 or (cut_short and not failures):
            print()
            print_comparison(runs, begun.mode)
        _tell_study(begun.sweeper, runs)
        return len(failures)


def _runs_in(folder: Path) -> list[Path]:
    try:
        return find_runs([str(folder)])
    except RunError:  # there is none
        return []


def _failure(run: Run) -> str | None:
    """Why a job has failed; None where it has a result, which is a number where the sweep looks at one."""
    if run.status == "finished":
        metric = (run.config or {}).get("optimized_metric")
        if metric is None or math.isfinite(run.final.get(metric, math.nan)):
            return None
        return f"its {metric} is not finite" if metric in run.final else f"it has no {metric}"
    return run.error or ("it was ended while it ran" if run.status in ("running", "killed") else f"it is {run.status}")


def _tell(failures: dict[Run, str], total: int, folder: Path, where: str) -> None:
    if not failures:
        return
    by_reason: dict[tuple[str, str], list[str]] = {}
    for run in sorted(failures, key=lambda run: natural(run.folder)):
        reason = failures[run].splitlines()[0]
        by_reason.setdefault((run.status, reason), []).append(str(run.folder.relative_to(folder)))
    print(f"\nlit-optim: {len(failures)} of {total} jobs failed{where}", file=sys.stderr)
    for (status, reason), jobs in [*by_reason.items()][:_SHOWN]:
        print(f"    {', '.join(jobs)} ({status}): {reason}", file=sys.stderr)
    if len(by_reason) > _SHOWN:
        place = ", under error in metrics.json" if where else ""
        print(f"    and {len(by_reason) - _SHOWN:,} more reasons{place}", file=sys.stderr)
    sys.stderr.flush()


def _tell_study(sweeper: DictConfig, runs: Sequence[Run]) -> None:
    """Of a search whose study is stored, and may have trials of other sweeps."""
    if not runs or not isinstance(sweeper.get("storage"), str):
        return
    try:
        for line in told_of(load_study(sweeper), runs):
            print(line, flush=True)
    except Exception as error:  # whatever a database may raise
        print(f"warning: the study can't be read any more: {error}", file=sys.stderr)


def _forget(folder: Path, sweep: Path) -> None:
    """Remove what a refused job has left, and its folder where nothing else is in it."""
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    while folder != sweep and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
