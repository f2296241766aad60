"""What each class of a plan is constructed with beside its groups, and how it computes its steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lit_optim.classes import Argument, Classes
from lit_optim.errors import Mistake
from lit_optim.grouping import Merged, few
from lit_optim.selection import Entry
from lit_optim.structure import compiled_in
from lit_optim.targets import dotted_name
from lit_optim.traits import EXECUTION, Traits

__all__ = ["argument_mistakes", "arguments_of", "by_class", "execution_of", "sparse_mistakes"]


def by_class(merged: Iterable[Merged]) -> dict[type[Optimizer], list[Merged]]:
    """The groups of each class."""
    found: dict[type[Optimizer], list[Merged]] = {}
    for one in merged:
        found.setdefault(one.settled.traits.optimizer, []).append(one)
    return found


def arguments_of(merged: Iterable[Merged], classes: Classes) -> dict[str, dict[str, Any]]:
    """By class, what the recipe says for all of its groups."""
    found = {}
    for cls, groups in by_class(merged).items():
        said = classes.arguments(groups[0].settled.traits)
        own = {name: argument.value for name, argument in said.items() if name not in EXECUTION}
        if own:
            found[dotted_name(cls)] = own
    return found


def execution_of(merged: Iterable[Merged], classes: Classes, model: nn.Module) -> dict[str, dict[str, Any]]:
    """By class, what the recipe says of execution; the fused kernel where it says nothing and there is one.

    Under ``model``, the modules that ``torch.compile`` runs.
    """
    found: dict[str, dict[str, Any]] = {}
    for cls, groups in by_class(merged).items():
        traits = groups[0].settled.traits
        said = classes.arguments(traits)
        own = {name: argument.value for name, argument in said.items() if name in EXECUTION}
        if not own and _can_fuse(traits, groups):
            own = {"fused": True}
        if own:
            found[dotted_name(cls)] = own
    compiled = [name or type(model).__name__ for name in compiled_in(model)]
    return found | ({"model": {"compiled": compiled}} if compiled else {})


def _can_fuse(traits: Traits, groups: Sequence[Merged]) -> bool:
    entries = [entry for one in groups for entry in one.entries]
    sparse = any(_is_sparse(entry) for entry in entries)  # no kernel takes its gradients
    return not sparse and traits.can_fuse(entry.parameter for entry in entries)


def _is_sparse(entry: Entry) -> bool:
    """Whether its gradients are sparse: an embedding's with ``sparse=True``."""
    return any(getattr(owner, "sparse", False) is True for owner in entry.owners)


def argument_mistakes(groups: Sequence[Merged], said: Mapping[str, Argument]) -> Iterator[Mistake]:
    """What would only come to light when the optimizer is built.

    Args:
        groups: Of one class.
        said: What the recipe says for all of them.
    """
    traits = groups[0].settled.traits
    name = dotted_name(traits.optimizer)
    known = tuple(argument for argument in EXECUTION if argument in traits.arguments)
    execution = {argument: one.value for argument, one in said.items() if argument in EXECUTION}
    for argument, one in said.items():
        given = repr(one.value)
        if argument not in EXECUTION:
            wrong = traits.refusal({argument: one.value})
            if wrong is not None and traits.refusal({name: other.value for name, other in said.items()}) is not None:
                yield Mistake(one.key, f"{name} refuses this: {wrong}", given=given, remedy="correct the value")
        elif argument not in known:
            yield Mistake(one.key, f"{name} has no argument {argument!r}", given, known, remedy="remove it")
        elif not isinstance(one.value, bool):
            yield Mistake(one.key, "true or false is needed", given=given, remedy="correct it")
    wrong = traits.refusal({argument: value for argument, value in execution.items() if argument in known})
    if wrong is not None:
        key = next(one.key for argument, one in said.items() if argument in EXECUTION).rpartition(".")[0]
        given = ", ".join(f"{argument}={value}" for argument, value in execution.items())
        yield Mistake(key, f"{name} refuses this: {wrong}", given=given, remedy=f"keep one of {', '.join(execution)}")
    entries = [entry for one in groups for entry in one.entries]
    if execution.get("capturable") is True and any(entry.parameter.device.type == "cpu" for entry in entries):
        remedy = "remove it, or train on a device that captures steps (trainer=gpu)"
        yield Mistake(said["capturable"].key, "there is nothing to capture on the CPU", "True", remedy=remedy)


def sparse_mistakes(one: Merged) -> Iterator[Mistake]:
    """Gradients of a kind that the class of a group, or clipping, can't take."""
    sparse = [entry for entry in one.entries if _is_sparse(entry)]
    dense = [entry for entry in one.entries if not _is_sparse(entry)]
    traits, key = one.settled.traits, one.settled.chosen_at
    if sparse and not traits.takes_sparse:
        problem = f"{one.optimizer} takes no sparse gradients, and {few(sparse)} has them (sparse=True)"
        yield Mistake(key, problem, remedy="give it a rule with torch.optim.SparseAdam, or make the embedding dense")
    if dense and traits.needs.sparse_only:
        problem = f"{one.optimizer} takes sparse gradients alone, and here it gets {few(dense)}"
        remedy = "choose it in a rule for embeddings with sparse=True, and another class for the rest"
        yield Mistake(key, problem, remedy=remedy)
    if sparse and one.settled.clip is not None and one.settled.clip_norm is not None:
        problem = f"sparse gradients can't be clipped, and {few(sparse)} has them (sparse=True)"
        remedy = "leave it out of the match, or make the embedding dense"
        yield Mistake(f"{one.settled.clip.key}.clip_norm", problem, remedy=remedy)
