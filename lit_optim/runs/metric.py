"""The metric that runs are compared by, and whether more of it is better."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from lit_optim.errors import ConfigError, Mistake, nearest
from lit_optim.runs.reading import Run

__all__ = ["Metric", "Mode", "falls", "known_mode", "metric_of"]

Mode = Literal["min", "max"]

_T = TypeVar("_T")
_FALLING = ("loss", "error", "perplexity")  # wherever they stand in a name
_FALLING_WORDS = frozenset(("err", "mae", "mape", "mse", "msle", "nll", "nrmse", "ppl", "rmse", "rmsle", "wer", "cer"))
_FALLING_PARTS = frozenset(  # of the tags of `OptimizerMonitor`
    (
        "grad_norm", "grad_norm_clipped", "param_norm", "update_norm", "momentum_norm", "zero_grads", "nonfinite_grads",
        "dead_relu",
    )
)  # fmt: skip
_WORD = re.compile(r"[^\W_]+")
_RISING = ("acc", "auc", "auroc", "f1", "iou", "precision", "recall")  # as whole words, or with more behind them


def falls(tag: str) -> bool:
    """Whether the lowest value of a metric of this name is its best: what a run itself goes by."""
    name = tag.lower()
    if any(word in name for word in _FALLING) or not _FALLING_PARTS.isdisjoint(tag.split("/")):
        return True
    for word in reversed(_WORD.findall(name)):  # the last says what it is: `mae_acc` an accuracy, `acc_err` an error
        if word.startswith(_RISING):
            return False
        if word.rstrip("0123456789") in _FALLING_WORDS:
            return True
    return False


@dataclass(frozen=True)
class Metric:
    """What runs are compared by.

    Args:
        name: Its tag, ``val/acc``.
        mode: Whether its lowest or its highest value is the best.
        is_guess: Whether nothing says so.
    """

    name: str
    mode: Mode
    is_guess: bool = field(default=False, compare=False)

    @property
    def is_kept(self) -> bool:
        """Whether the best value that a run keeps of it is the best in this mode too."""
        return (self.mode == "min") == falls(self.name)

    def better(self, values: Iterable[float]) -> float:
        """The best of some values."""
        return min(values) if self.mode == "min" else max(values)


def metric_of(
    runs: Sequence[Run], name: str | None = None, mode: Mode | None = None, recorded: Iterable[str] = ()
) -> Metric | None:
    """Choose the metric.

    Args:
        runs: What is compared.
        name: Its tag; if not given, the ``optimized_metric`` of most of the runs that has any value, else what most of
            their checkpoints go by; and where no config says either, the first of validation by name.
        mode: If not given, that of the checkpoints that go by it, or by the same of another stage (``val/mae`` for
            ``test/mae``); else the name's.
        recorded: Tags that a name may be as well, of which the runs have curves.

    Returns:
        None where no run has any metric yet.

    Raises:
        ConfigError: No run has the metric.
    """
    found = list(dict.fromkeys([*(tag for run in runs for tag in (*run.final, *run.best)), *recorded]))
    if not found:
        return None
    said = [str(run.config["optimized_metric"]) for run in runs if run.config and run.config.get("optimized_metric")]
    monitors = [(monitor, which) for run in runs for monitor, which in _monitors(run.config or {})]
    wanted = [name] if name is not None else [*_by_count(said), *_by_count(monitor for monitor, _ in monitors)]
    wanted = wanted or [min(found, key=lambda tag: (not tag.startswith("val/"), tag))]
    tag = next((one for one in wanted if one in found), None)
    if tag is None:
        problem = "no run has this metric" + (", which their configs name" if name is None else "")
        near = nearest(wanted[0], found)
        raise ConfigError(Mistake("--metric", problem, wanted[0], tuple(sorted(found)), near, "name one of these"))
    known = mode or _mode_among(monitors, tag)
    return Metric(tag, known or "max", is_guess=known is None and not _rises(tag))


def known_mode(tag: str, config: Mapping[str, Any]) -> Mode | None:
    """Whether more or less of a metric is better, where a checkpoint's mode or the name says so.

    Args:
        tag: Of the metric.
        config: A run's, flat.
    """
    return _mode_among([*_monitors(config)], tag) or ("max" if _rises(tag) else None)


def _rises(tag: str) -> bool:
    """Whether the name says that more is better."""
    return any(word.startswith(_RISING) for word in tag.rpartition("/")[2].lower().split("_"))


def _mode_among(monitors: Sequence[tuple[str, Mode]], tag: str) -> Mode | None:
    """What is said of the tag itself, of the same of another stage, or by a name that falls."""
    same = _by_count(which for monitor, which in monitors if monitor == tag)
    alike = _by_count(which for monitor, which in monitors if monitor.rpartition("/")[2] == tag.rpartition("/")[2])
    by_name: list[Mode] = ["min"] if falls(tag) else []
    return next(iter([*same, *alike, *by_name]), None)


def _monitors(config: Mapping[str, Any]) -> Iterator[tuple[str, Mode]]:
    """What a run's callbacks go by, each with its mode."""
    for key, value in config.items():
        if key.startswith("callbacks.") and key.endswith(".monitor") and isinstance(value, str):
            mode = config.get(f"{key.removesuffix('monitor')}mode")
            if mode == "min" or mode == "max":
                yield value, mode


def _by_count(values: Iterable[_T]) -> list[_T]:
    """The different ones, the most frequent first."""
    return [value for value, _ in Counter(values).most_common()]
