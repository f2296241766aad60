"""What goes wrong with torch's schedulers in silence: absolute values over groups that differ, and mistaken units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from lit_optim.durations import Horizon, epoch_of
from lit_optim.errors import Mistake
from lit_optim.grouping import Merged, few
from lit_optim.hyperparameters import is_number
from lit_optim.schedule_nodes import schedule_of
from lit_optim.simulation import TorchSchedule
from lit_optim.targets import parameters_of
from lit_optim.torch_schedules import schedulers_in

__all__ = ["doubtful_units", "shared_mistakes"]

_BEYOND = 1.5  # times the run: a length that says more is hardly begun
_SHORT = 0.1  # of the run: a length up to this which fits the run in epochs may well be meant in epochs
_NOTHING_LEFT = 1e-6  # of the lr
_LENGTHS: dict[type, str] = {
    lr_scheduler.ConstantLR: "total_iters",
    lr_scheduler.LinearLR: "total_iters",
    lr_scheduler.PolynomialLR: "total_iters",
    lr_scheduler.CosineAnnealingLR: "T_max",
    lr_scheduler.CosineAnnealingWarmRestarts: "T_0",
    lr_scheduler.CyclicLR: "step_size_up",
    lr_scheduler.OneCycleLR: "total_steps",
}
_ABSOLUTE = (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR, SWALR)
_TO_A_MINIMUM = (lr_scheduler.CosineAnnealingLR, lr_scheduler.CosineAnnealingWarmRestarts)


def shared_mistakes(merged: Sequence[Merged]) -> Iterator[Mistake]:
    """An absolute learning rate that flattens the ratios between groups, or lifts a group above its own.

    Args:
        merged: The groups to be.
    """
    for key, groups in _by_key(merged).items():
        rates = sorted({one.settled.hyperparameters["lr"] for one in groups}, reverse=True)
        for cls, arguments, place in schedulers_in(groups[0].settled.schedules["lr"], key):
            if issubclass(cls, _ABSOLUTE) and len(rates) > 1:
                yield from _flattened(cls, arguments, place, rates)
            least = arguments.get("eta_min", 0.0)
            lifted = [one for one in groups if is_number(least) and one.settled.hyperparameters["lr"] < least]
            if issubclass(cls, _TO_A_MINIMUM) and lifted:
                lr = lifted[0].settled.hyperparameters["lr"]
                entries = [entry for one in lifted for entry in one.entries]
                problem = f"it would raise {few(entries)} from lr {lr:g} to {least:g}"
                remedy = (
                    "lower eta_min below every group's lr, or use lit_optim.schedules.Cosine, whose final_factor is of "
                    "each group's own lr"
                )
                yield Mistake(f"{place}.eta_min", problem, given=f"{least:g}", remedy=remedy)


def _flattened(cls: type, arguments: Mapping[str, Any], key: str, rates: Sequence[float]) -> Iterator[Mistake]:
    for name in ("max_lr", "base_lr", "swa_lr"):
        if name in arguments:
            told = ", ".join(f"{rate:g}" for rate in rates[:4]) + (", …" if len(rates) > 4 else "")
            problem = f"{cls.__name__} gives every group the same lr, and theirs differ: {told}"
            remedy = (
                "use lit_optim.schedules.OneCycle, whose factors are of each group's own lr, or give each rule a "
                "schedule of its own (rules.NAME.schedule.lr)"
            )
            yield Mistake(f"{key}.{name}", problem, given=repr(arguments[name]), remedy=remedy)


@dataclass(frozen=True)
class _Doubt:
    """A setting that makes little sense in the unit that it is counted in.

    Args:
        key: Where it stands.
        given: As it was written.
        length: What of it is held against the run.
        what: What it comes to.
    """

    key: str
    given: object
    length: float
    what: str


def doubtful_units(merged: Sequence[Merged], horizon: Horizon) -> Iterator[str]:
    """Lengths that were likely meant in the other unit, or that the run never sees the end of.

    Args:
        merged: The groups, with spans.
        horizon: The run.
    """
    for key, groups in _by_key(merged).items() if horizon.is_bounded else ():
        node = groups[0].settled.schedules["lr"]
        schedule = schedule_of(node, key)
        assert isinstance(schedule, TorchSchedule)
        total = int(horizon.total_steps)
        epochs = None if horizon.steps_per_epoch is None else epoch_of(total - 1, horizon) + 1
        runs = {"step": total, "epoch": epochs}
        other = "epoch" if schedule.interval == "step" else "step"
        counts = {unit: None if run is None else math.ceil(run / schedule.frequency) for unit, run in runs.items()}
        here, there = counts[schedule.interval], counts[other]
        assert here is not None
        many = "" if schedule.frequency == 1 else f"stretches of {schedule.frequency:,} "
        for doubt in _doubts(schedule.node, key, here, there if other == "epoch" else None):
            units, others = f"{many}{schedule.interval}s", "" if there is None else f" ({there:,} {many}{other}s)"
            told = f"{doubt.given} counts in {units}, and the run has {here:,} of them{others}, so {doubt.what}"
            fits = there is not None and _SHORT * there <= doubt.length <= _BEYOND * there
            remedy = f"write interval: {other}, or " * fits + f"count up to {here:,} {units}"
            yield f"{doubt.key}: {told}; {remedy}"


def _doubts(node: Mapping[str, Any], key: str, run: int, epochs: int | None) -> Iterator[_Doubt]:
    """Of one scheduler and those inside of it.

    Args:
        node: The scheduler.
        key: Its config key.
        run: How many of its steps there are in the run.
        epochs: As many in epochs, where it isn't stepped by these.
    """
    cls, arguments, _ = next(schedulers_in(node, key))
    defaults = {name: one.default for name, one in (parameters_of(cls) or {}).items()}
    said = {**defaults, **arguments}
    milestones = said["milestones"] if cls in (lr_scheduler.MultiStepLR, lr_scheduler.SequentialLR) else ()
    if cls is lr_scheduler.StepLR:
        left = _left(said["gamma"], run // said["step_size"])
        if said["step_size"] >= run:
            yield _Doubt(f"{key}.step_size", said["step_size"], said["step_size"], "the lr never moves")
        elif left < _NOTHING_LEFT:
            yield _Doubt(f"{key}.step_size", said["step_size"], said["step_size"], f"{left:.1g} of the lr is left")
    elif cls is lr_scheduler.ExponentialLR:
        left = _left(said["gamma"], run)
        if left < _NOTHING_LEFT:
            yield _Doubt(f"{key}.gamma", said["gamma"], epochs or 0, f"{left:.1g} of the lr is left")
    elif milestones:
        late = [milestone for milestone in milestones if milestone >= run]
        if late:
            what = f"{', '.join(map(str, late))} never come{'s' * (len(late) == 1)}"
            yield _Doubt(f"{key}.milestones", list(milestones), max(late), what)
        elif _is_short(max(milestones), run, epochs):
            what = f"all of it is over after {100 * max(milestones) / run:.2g}% of the run"
            yield _Doubt(f"{key}.milestones", list(milestones), max(milestones), what)
    else:
        yield from _of_length(cls, said, key, run, epochs)
    inner = arguments.get("schedulers", ())
    stretches = pairwise([0, *milestones, run]) if milestones else [(0, run)] * len(inner)
    for index, (one, (first, end)) in enumerate(zip(inner, stretches, strict=False)):
        if first < end:
            yield from _doubts(one, f"{key}.schedulers.{index}", end - first, epochs)


def _of_length(cls: type, said: Mapping[str, Any], key: str, run: int, epochs: int | None) -> Iterator[_Doubt]:
    """Of a scheduler that has one length."""
    name = _LENGTHS.get(cls)
    if name is None:
        return
    length = said[name]
    if name == "total_steps" and length is None:
        name, length = "epochs", said["epochs"] * said["steps_per_epoch"]
    if length > _BEYOND * run:
        yield _Doubt(f"{key}.{name}", length, length, f"it gets no further than {100 * run / length:.2g}% of its way")
    elif name == "T_max" and run > length + 1:
        what = f"the lr falls and rises again, through {run / (2 * length):.3g} waves"
        yield _Doubt(f"{key}.{name}", length, length, what)
    elif _is_short(length, run, epochs):
        part = "its first cycle" if name in ("T_0", "step_size_up") else "it"
        what = f"{part} is over after {100 * length / run:.2g}% of the run"
        yield _Doubt(f"{key}.{name}", length, length, what)


def _left(gamma: float, times: float) -> float:
    return float(gamma**times) if 0 <= gamma < 1 else 1.0


def _is_short(length: float, run: int, epochs: int | None) -> bool:
    return epochs is not None and length <= _SHORT * run and length <= epochs


def _by_key(merged: Sequence[Merged]) -> dict[str, list[Merged]]:
    """The groups whose lr follows a torch scheduler, by where that stands."""
    found: dict[str, list[Merged]] = {}
    for one in merged:
        if "lr" in one.spans and isinstance(schedule_of(one.settled.schedules["lr"], ""), TorchSchedule):
            found.setdefault(one.settled.schedule_origins["lr"], []).append(one)
    return found
