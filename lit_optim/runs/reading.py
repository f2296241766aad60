"""A run's folder → a `Run`. What can't be read is told, and the rest of the run is there all the same."""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_optim.errors import PlanError
from lit_optim.plan import Plan
from lit_optim.runs.events import steps_of
from lit_optim.runs.settings import compared, flat, load_mapping, load_strings

__all__ = ["LAST", "UNREADABLE", "Run", "Unreadable", "config_folder_of", "overrides_of", "plan_of", "read_run"]

LAST = "checkpoints/last.ckpt"
"""Where a run's last checkpoint lies in its folder."""

UNREADABLE = "unreadable"
"""The status of a run whose config or metrics are damaged."""

_STATUSES = ("running", "finished", "crashed", "refused")
_OUTPUT = re.compile(r"^ +output_dir: (.+)$", re.MULTILINE)


class Unreadable(Exception):
    """A file of a run that is damaged; the text names it."""


@dataclass(frozen=True, eq=False)  # a folder is one run
class Run:
    """What a run's folder says.

    Args:
        folder: Where it is.
        status: ``running``, ``finished`` or ``crashed``, as the run said last; ``killed`` for one that says ``running``
            and has no process any more; ``refused`` for a job of a sweep that never began; ``empty`` where there is
            nothing but a config, ``started`` where something was made and no metrics; `UNREADABLE`.
        config: Its whole config, flat; None where it has none that can be read.
        settings: What it may be compared by (see `settings.compared`); None likewise.
        final: The last value of each metric; NaN where it was not finite.
        best: The best finite value of each metric, as the run saw it (see `metric.falls`).
        steps: Optimizer steps taken.
        epochs: Epochs begun and ended.
        seconds: Its time.
        error: What kept it from its end, as far as it could say so.
        problems: What could not be read, a sentence each that names the file.
    """

    folder: Path
    status: str
    config: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None
    final: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None
    error: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def may_be_cut_off(self) -> bool:
        """Whether a last record of which a part is missing is what to expect: it is being written, or never will be."""
        return self.status in ("running", "killed")

    @property
    def can_go_on(self) -> bool:
        """Whether it has come to a checkpoint and not to its end, so that ``lit-optim resume`` goes on with it."""
        return self.status in ("killed", "crashed") and (self.folder / LAST).is_file()

    @property
    def seed(self) -> Any:
        """The run's seed; None where it has none, or none that is known."""
        return None if self.config is None else self.config.get("seed")


def read_run(folder: Path) -> Run:
    """Read ``.hydra/config.yaml`` and ``metrics.json``; never fails."""
    problems: list[str] = []
    config = settings = None
    metrics: dict[str, Any] = {}
    try:
        config, settings = _config_of(folder)
    except Unreadable as error:
        problems.append(str(error))
    try:
        metrics = _metrics_of(folder)
        if _says_running_here(metrics) and _is_free(folder):
            metrics = _metrics_of(folder)  # it may have come to its end before it was let go
            if _says_running_here(metrics):
                steps = max(metrics["steps"] or 0, steps_of(folder))  # metrics know of whole epochs
                metrics |= {"status": "killed", "steps": steps or metrics["steps"]}
    except Unreadable as error:
        problems.append(str(error))
    metrics.pop("host", None)
    said = metrics.pop("status", None) or _status_without_metrics(folder)
    status = UNREADABLE if problems else said
    return Run(folder, status, config, settings, **metrics, problems=tuple(problems))


def overrides_of(folder: Path) -> list[str]:
    """What was said on the command line.

    Raises:
        Unreadable: ``.hydra/overrides.yaml`` is not there, or no list.
    """
    path = folder / ".hydra" / "overrides.yaml"
    text = _text_of(path)
    if text is None:
        raise Unreadable(f"{path}: it is not there")
    try:
        return load_strings(text)
    except ValueError as error:
        raise Unreadable(f"{path}: {error}") from error


