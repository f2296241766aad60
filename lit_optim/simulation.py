"""Schedulers of torch's run ahead, over a stand-in for the optimizer, so that their curves are pure.

A torch scheduler moves the learning rate that it finds in an optimizer, one step upon the other. Here it does so on a
group that has the lr of the group planned for, as far ahead as anyone asks, and each value is kept under its step. A
resumed run needs nothing but its step, and the plan shows the very numbers that torch gives.
"""

from __future__ import annotations

import functools
import json
import warnings
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_optim.durations import Horizon, epoch_of
from lit_optim.errors import ConfigError, Mistake, PlanError
from lit_optim.names import find
from lit_optim.schedules import Curve, Schedule
from lit_optim.targets import instantiate, parameters_of

__all__ = ["INTERVALS", "TorchSchedule", "optimizer_argument"]

INTERVALS = ("step", "epoch")
"""What a scheduler may be stepped by."""

_MOMENTUM = 0.59  # of the stand-in; no scheduler ends on it by chance
_AHEAD = 1_000  # steps that a simulation goes ahead of what it is asked for


@dataclass(frozen=True)
class TorchSchedule(Schedule):
    """A torch scheduler, stepped every ``frequency`` optimizer steps, or epochs of optimizer steps.

    Args:
        node: The scheduler's ``_target_`` and arguments, which may hold further schedulers.
        interval: ``step`` or ``epoch``.
        frequency: At least 1. It counts on over the whole run, in optimizer steps whatever the accumulation.
    """

    node: Mapping[str, Any]
    interval: str = "step"
    frequency: int = 1

    @property
    def name(self) -> str:
        """The scheduler's class."""
        return str(self.node["_target_"]).rpartition(".")[2]

    @property
    def label(self) -> str:
        """How its curve came about, for who sees it."""
        unit = "optimizer step" if self.interval == "step" else "epoch"
        every = unit if self.frequency == 1 else f"{self.frequency:,} {unit}s"
        return f"simulated, {self.name} is stepped every {every}"

    def curve(self, start: float, horizon: Horizon) -> Curve:
        """See `Schedule.curve`; where the scheduler can't go on, the last value that it has stays."""
        tick = self.ticks(horizon)
        classes = tuple(find(target, (), "") for target in _targets(self.node))
        try:
            simulation = _simulated(json.dumps(self.node), classes, float(start))
        except ConfigError as error:  # what a constructor refuses
            raise PlanError(*error.mistakes) from error
        mistakes = [*simulation.moves_more(self)]
        if horizon.is_bounded:
            mistakes += simulation.ends_early(tick(int(horizon.total_steps)), self)
        if mistakes:
            raise PlanError(*mistakes)
        return lambda step: simulation.at(tick(step))

    def ticks(self, horizon: Horizon) -> Callable[[int], int]:
        """How many times the scheduler has been stepped before an optimizer step, as a function of that.

        Raises:
            PlanError: Epochs, in a run whose epochs have no length.
        """
        if self.interval == "step":
            return lambda step: step // self.frequency
        if horizon.steps_per_epoch is None:
            problem = "it can't be stepped by epochs: nobody knows how long an epoch is"
            remedy = "write interval: step, or set trainer.limit_train_batches to a number of batches"
            raise PlanError(Mistake("interval", problem, given="'epoch'", allowed=INTERVALS, remedy=remedy))
        return lambda step: epoch_of(step, horizon) // self.frequency


