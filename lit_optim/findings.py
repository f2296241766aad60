"""Why a run doesn't train, in words: what its figures, log after log, say about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Dead", "Finding", "Log", "Watch", "causes_in"]

LARGE_UPDATE = 1e-1
"""Of its norm: a group that moves by more than this a step forgets what it has learned."""
SMALL_UPDATE = 1e-6
"""Of its norm: about ten times what float32 can tell from no change at all, and a million steps for one weight."""
DEAD_SHARE = 0.5
"""Of a hidden layer's units. At the output one unit is enough, since nothing else can take its place."""
PATIENCE = 3
"""Logs in a row that say the same before it is a finding."""
FIRST_LOSSES = 3
"""Batches whose losses are the range that a loss begins in."""
_BARELY = 0.1  # of a group's highest learning rate: below it the group is warming up, or done


@dataclass(frozen=True)
class Finding:
    """One cause, told once a run.

    Args:
        step: Where it was seen.
        cause: What it is about and in which way: ``update_ratio/head too large``.
        text: What was seen, with figures.
        remedy: What to do.
    """

    step: int
    cause: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.cause}: {self.text}; {self.remedy}"


def causes_in(text: str, since: int) -> set[str]:
    """The causes of the findings from a step on, in a text with one finding a line."""
    lines = (line.split(": ", 2) for line in text.splitlines() if line.startswith("step "))
    return {parts[1] for parts in lines if len(parts) == 3 and int(parts[0].removeprefix("step ")) >= since}


@dataclass(frozen=True)
class Dead:
    """The units of a ReLU module.

    Args:
        units: How many there are.
        dead: How many of them were 0 for every sample.
        is_output: Whether nothing that learns comes after it.
    """

    units: int
    dead: int
    is_output: bool


@dataclass(frozen=True)
class Log:
    """What one log knows; what it doesn't is left out.

    Args:
        step: The optimizer step.
        figures: Quantity → group → value.
        lrs: Group → the learning rate that the step used; NaN where it has none.
        built_with: Group → the learning rate that it was built with; NaN where that isn't known.
        nonfinite: Group and name of each parameter with a gradient that is not finite, in the model's order.
        scaled: Whether a GradScaler skips such steps, and expects a few.
        dead: ReLU module → its units.
        loss: The mean since the last log.
        first_losses: Of the run's first batches, once there are `FIRST_LOSSES` of them.
    """

    step: int
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lrs: Mapping[str, float] = field(default_factory=dict)
    built_with: Mapping[str, float] = field(default_factory=dict)
    nonfinite: Sequence[tuple[str, str]] = ()
    scaled: bool = False
    dead: Mapping[str, Dead] = field(default_factory=dict)
    loss: float | None = None
    first_losses: Sequence[float] = ()


