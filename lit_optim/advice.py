"""What is legal but suspicious: each warning says where, what, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress

from lit_optim.durations import Horizon
from lit_optim.grouping import Merged, few
from lit_optim.hyperparameters import replaced, value_at
from lit_optim.lr_scaling import SIZE
from lit_optim.plan import span
from lit_optim.schedule_nodes import schedule_of
from lit_optim.schedules import Curve
from lit_optim.selection import ParameterIndex
from lit_optim.torch_traps import doubtful_units

__all__ = ["warnings_of"]

_EARLY = 0.9  # of the run: a learning rate that is 0 from before then on wastes what is left
_SCANNED = 10_000  # strides in which a curve is gone through
_TINY = 0.01  # of every other group's learning rate


def warnings_of(
    merged: Sequence[Merged], horizon: Horizon, index: ParameterIndex, lr_factor: float = 1.0
) -> Iterator[str]:
    """Everything suspicious about the groups of a plan, each as ``config key: what; what to do``.

    Args:
        merged: The groups, with names and spans.
        horizon: The run.
        index: The model.
        lr_factor: What the batch size has multiplied every learning rate by.
    """
    yield from _lifted_zeros(merged)
    yield from _decayed_norms(merged, index)
    yield from _matrices_without_partner(merged, index)
    yield from _nesterov_without_momentum(merged)
    yield from _tiny_rates(merged)
    yield from _early_zeros(merged, horizon)
    if lr_factor != 1:
        yield from _unscaled_rates(merged, horizon, lr_factor)
    yield from doubtful_units(merged, horizon)


def _lifted_zeros(merged: Sequence[Merged]) -> Iterator[str]:
    for one in merged:
        settled = one.settled
        for name, reached in one.spans.items():
            held, _ = replaced(name, settled.hyperparameters, 0.0)  # betas, of betas.0
            if value_at(name, settled.hyperparameters) == 0 and reached.peak > 0 and held in settled.origins:
                yield (
                    f"{settled.schedule_origins[name]}: it takes {name} of {few(one.entries)} from the 0 that "
                    f"{settled.origins[held]} sets to {reached.peak:g}; final_factor in place of final_value, or a "
                    "schedule of null in the rule, keeps it 0"
                )


def _decayed_norms(merged: Sequence[Merged], index: ParameterIndex) -> Iterator[str]:
    decayed: dict[str, list[str]] = {}
    for one in merged:
        if _top(one, "weight_decay") > 0:
            key = one.settled.origins.get("weight_decay", f"{one.settled.chosen_at}.weight_decay")
            norms = [entry.name for entry in one.entries if index.is_kind(entry, "norm")]
            decayed.setdefault(key, []).extend(norms)
    for key, norms in decayed.items():
        if norms:
            more = f" and {len(norms) - 1:,} more" if len(norms) > 1 else ""
            yield (
                f"{key}: norms are decayed, {norms[0]}{more}; a rule with match {{module: norm}} and weight_decay 0, "
                "or rules=no_decay, spares them"
            )


def _matrices_without_partner(merged: Sequence[Merged], index: ParameterIndex) -> Iterator[str]:
    for one in merged:
        for kind in ("embedding", "head") if one.settled.traits.takes_matrices_only else ():
            taken = [entry for entry in one.entries if index.is_kind(entry, kind)]
            if taken:
                yield (
                    f"{one.settled.chosen_at}: {one.optimizer} is made for hidden matrices and has no partner for the "
                    f"{kind} {few(taken)}; give that to another class, such as torch.optim.AdamW"
                )


def _nesterov_without_momentum(merged: Sequence[Merged]) -> Iterator[str]:
    for one in merged:
        settled = one.settled
        momentum = settled.hyperparameters.get("momentum")
        low = one.spans["momentum"].low if "momentum" in one.spans else momentum
        if settled.hyperparameters.get("nesterov") is True and low == 0:
            where = settled.schedule_origins.get("momentum") or settled.origins.get("momentum", settled.chosen_at)
            yield (
                f"{where}: the momentum of {one.name} is 0 with Nesterov, which looks ahead along nothing; raise it, "
                "or set nesterov to false"
            )


def _tiny_rates(merged: Sequence[Merged]) -> Iterator[str]:
    """Learning rates of different classes can't be compared: Muon's is 20 times AdamW's."""
    by_class: dict[str, list[Merged]] = {}
    for one in merged:
        by_class.setdefault(one.optimizer, []).append(one)
    for groups in by_class.values():
        rates = sorted({_top(one, "lr") for one in groups})
        if len(rates) > 1 and rates[0] <= _TINY * rates[1]:
            for one in (one for one in groups if _top(one, "lr") == rates[0]):
                yield (
                    f"{one.settled.origins.get('lr', one.settled.chosen_at)}: {one.name} learns at {rates[0]:g}, 1% or "
                    f"less of every other group's rate ({rates[1]:g} and up); raise it, or freeze these parameters"
                )


def _early_zeros(merged: Sequence[Merged], horizon: Horizon) -> Iterator[str]:
    total = int(horizon.total_steps) if horizon.is_bounded else 0
    told: set[str] = set()
    for one in merged if total else ():
        key = one.settled.schedule_origins.get("lr", "")
        start = one.settled.hyperparameters.get("lr")
        if "lr" not in one.spans or not start or key in told or one.spans["lr"].end != 0:
            continue
        schedule = schedule_of(one.settled.schedules["lr"], key)
        zero = _zero_from(schedule.curve(start, horizon), total)
        if zero < int(_EARLY * total):
            told.add(key)
            yield (
                f"{key}: lr is 0 from step {zero:,} of {total:,} on, so the last {100 * (total - zero) // total}% of "
                "the run train nothing; lengthen the schedule, or shorten the run"
            )


def _unscaled_rates(merged: Sequence[Merged], horizon: Horizon, factor: float) -> Iterator[str]:
    """Schedules that take a learning rate to a value of their own, whatever the group starts from."""
    seen: set[str] = set()
    for one in merged:
        key, start = one.settled.schedule_origins.get("lr", ""), one.settled.hyperparameters.get("lr")
        if "lr" not in one.spans or not start or key in seen:
            continue
        seen.add(key)
        schedule = schedule_of(one.settled.schedules["lr"], key)
        with suppress(Exception):  # a curve of the user's may refuse any other start
            unscaled = span(schedule.curve(start / factor, horizon), horizon)
            close = 1e-9 * max(map(abs, one.spans["lr"]))
            pairs = zip(unscaled, one.spans["lr"], strict=True)
            if not all(math.isclose(value * factor, scaled, abs_tol=close) for value, scaled in pairs):
                yield (
                    f"{key}: it takes lr to values of its own, which {SIZE} (× {factor:.6g}) doesn't scale; "
                    "final_factor in place of final_value, or factors in place of values, moves with the rest"
                )


def _zero_from(curve: Curve, total: int) -> int:
    """The step from which a curve that ends on 0 stays there."""
    zero, stride = total - 1, max(1, total // _SCANNED)
    while zero >= stride and curve(zero - stride) == 0:
        zero -= stride
    while zero > 0 and curve(zero - 1) == 0:
        zero -= 1
    return zero


def _top(one: Merged, name: str) -> float:
    if name in one.spans:
        return one.spans[name].peak
    value = one.settled.hyperparameters.get(name, 0.0)
    return float(value) if isinstance(value, (int, float)) else 0.0