class _StandIn(Optimizer):
    """One group, with whatever a scheduler may look for."""

    def __init__(self, lr: float) -> None:
        parameter = torch.nn.Parameter(torch.zeros(1, device="cpu"))
        others = {"momentum": _MOMENTUM, "betas": (_MOMENTUM, 0.999), "weight_decay": 0.0, "eps": 1e-8}
        super().__init__([parameter], {"lr": lr, **others})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing is here to be moved."""


class _Simulation:
    """What a scheduler makes of one learning rate, by the number of its steps."""

    def __init__(self, node: Mapping[str, Any], start: float) -> None:
        optimizer = _StandIn(start)
        [self._group] = optimizer.param_groups
        self._others = {name: value for name, value in self._group.items() if name not in ("params", "lr")}
        self._error: Exception | None = None
        with _quiet():
            self._scheduler: Any = _built(node, optimizer, "")
        self._values = array("d", [float(self._group["lr"])])

    def at(self, tick: int) -> float:
        """The learning rate after so many steps."""
        if tick >= len(self._values) and self._error is None:
            self._go_on(tick + _AHEAD)
        return self._values[min(tick, len(self._values) - 1)]

    def _go_on(self, tick: int) -> None:
        with _quiet():
            while len(self._values) <= tick and self._error is None:
                try:
                    self._scheduler.step()
                    self._values.append(float(self._group["lr"]))
                except Exception as error:  # whatever a scheduler may raise; past the end of a run it means nothing
                    self._error = error

    def ends_early(self, last: int, schedule: TorchSchedule) -> Iterator[Mistake]:
        """A scheduler that raises before its last step in a run."""
        self.at(last)
        if last < len(self._values):
            return
        told = f"{type(self._error).__name__}: {self._error}"
        problem = f"{schedule.name} takes {len(self._values) - 1:,} steps and then raises {told}; this run has {last:,}"
        if "total_steps" in schedule.node:
            given, remedy = repr(schedule.node["total_steps"]), f"write total_steps: {last}, or interval: epoch"
            yield Mistake("total_steps", problem, given, remedy=remedy)
        else:
            yield Mistake("", problem, remedy="correct its arguments, or step it less often (interval, frequency)")

    def moves_more(self, schedule: TorchSchedule) -> Iterator[Mistake]:
        """A scheduler that moves more than the lr."""
        self.at(1)
        moved = [name for name, value in self._others.items() if self._group[name] != value]
        if not moved:
            return
        problem = f"{schedule.name} moves {' and '.join(moved)} as well, and under lr nothing but lr moves"
        if "cycle_momentum" not in (parameters_of(type(self._scheduler)) or {}):
            yield Mistake("", problem, remedy="use a Schedule for each of them (see lit_optim.schedules)")
            return
        problem = f"{schedule.name} moves the momentum as well, and under lr nothing but lr moves"
        remedy = (
            "write cycle_momentum: false; or use lit_optim.schedules.OneCycle, which moves the lr under schedule.lr "
            "and the momentum under schedule.momentum"
        )
        yield Mistake("cycle_momentum", problem, given=repr(schedule.node.get("cycle_momentum", True)), remedy=remedy)


@functools.lru_cache(maxsize=256)
def _simulated(node: str, classes: tuple[object, ...], start: float) -> _Simulation:
    """One for all who ask: the plan's table, its picture, the run. The classes tell apart what was defined anew."""
    return _Simulation(json.loads(node), start)


def _built(node: Mapping[str, Any], optimizer: Optimizer, key: str) -> Any:
    """What a node names, those inside of it first; each scheduler gets the optimizer.

    All targets have been checked before: what is no scheduler here is a factory that the project allows.
    """
    arguments = {name: _value(item, optimizer, f"{key}.{name}".lstrip(".")) for name, item in node.items()}
    cls: Any = find(node["_target_"], (), key, through_objects=True)
    if not (isinstance(cls, type) and issubclass(cls, LRScheduler)):
        return instantiate(arguments, (object,), key)
    supplied: dict[str, Any] = {optimizer_argument(cls): optimizer}
    return instantiate(arguments, (LRScheduler,), key, **supplied)


def _value(value: Any, optimizer: Optimizer, key: str) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        return _built(value, optimizer, key)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_value(item, optimizer, f"{key}.{index}") for index, item in enumerate(value)]
    return value


def optimizer_argument(cls: type) -> str:
    """The argument under which a scheduler's class takes its optimizer: ``optimizer``, or else the first."""
    names = [*(parameters_of(cls) or {})]
    return "optimizer" if "optimizer" in names or not names else names[0]


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from [item] if name == "_target_" else _targets(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _targets(item)


@contextmanager
def _quiet() -> Iterator[None]:
    """A scheduler warns of what is the simulation's doing: no optimizer steps before it, an epoch is named."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
