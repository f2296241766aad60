"""The plan as data: for every parameter its group, optimizer, hyperparameters and their schedules.

Everything else is made from it (the table, the picture, the torch optimizer, the file in the run's folder), so what it
shows is what runs. It holds no tensor and needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lit_optim.durations import Horizon
from lit_optim.errors import Mistake, PlanError, nearest
from lit_optim.hyperparameters import is_number, numbers_in, place_of, value_at
from lit_optim.lr_scaling import LrScaling
from lit_optim.schedule_nodes import schedule_of
from lit_optim.schedules import Curve, Schedule
from lit_optim.targets import dotted_name

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FROZEN", "Group", "Plan", "Span", "bind", "canonical", "span"]

_FORMAT = 3  # of the JSON form; a reader refuses others
FROZEN = "frozen"
"""Stands for what a rule has frozen among the groups that its parameters ended in."""

_OUTSIDE_OF_HASH = ("warnings", "execution", "shard_units")
_SCANNED = 10_000  # steps up to which a curve is scanned whole for its extremes


class Span(NamedTuple):
    """What a hyperparameter does in a run: the first step's value, the extremes, the last step's value."""

    start: float
    low: float
    peak: float
    end: float


@dataclass(frozen=True)
class Group:
    """One param group.

    Args:
        name: Unique in the plan; ``default`` where no rule shaped it.
        optimizer: The dotted name of its class.
        hyperparameters: Every hyperparameter of the class, as the group starts from them (schedules move them).
        schedules: The schedule nodes (``_target_`` and arguments) by the number that they move: ``lr``, ``betas.0``.
        parameters: Qualified names, in the model's order; a tied parameter stands once, under its first name.
        numel: Numbers in all its parameters together.
        rules: Names of the rules that shaped it.
        freeze_until: The first optimizer step that moves it; until then its gradients are dropped. 0: from the start.
        clip_norm: What the norm of its gradients is clipped to before each step; None for not at all.
    """

    name: str
    optimizer: str
    hyperparameters: Mapping[str, Any]
    schedules: Mapping[str, Mapping[str, Any]]
    parameters: tuple[str, ...]
    numel: int
    rules: tuple[str, ...] = ()
    freeze_until: int = 0
    clip_norm: float | None = None


@dataclass(frozen=True)
class Plan:
    """Who claims what, and how it moves.

    Args:
        groups: The param groups, in the order of their first parameters.
        horizon: The run that the schedules are measured against.
        frozen: Qualified names of the parameters that no optimizer holds: those that a rule freezes, and those that the
            model itself has frozen (``requires_grad=False``).
        frozen_numel: Numbers in them together.
        frozen_by: For those that a rule freezes, the rule.
        tied: Further names of tied parameters, each with the name that it is planned under.
        rules: The groups that each rule's parameters ended in; ``frozen`` stands for what the rule itself has frozen.
        warnings: What is legal but suspicious.
        arguments: By class, what it is constructed with beside the hyperparameters of its groups.
        execution: By class, how its steps are computed (``fused``, ``foreach``, …); under ``model``, the modules
            that are ``compiled``. Outside of the hash.
        lr_scaling: What the learning rates were scaled by, where they were: the groups hold the scaled ones.
        shard_units: Under FSDP2, the modules whose parameters are gathered together, by qualified name; the empty name
            is the model itself, with what no other has. Outside of the hash.
    """

    groups: tuple[Group, ...]
    horizon: Horizon
    frozen: tuple[str, ...] = ()
    frozen_numel: int = 0
    frozen_by: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    execution: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lr_scaling: LrScaling | None = None
    shard_units: tuple[str, ...] = ()

    def group(self, name: str) -> Group:
        """The group of that name, or the one group of the rule of that name.

        Raises:
            PlanError: No such group or rule, or a rule that has several groups.
        """
        by_name = {group.name: group for group in self.groups}
        if name in by_name:
            return by_name[name]
        of_rule = tuple(group for group in self.rules.get(name, ()) if group in by_name)
        if len(of_rule) == 1:
            return by_name[of_rule[0]]
        if of_rule:
            raise PlanError(Mistake(name, "the rule has several groups", allowed=of_rule, remedy="name one of them"))
        names = tuple(dict.fromkeys([*by_name, *self.rules]))
        near = nearest(name, names)
        remedy = "name one of these"
        raise PlanError(Mistake(name, "no such group or rule", allowed=names, nearest=near, remedy=remedy))

    def curve(self, name: str, hyperparameter: str) -> np.ndarray:
        """The values that every step of the run uses.

        Args:
            name: A group's name, or a rule's where it has one group.
            hyperparameter: A number, ``"lr"`` or ``"betas.0"``; ``"momentum"`` is the latter where there is none.

        Returns:
            float64, shape (total_steps,).

        Raises:
            PlanError: No such group or number, or a run without a known end.
        """
        import numpy as np

        group = self.group(name)
        numbers = numbers_in(group.hyperparameters)
        place = place_of(hyperparameter, group.hyperparameters)
        if place not in numbers:
            near = nearest(hyperparameter, numbers)
            problem = f"group {group.name!r} has no number {hyperparameter!r}"
            raise PlanError(
                Mistake(hyperparameter, problem, allowed=tuple(numbers), nearest=near, remedy="name one of these")
            )
        if not self.horizon.is_bounded:
            raise PlanError(
                Mistake(
                    "horizon.total_steps", "a run without an end has no whole curve", remedy="set trainer.max_steps"
                )
            )
        value = self.bound(group)[place] if place in group.schedules else None
        steps = range(int(self.horizon.total_steps))
        if value is None:
            return np.full(len(steps), value_at(place, group.hyperparameters), dtype=np.float64)
        return np.fromiter((value(step) for step in steps), dtype=np.float64, count=len(steps))

    def bound(self, group: Group) -> dict[str, Curve]:
        """The curves of a group's scheduled hyperparameters: functions from the step to the value."""
        curves = {}
        for place, node in group.schedules.items():
            key, start = f"schedule.{place}", value_at(place, group.hyperparameters)
            curves[place] = bind(schedule_of(node, key), start, self.horizon, f"{key}._target_")
        return curves

    def label(self, group: Group, name: str) -> str:
        """What a scheduled hyperparameter's curve is, where it is no formula: simulated, or dependent on a metric."""
        return str(getattr(schedule_of(group.schedules[name], f"schedule.{name}"), "label", ""))

    def spans(self, group: Group) -> dict[str, Span]:
        """Start, extremes and end of each scheduled hyperparameter; of a run without an end, the start only."""
        return {name: span(curve, self.horizon) for name, curve in self.bound(group).items()}

    @property
    def numel(self) -> int:
        """Numbers that are trained."""
        return sum(group.numel for group in self.groups)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that name the plan: equal plans have equal ones, on every machine."""
        data = {name: value for name, value in self._data().items() if name not in _OUTSIDE_OF_HASH}
        return hashlib.sha256(json.dumps(canonical(data), sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The plan as JSON text: ``format``, ``hash`` and the fields of this class."""
        return json.dumps({"format": _FORMAT, "hash": self.hash, **self._data()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            PlanError: Not a plan, or one of another format.
        """
        try:
            data = json.loads(text)
            if data["format"] != _FORMAT:
                raise ValueError(f"format {data['format']}, this version reads {_FORMAT}")
            plan = cls(
                groups=tuple(Group(**_tuples(group)) for group in data["groups"]),
                horizon=Horizon(**_tuples(data["horizon"])),
                frozen=tuple(data["frozen"]),
                frozen_numel=data["frozen_numel"],
                frozen_by=data["frozen_by"],
                tied=data["tied"],
                rules=_tuples(data["rules"]),
                warnings=tuple(data["warnings"]),
                arguments={name: _tuples(of_class) for name, of_class in data["arguments"].items()},
                execution=data["execution"],
                lr_scaling=LrScaling(**data["lr_scaling"]) if "lr_scaling" in data else None,
                shard_units=tuple(data.get("shard_units", ())),
            )
            if data["hash"] != plan.hash:
                raise ValueError(f"its hash is {data['hash']}, its content's {plan.hash}")
            return plan
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"this is not a plan: {type(error).__name__}: {error}"
            raise PlanError(
                Mistake("plan.json", problem, remedy="make it anew with `lit-optim plan --json`")
            ) from error

    def diff(self, other: Plan) -> list[str]:
        """What is different in ``other``, a line each in words; empty where the two are equal."""
        from lit_optim.differences import differences

        return list(differences(self, other))

    def __str__(self) -> str:
        from lit_optim.render import plan_text

        return plan_text(self)

    def _data(self) -> dict[str, Any]:
        """The fields; what came later is left out where it says nothing, so that plans keep their hashes."""
        data = asdict(self)
        if not self.horizon.epoch_steps:
            del data["horizon"]["epoch_steps"]
        if self.lr_scaling is None:
            del data["lr_scaling"]
        if not self.shard_units:
            del data["shard_units"]
        return data


def bind(schedule: Schedule, start: float, horizon: Horizon, key: str = "_target_") -> Curve:
    """A schedule's curve, held to finite numbers: whatever kind of real number it gives becomes a float.

    The curve raises a PlanError, which names the class, the step and the value, where it gives anything else.

    Args:
        schedule: May be a user's own.
        start: The group's own value.
        horizon: The run.
        key: The config key of the class, for the message.
    """
    curve = schedule.curve(start, horizon)

    def value(step: int) -> float:
        found: object = curve(step)
        if type(found) is float or (isinstance(found, numbers.Real) and not isinstance(found, bool)):
            number = float(found)
            if math.isfinite(number):
                return number
        problem = f"{dotted_name(type(schedule))} gives no finite number at step {step:,}"
        remedy = "let its curve() return a function from the step to a float"
        raise PlanError(Mistake(key, problem, given=repr(found), remedy=remedy))

    return value


def span(curve: Curve, horizon: Horizon) -> Span:
    """Start, extremes and end of a curve; between the points of a grid where the run is too long to scan whole."""
    start = curve(0)
    if not horizon.is_bounded:
        return Span(start, start, start, start)
    total = int(horizon.total_steps)
    stride = max(1, total // _SCANNED)
    values = {step: curve(step) for step in (*range(0, total, stride), total - 1)}
    if stride > 1:
        for extreme in (min(values, key=values.__getitem__), max(values, key=values.__getitem__)):
            near = range(max(0, extreme - stride), min(total, extreme + stride + 1))
            values.update((step, curve(step)) for step in near)
    return Span(start, min(values.values()), max(values.values()), values[total - 1])


def canonical(value: Any) -> Any:
    """The same data in one form: dicts, lists, and numbers as floats, since 1 and 1.0 are one setting."""
    if isinstance(value, Mapping):
        return {name: canonical(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    return float(value) if is_number(value) else value


def _tuples(value: Any) -> Any:
    """Lists as tuples, throughout: what JSON makes of a plan's tuples, undone."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