class Watch:
    """Turns logs into findings, each cause once.

    Attributes:
        told: The causes that are told already.
        range: Lowest and highest loss of the first `FIRST_LOSSES` batches, once they are known.
    """

    def __init__(self) -> None:
        self.told: set[str] = set()
        self.range: tuple[float, float] | None = None
        self._rows: dict[str, int] = {}  # cause → logs in a row
        self._highest_lrs: dict[str, float] = {}

    def state(self) -> dict[str, Any]:
        """All of it in plain containers."""
        return {
            "told": sorted(self.told),
            "range": None if self.range is None else [*self.range],
            "rows": dict(self._rows),
            "highest_lrs": dict(self._highest_lrs),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state` gave."""
        self.told = {*state["told"]}
        self.range = None if state["range"] is None else (state["range"][0], state["range"][1])
        self._rows, self._highest_lrs = dict(state["rows"]), dict(state["highest_lrs"])

    def look(self, log: Log) -> list[Finding]:
        """What this log, with those before it, shows for the first time."""
        found = [*self._gradients(log), *self._loss(log), *self._updates(log), *self._dead(log)]
        new = [one for one in found if one.cause not in self.told]
        self.told |= {one.cause for one in new}
        return new

    def _lasts(self, cause: str, holds: bool) -> bool:
        """Whether something holds for the `PATIENCE`th log in a row."""
        self._rows[cause] = self._rows.get(cause, 0) + 1 if holds else 0
        return self._rows[cause] >= PATIENCE

    def _gradients(self, log: Log) -> list[Finding]:
        shares = log.figures.get("nonfinite_grads", {})
        bad = {group: f"nonfinite_grads/{group}" for group, share in shares.items() if share > 0}
        if log.scaled:
            lasting = [group for group in shares if self._lasts(f"nonfinite_grads/{group}", group in bad)]
            bad = {group: cause for group, cause in bad.items() if group in lasting}
        new = [group for group, _ in log.nonfinite if group in bad and bad[group] not in self.told]
        if not new:
            return []
        group = new[0]
        name = next(name for of_group, name in log.nonfinite if of_group == group)
        others = [other for other in dict.fromkeys(new) if other != group]
        self.told |= {bad[other] for other in others}  # one cause, told with the first of them
        text = f"{_percent(shares[group])} of the gradients are infinite or NaN, first those of {name}"
        text += f" (also in {', '.join(others)})" if others else ""
        remedy = "lower the learning rate, clip (trainer.gradient_clip_val=1.0), look for inf and NaN in the data"
        return [Finding(log.step, bad[group], text, f"{remedy}; trainer.detect_anomaly=true shows where they arise")]

    def _loss(self, log: Log) -> list[Finding]:
        if self.range is None and len(log.first_losses) == FIRST_LOSSES:
            self.range = min(log.first_losses), max(log.first_losses)
        if log.loss is None:
            return []
        remedy = "lower the learning rate, warm up for longer, or clip (trainer.gradient_clip_val=1.0)"
        cause = "train/loss diverged"
        is_finite = all(map(math.isfinite, (log.loss, *log.first_losses)))
        lasts = self._lasts("train/loss not finite", not is_finite)
        if not is_finite and (lasts or not log.scaled):
            return [Finding(log.step, cause, "the loss is infinite or NaN", remedy)]
        if self.range is None:
            return []
        low, high = self.range
        bound = high + max(high - low, abs(high))
        if not self._lasts(cause, log.loss > bound):
            return []
        text = f"the loss is {log.loss:.3g}, and began between {low:.3g} and {high:.3g}"
        return [Finding(log.step, cause, text, remedy)]

    def _updates(self, log: Log) -> list[Finding]:
        found = []
        norms = log.figures.get("grad_norm", {})
        for group, ratio in log.figures.get("update_ratio", {}).items():
            lr = log.lrs.get(group, math.nan)
            rates = (lr, log.built_with.get(group, math.nan), self._highest_lrs.get(group, 0.0))
            highest = self._highest_lrs[group] = max(rate for rate in rates if math.isfinite(rate))
            if not math.isfinite(ratio) or (math.isfinite(lr) and (lr <= 0 or lr < _BARELY * highest)):
                continue
            at = f"its lr, {lr:.3g}" if math.isfinite(lr) else "its learning rate"
            cause = f"update_ratio/{group} too large"
            if self._lasts(cause, ratio > LARGE_UPDATE):
                text = f"a step moves these weights by {ratio:.2g} of their norm, {PATIENCE} logs in a row"
                found.append(Finding(log.step, cause, text, f"lower {at}, or warm up for longer"))
            cause = f"update_ratio/{group} too small"
            if self._lasts(cause, ratio < SMALL_UPDATE):
                if norms.get(group) == 0:
                    text = f"all gradients are 0, {PATIENCE} logs in a row"
                    remedy = "see whether the loss depends on these weights: a dead ReLU, a detach, a branch not taken"
                else:
                    text = f"a step moves these weights by {ratio:.2g} of their norm, {PATIENCE} logs in a row"
                    remedy = f"raise {at}"
                found.append(Finding(log.step, cause, text, remedy))
        return found

    def _dead(self, log: Log) -> list[Finding]:
        found = []
        for name, units in log.dead.items():
            cause = f"dead_relu/{name}"
            many = units.dead > (0 if units.is_output else DEAD_SHARE * units.units)
            if not self._lasts(cause, many):
                continue
            text = f"{units.dead} of {units.units} units were 0 for every sample, {PATIENCE} logs in a row"
            if units.is_output:
                text += ", and what follows them is the loss: they get no gradient any more"
                remedy = "leave out the ReLU after the last layer (model.output_activation=null)"
            else:
                remedy = "lower the learning rate, warm up for longer, or use leaky_relu or gelu"
            found.append(Finding(log.step, cause, text, remedy))
        return found


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1e}"
