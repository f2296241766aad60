"""Parameters that end with the same settings share a param group: which, and under what name."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from lit_optim.cascade import Settled
from lit_optim.classes import tuples
from lit_optim.plan import Group, Span
from lit_optim.recipe import Recipe
from lit_optim.selection import Entry
from lit_optim.targets import dotted_name

__all__ = ["Merged", "few", "merge", "to_group"]


@dataclass
class Merged:
    """Parameters that ended with the same settings: a group to be.

    Args:
        settled: What they ended with; of the first, since the others may have got there by other rules.
        entries: The parameters, in the model's order.
        shaped_by: Names of the rules that had a say for any of them.
        depths: The layers whose learning rates these are, where a layer decay is in force.
        name: Unique in the plan.
        spans: Where the scheduled hyperparameters go, as far as that is known.
    """

    settled: Settled
    entries: list[Entry] = field(default_factory=list)
    shaped_by: set[str] = field(default_factory=set)
    depths: set[int | None] = field(default_factory=set)
    name: str = ""
    spans: dict[str, Span] = field(default_factory=dict)

    @property
    def optimizer(self) -> str:
        """The dotted name of the class."""
        return dotted_name(self.settled.traits.optimizer)

    @property
    def ndims(self) -> list[int]:
        """The numbers of dimensions that occur, where they are known."""
        return sorted({entry.parameter.ndim for entry in self.entries if not entry.is_lazy})


def merge(ends: Sequence[tuple[Entry, Settled]], default: Settled | None) -> list[Merged]:
    """Gather what ended with the same settings, class by class, each in the order of the first parameters.

    Args:
        ends: Each parameter with what it ended with.
        default: What a parameter without any rule ends with; what equals it is not named after its rules.
    """
    merged: dict[str, Merged] = {}
    unshaped: set[str] = set()
    homes: dict[int, list[Entry]] = {}  # by the id of what they ended with: it is asked for its identity once
    for entry, settled in ends:
        home = homes.get(id(settled))
        if home is None:
            one = merged.setdefault(settled.identity, Merged(settled))
            home = homes[id(settled)] = one.entries
            if default is None or settled.identity != default.identity or settled.depth is not None:
                one.shaped_by |= settled.shaped_by
                one.depths.add(settled.depth)
            else:
                unshaped.add(settled.identity)
        home.append(entry)
    for identity in unshaped:  # of those that some parameter is in without any rule's doing
        merged[identity].shaped_by.clear()
        merged[identity].depths.clear()
    classes = list(dict.fromkeys(one.optimizer for one in merged.values()))
    ordered = sorted(merged.values(), key=lambda one: classes.index(one.optimizer))
    _name(ordered)
    return ordered


def _name(merged: Sequence[Merged]) -> None:
    """Name each after its rules, in alphabetical order, with the layer where it has one of its own."""
    known = [max(depth for depth in one.depths if depth is not None) for one in merged if one.depths - {None}]
    digits = len(str(max(known))) if known else 0
    names: set[str] = set()
    for one in merged:
        parts = sorted(one.shaped_by)
        if len(one.depths) == 1 and None not in one.depths:
            [depth] = one.depths
            parts.append(f"depth{depth:0{digits}}")
        one.name = _unique(".".join(parts) or "default", names)
        names.add(one.name)


def to_group(one: Merged, recipe: Recipe) -> Group:
    """The group as the plan holds it."""
    settled = one.settled
    return Group(
        name=one.name,
        optimizer=one.optimizer,
        hyperparameters={name: tuples(value) for name, value in settled.hyperparameters.items()},
        schedules={hyperparameter: tuples(node) for hyperparameter, node in settled.schedules.items()},
        parameters=tuple(entry.name for entry in one.entries),
        numel=sum(entry.numel for entry in one.entries),
        rules=tuple(rule.name for rule in recipe.rules if rule.name in one.shaped_by),
        freeze_until=settled.freeze_until,
        clip_norm=settled.clip_norm,
    )


def few(entries: Sequence[Entry]) -> str:
    """The names of the first three, and how many more there are."""
    names = ", ".join(entry.name for entry in entries[:3])
    return names + (f" and {len(entries) - 3} more" if len(entries) > 3 else "")


def _unique(name: str, taken: Container[str]) -> str:
    """The name, or with the first free number from 2 on."""
    count = 2
    while name in taken and f"{name}.{count}" in taken:
        count += 1
    return f"{name}.{count}" if name in taken else name
