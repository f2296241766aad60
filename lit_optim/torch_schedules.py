"""Which schedulers of ``torch.optim.lr_scheduler`` a config may name, and what may stand beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_optim.errors import ConfigError, Mistake, nearest
from lit_optim.hyperparameters import is_number
from lit_optim.names import find
from lit_optim.schedules import Schedule
from lit_optim.schedules.plateau import Plateau
from lit_optim.simulation import INTERVALS, TorchSchedule, optimizer_argument
from lit_optim.targets import argument_mistakes, callee_of, instantiate, parameters_of

__all__ = ["TorchPlateau", "schedulers_in", "torch_schedule"]

_BESIDE = ("interval", "frequency", "monitor")  # what is no argument of a scheduler, but of whoever steps it
_FUNCTIONS = ("lr_lambda", "scale_fn")
_BY_GROUP = ("max_lr", "base_lr", "min_lr", "swa_lr")
_POSITIVE = ("step_size", "T_max", "T_0", "T_mult", "total_steps", "epochs", "steps_per_epoch", "step_size_up")
_COUNTS = (*_POSITIVE, "total_iters", "step_size_down", "anneal_epochs")
_FINITE = ("gamma", "eta_min", "start_factor", "end_factor", "power", "max_lr", "base_lr", "swa_lr", "div_factor")


@dataclass(frozen=True)
class TorchPlateau(Plateau):
    """torch's ReduceLROnPlateau: a `Plateau` whose lower bound is a value, the same for every group.

    Args:
        min_lr: What nothing is reduced below.
        eps: A reduction by no more than this is left out.
    """

    min_lr: float = 0.0
    eps: float = 1e-8

    def _mistakes(self) -> Iterator[Mistake]:
        yield from super()._mistakes()
        for field in ("min_lr", "eps"):
            value = getattr(self, field)
            if not _is_finite(value) or value < 0:
                yield Mistake(field, "a finite number of at least 0 is needed", repr(value), remedy="correct the value")

    def reduced(self, value: float, reductions: int) -> float:
        """See `Plateau.reduced`; one reduction upon the other, as torch has it, to the last digit."""
        for _ in range(reductions):
            smaller = max(value * self.factor, self.min_lr)
            if value - smaller <= self.eps:
                break
            value = smaller
        return value


def torch_schedule(node: Mapping[str, Any], key: str) -> Schedule:
    """The schedule that a node with a torch scheduler stands for.

    Args:
        node: ``_target_``, the arguments of its class but for the optimizer, and beside them ``interval``,
            ``frequency`` and ``monitor``. A factory that the project allows makes a schedule itself.
        key: The config key of the node, for messages.

    Raises:
        ConfigError: With all that can be said without knowing the run.
    """
    cls = callee_of(node, (Schedule, LRScheduler), key)
    if not (isinstance(cls, type) and issubclass(cls, LRScheduler)):
        schedule: Schedule = instantiate(node, (Schedule,), key)
        return schedule
    own = {name: value for name, value in node.items() if name not in _BESIDE}
    callee_of(own, (LRScheduler,), key)  # and no Schedule inside of it
    mistakes = [*_wrong_beside(node, cls, key)]
    for inner, arguments, place in schedulers_in(own, key):
        mistakes += _wrong_arguments(inner, arguments, place)
        if place != key:
            mistakes += _wrong_inside(inner, arguments, place)
    if mistakes:
        raise ConfigError(*mistakes)
    if cls is ReduceLROnPlateau:
        return TorchPlateau(node["monitor"], **{name: value for name, value in own.items() if name != "_target_"})
    return TorchSchedule(own, node.get("interval", "step"), node.get("frequency", 1))


def schedulers_in(node: Any, key: str) -> Iterator[tuple[type[LRScheduler], Mapping[str, Any], str]]:
    """Every torch scheduler at any depth of a node: its class, its arguments, and its config key.

    Args:
        node: Of which all targets have been checked.
        key: Its config key.
    """
    if isinstance(node, Mapping):
        cls: Any = find(node["_target_"], (LRScheduler,), key, through_objects=True) if "_target_" in node else None
        if isinstance(cls, type) and issubclass(cls, LRScheduler):
            yield cls, {name: value for name, value in node.items() if name != "_target_"}, key
        for name, value in node.items():
            yield from schedulers_in(value, f"{key}.{name}")
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, value in enumerate(node):
            yield from schedulers_in(value, f"{key}.{index}")


def _wrong_beside(node: Mapping[str, Any], cls: type[LRScheduler], key: str) -> Iterator[Mistake]:
    """What is wrong with when a scheduler is stepped, and with what it looks at."""
    name, interval, frequency = cls.__name__, node.get("interval", "step"), node.get("frequency", 1)
    is_count = isinstance(frequency, int) and not isinstance(frequency, bool) and frequency >= 1
    if interval not in INTERVALS:
        near = nearest(str(interval), INTERVALS)
        yield Mistake(f"{key}.interval", "no such interval", repr(interval), INTERVALS, near, "write step or epoch")
    if not is_count:
        problem = "a whole number of steps or epochs is needed, at least 1"
        yield Mistake(f"{key}.frequency", problem, repr(frequency), remedy="leave it out to step every time")
    monitor = node.get("monitor")
    if not issubclass(cls, ReduceLROnPlateau):
        if monitor is not None:
            remedy = "remove it; lit_optim.schedules.Plateau and torch.optim.lr_scheduler.ReduceLROnPlateau look at one"
            yield Mistake(f"{key}.monitor", f"{name} looks at no metric", repr(monitor), remedy=remedy)
        return
    if cls is not ReduceLROnPlateau:
        remedy = "name torch.optim.lr_scheduler.ReduceLROnPlateau itself, or lit_optim.schedules.Plateau"
        yield Mistake(f"{key}._target_", f"{name} may decide otherwise than its base does", name, remedy=remedy)
    if monitor is None:
        remedy = f"for example {key}.monitor=val/loss"
        yield Mistake(f"{key}.monitor", f"{name} needs the name of the metric that it looks at", remedy=remedy)
    for word, value, usual in (("interval", interval, "epoch"), ("frequency", frequency, 1)):
        if word in node and value != usual:
            problem = f"{name} looks each time its metric is logged anew, and counts nothing else"
            remedy = "remove it; patience counts these looks"
            yield Mistake(f"{key}.{word}", problem, repr(value), remedy=remedy)


def _wrong_arguments(cls: type[LRScheduler], arguments: Mapping[str, Any], key: str) -> Iterator[Mistake]:
    """What is wrong with the arguments of one scheduler, whatever the run."""
    name, mine = cls.__name__, optimizer_argument(cls)
    for given, why in ((mine, "the plan gives it one"), ("last_epoch", "the optimizer step tells where it stands")):
        if given in arguments:
            yield Mistake(f"{key}.{given}", f"this is not for a config to say: {why}", remedy="remove it")
    functions = [function for function in _FUNCTIONS if _lacks_function(cls, function, arguments.get(function))]
    for function in functions:
        problem = f"{name} moves by a function, which no config can hold"
        given_there = repr(arguments[function]) if function in arguments else None
        remedy = (
            "name a Schedule of your own, a dataclass with a method curve(start, horizon); or let the project's "
            f"pyproject.toml allow what makes the function, and write {function}: {{_target_: my_package.that}}"
        )
        yield Mistake(f"{key}.{function}", problem, given_there, remedy=remedy)
    for by_group in _BY_GROUP:
        if isinstance(arguments.get(by_group), Sequence) and not isinstance(arguments[by_group], str):
            problem = "a list goes by the order of the groups, which a rule changes without a word"
            remedy = "give one number, and a rule with another one a schedule of its own (rules.NAME.schedule.lr)"
            yield Mistake(f"{key}.{by_group}", problem, given=repr(arguments[by_group]), remedy=remedy)
    if cls.__module__.startswith("torch."):
        yield from _wrong_values(arguments, key)
    yield from argument_mistakes(cls, {**arguments, **dict.fromkeys([*functions, mine])}, key)


def _wrong_values(arguments: Mapping[str, Any], key: str) -> Iterator[Mistake]:
    """Numbers that torch itself doesn't look at before it reckons with them."""
    for name, value in arguments.items():
        where = f"{key}.{name}"
        if name in _COUNTS and value is not None:
            least = 1 if name in _POSITIVE else 0
            if not _is_finite(value) or value < least:
                problem = f"torch counts this in plain numbers, at least {least}"
                yield Mistake(
                    where, problem, repr(value), remedy="write a number; interval says of what: step or epoch"
                )
        elif name == "milestones":
            if isinstance(value, str) or not isinstance(value, Sequence) or not all(map(_is_finite, value)):
                problem = "torch counts these in plain numbers"
                remedy = "write a list of numbers, or use lit_optim.schedules.Milestones, which takes 50% and 2epochs"
                yield Mistake(where, problem, repr(value), remedy=remedy)
            elif any(one < 0 for one in value):
                yield Mistake(where, "steps are counted from 0", repr(value), remedy="write 0 or more")
        elif name in _FINITE and not isinstance(value, (list, tuple)) and not _is_finite(value):
            yield Mistake(where, "a finite number is needed", repr(value), remedy=f"set {name} to such a number")


def _is_finite(value: object) -> TypeGuard[float]:
    return is_number(value) and math.isfinite(value)


def _lacks_function(cls: type, argument: str, value: object) -> bool:
    """Whether an argument that takes a function has something else, or nothing where it is needed."""
    parameter = (parameters_of(cls) or {}).get(argument)
    if parameter is None or (isinstance(value, Mapping) and "_target_" in value):
        return False
    return value is not None or parameter.default is parameter.empty


def _wrong_inside(cls: type[LRScheduler], arguments: Mapping[str, Any], key: str) -> Iterator[Mistake]:
    """What is wrong with a scheduler inside of another."""
    for word in _BESIDE:
        if word in arguments:
            remedy = "write it beside the outermost _target_, for all of them"
            yield Mistake(f"{key}.{word}", "a scheduler inside of another is stepped by that", remedy=remedy)
    if issubclass(cls, ReduceLROnPlateau):
        remedy = "use lit_optim.schedules.Plateau by itself; it has a warmup of its own"
        yield Mistake(f"{key}._target_", f"{cls.__name__} can't stand inside of another", remedy=remedy)