def config_folder_of(folder: Path) -> str | None:
    """The user's own folder of configs that the run was started with (``--config-dir``), if there was one."""
    try:
        hydra = load_mapping(_text_of(folder / ".hydra" / "hydra.yaml") or "")
        sources = hydra["hydra"]["runtime"]["config_sources"]
        return next((str(one["path"]) for one in sources if one["provider"] == "command-line"), None)
    except (Unreadable, ValueError, LookupError, TypeError):
        return None


def plan_of(folder: Path) -> Plan:
    """The run's plan.

    Raises:
        Unreadable: ``plan.json`` is not there, or no plan that this version reads.
    """
    path = folder / "plan.json"
    text = _text_of(path)
    if text is None:
        raise Unreadable(f"{path}: it is not there")
    try:
        return Plan.from_json(text)
    except (PlanError, RecursionError) as error:
        problem = error.mistakes[0].problem if isinstance(error, PlanError) else "this is not a plan"
        raise Unreadable(f"{path}: {problem}") from error


def _config_of(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The config, flat, and what of it counts."""
    path = folder / ".hydra" / "config.yaml"
    text = _text_of(path)
    if text is None:
        return None, None
    try:
        config = flat(load_mapping(text))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: {error}") from error
    return config, compared(config, _folders(folder), _overridden(folder))


def _folders(folder: Path) -> list[str]:
    """Where the run lies, and where it lay when it was started."""
    try:
        found = _OUTPUT.search(_text_of(folder / ".hydra" / "hydra.yaml") or "")
    except Unreadable:
        found = None
    return [str(folder.absolute()), *([] if found is None else [found[1].strip("'\"")])]


def _overridden(folder: Path) -> frozenset[str]:
    try:
        return frozenset(one.lstrip("+").partition("=")[0] for one in overrides_of(folder))
    except Unreadable:  # told where the overrides themselves are wanted
        return frozenset()


def _metrics_of(folder: Path) -> dict[str, Any]:
    """The fields of a `Run` that ``metrics.json`` fills, and the machine; empty where there is no such file."""
    path = folder / "metrics.json"
    text = _text_of(path)
    if text is None:
        return {}
    try:
        said = json.loads(text)
        return {
            "status": _status(said["status"]),
            "final": {tag: _number(value, tag) for tag, value in said.get("final", {}).items()},
            "best": {tag: _number(best["value"], tag) for tag, best in said.get("best", {}).items()},
            **{name: _count(said.get(name), name) for name in ("steps", "epochs")},
            "seconds": None if said.get("seconds") is None else _number(said["seconds"], "seconds"),
            "error": None if said.get("error") is None else str(said["error"]),
            "host": said.get("host"),
        }
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Unreadable(f"{path}: {type(error).__name__}: {error}") from error


def _says_running_here(metrics: Mapping[str, Any]) -> bool:
    """Whether it says that it runs on this machine: of another's, a network file system doesn't show the locks."""
    return metrics.get("status") == "running" and metrics["host"] == platform.node()


def _is_free(folder: Path) -> bool:
    """Whether no process holds the run, as the one that trains it does for as long as it lives."""
    try:
        handle = os.open(folder / ".hydra", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held; or a file system without locks
        return False
    finally:
        os.close(handle)
    return True


def _status(value: object) -> str:
    if value not in _STATUSES:
        raise ValueError(f"status is {value!r}, none of {', '.join(_STATUSES)}")
    return str(value)


def _number(value: object, name: str) -> float:
    if value is None:  # JSON has no NaN
        return math.nan
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, no number")
    return float(value)


def _count(value: object, name: str) -> int | None:
    return None if value is None else int(_number(value, name))


def _status_without_metrics(folder: Path) -> str:
    try:
        return "started" if any(path.name != ".hydra" for path in folder.iterdir()) else "empty"
    except OSError:  # it has gone
        return "empty"


def _text_of(path: Path) -> str | None:
    """The content of a file; None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {error}") from error
