"""Where the schedules of a plan that follow a metric stand while it runs; the one state that a scheduler has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, SupportsFloat

from lit_optim.plan import Plan, canonical
from lit_optim.schedule_nodes import schedule_of
from lit_optim.schedules import Curve
from lit_optim.schedules.plateau import Plateau, Standing

__all__ = ["Reductions"]


@dataclass
class _Followed:
    """A schedule that several groups may share, and where it stands."""

    node: Mapping[str, Any]
    plateau: Plateau
    first_look: int
    standing: Standing

    def is_like(self, node: Mapping[str, Any]) -> bool:
        """Whether what was seen for a schedule node counts for this one: the same class, metric and direction."""
        alike = node.get("_target_") == self.node.get("_target_")
        return alike and (node.get("monitor"), node.get("mode", "min")) == (self.plateau.monitor, self.plateau.mode)


@dataclass
class _Reduced:
    """A curve after the reductions so far; an object, so that a copy of a scheduler follows its own."""

    curve: Curve
    followed: _Followed

    def __call__(self, step: int) -> float:
        return self.followed.plateau.reduced(self.curve(step), self.followed.standing.reductions)


class Reductions:
    """Takes the values of the metrics, and knows what has become of each curve.

    Args:
        plan: Its groups with the same schedule share one standing.
    """

    def __init__(self, plan: Plan) -> None:
        self._followed: dict[str, _Followed] = {}
        nodes = {_name(node): node for group in plan.groups for node in group.schedules.values()}
        for name, node in nodes.items():
            schedule = schedule_of(node, "schedule")
            if isinstance(schedule, Plateau):
                first = schedule.first_look(plan.horizon)
                self._followed[name] = _Followed(node, schedule, first, schedule.begin())

    @property
    def monitors(self) -> tuple[str, ...]:
        """The metrics, each once."""
        return tuple(dict.fromkeys(one.plateau.monitor for one in self._followed.values()))

    def over(self, curve: Curve, node: Mapping[str, Any]) -> Curve:
        """A curve as it is after the reductions so far; the curve itself where its schedule follows no metric."""
        one = self._followed.get(_name(node))
        if one is None:
            return curve
        return _Reduced(curve, one)

    def see(self, metrics: Mapping[str, SupportsFloat], step: int) -> bool:
        """Look at fresh values.

        Args:
            metrics: By name; what is not in it wasn't measured, and is not looked at.
            step: Optimizer steps so far.

        Returns:
            Whether anything was reduced.
        """
        before = [one.standing.reductions for one in self._followed.values()]
        for one in self._followed.values():
            if one.plateau.monitor in metrics and step >= one.first_look:
                one.standing = one.plateau.look(one.standing, float(metrics[one.plateau.monitor]))
        return before != [one.standing.reductions for one in self._followed.values()]

    def state(self) -> list[dict[str, Any]]:
        """Plain containers: each schedule node with its standing."""
        return [{"schedule": dict(one.node), **asdict(one.standing)} for one in self._followed.values()]

    def load(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Go on from a state; what was seen by another class, of another metric or direction, counts for nothing.

        A schedule that was changed otherwise, say in its patience, goes on from what it saw before the change.
        """
        for one in self._followed.values():
            same = [saved for saved in state if _name(saved["schedule"]) == _name(one.node)]
            others = [saved for saved in state if _name(saved["schedule"]) not in self._followed]
            like = [saved for saved in others if one.is_like(saved["schedule"])]
            found = same or like * (len(like) == 1)
            fields = {} if not found else {name: value for name, value in found[0].items() if name != "schedule"}
            one.standing = Standing(**fields) if fields else one.plateau.begin()


def _name(node: Mapping[str, Any]) -> str:
    return repr(canonical(node))
