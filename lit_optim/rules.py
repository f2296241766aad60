"""What one rule says of the parameters that it matches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lit_optim.durations import Duration

__all__ = ["LayerDecay", "Rule", "Settings"]

Settings = Mapping[str, Any]
"""Hyperparameters and other plain values by name."""


@dataclass(frozen=True)
class LayerDecay:
    """A learning rate that shrinks by ``rate`` with every layer away from the output.

    Args:
        rate: Above 0 and at most 1; the last layer keeps its learning rate.
        order: Globs from the input to the output, in which ``#`` stands for a number; None to tell it from the model.
        min_factor: What no layer goes below.
    """

    rate: float
    order: tuple[str, ...] | None = None
    min_factor: float = 0.0


@dataclass(frozen=True)
class Rule:
    """What one rule says of the parameters that it matches.

    Args:
        name: Its key under ``rules``; groups are named after it.
        match: A glob on the qualified name, a mapping whose keys are ANDed, or a list of these, ORed.
        values: Hyperparameters that it sets beside its optimizer.
        multiply: Factors that it applies once all values have settled.
        optimizer: The dotted name of the class that it chooses, if it does.
        arguments: Hyperparameters written under its optimizer; they count as its values.
        schedule: Schedules of its own, by hyperparameter; None takes a schedule away.
        freeze: Whether its parameters stay as they are; None where it doesn't say.
        freeze_until: For how long they stay as they are, from the start of the run.
        layer_decay: How their learning rate shrinks with the distance from the output.
        clip_norm: What the gradient norm of each of its groups is clipped to; infinity for not at all.
    """

    name: str
    match: Any
    values: Settings = field(default_factory=dict)
    multiply: Mapping[str, float] = field(default_factory=dict)
    optimizer: str | None = None
    arguments: Settings = field(default_factory=dict)
    schedule: Mapping[str, Settings | None] = field(default_factory=dict)
    freeze: bool | None = None
    freeze_until: Duration | None = None
    layer_decay: LayerDecay | None = None
    clip_norm: float | None = None

    @property
    def key(self) -> str:
        """Where it stands in the config."""
        return f"rules.{self.name}"

    def to_config(self) -> dict[str, Any]:
        """The rule as plain containers."""
        return dict(self._node())

    def _node(self) -> Iterator[tuple[str, Any]]:
        yield "match", self.match
        yield from self.values.items()
        if self.multiply:
            yield "multiply", dict(self.multiply)
        if self.optimizer is not None:
            yield "optimizer", {"_target_": self.optimizer, **self.arguments}
        if self.schedule:
            yield "schedule", {name: None if node is None else dict(node) for name, node in self.schedule.items()}
        if self.freeze is not None:
            yield "freeze", self.freeze
        if self.freeze_until is not None:
            yield "freeze_until", self.freeze_until
        if self.layer_decay is not None:
            decay = self.layer_decay
            order = {} if decay.order is None else {"order": list(decay.order)}
            yield "layer_decay", {"rate": decay.rate, "min_factor": decay.min_factor, **order}
        if self.clip_norm is not None:
            yield "clip_norm", self.clip_norm
