"""What is refused once it is known which parameters end with which settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lit_optim.classes import Argument
from lit_optim.construction import constructor_of
from lit_optim.durations import Horizon
from lit_optim.errors import ConfigError, LitOptimError, Mistake
from lit_optim.execution import by_class, sparse_mistakes
from lit_optim.grouping import Merged, few
from lit_optim.hyperparameters import numbers_in, replaced, value_at
from lit_optim.plan import Span, bind, span
from lit_optim.recipe import Recipe
from lit_optim.schedule_nodes import schedule_of
from lit_optim.schedules import Plateau, Schedule
from lit_optim.selection import Entry, ParameterIndex
from lit_optim.simulation import TorchSchedule
from lit_optim.targets import dotted_name
from lit_optim.torch_schedules import TorchPlateau
from lit_optim.traits import EXECUTION, Traits

__all__ = ["bound_mistakes", "class_mistakes", "group_mistakes", "schedule_mistakes"]


def group_mistakes(
    one: Merged, recipe: Recipe, index: ParameterIndex, said: Mapping[str, Argument]
) -> Iterator[Mistake]:
    """Ask the class of a group whether it takes what the cascade gave, beside what is said for all of its groups."""
    settled = one.settled
    if settled.traits.takes_matrices_only:
        strange = [entry for entry in one.entries if not entry.is_lazy and entry.parameter.ndim != 2]
        if strange:
            yield _not_a_matrix(strange, one)
            return
        yield from _not_hidden(one, recipe, index)
    wrong = settled.traits.refusal(settled.hyperparameters, one.ndims)
    if wrong is not None:
        by_rules = [origin for origin in settled.origins.values() if origin.startswith("rules.")]
        given = ", ".join(f"{origin}={settled.hyperparameters[name]}" for name, origin in settled.origins.items())
        yield Mistake(
            by_rules[-1] if by_rules else "optimizer",
            f"{one.optimizer} refuses this for {few(one.entries)}: {wrong}",
            given=given or None,
            remedy="change the values, or what the rules match",
        )
        return
    yield from sparse_mistakes(one)
    arguments = {name: argument.value for name, argument in said.items() if name not in EXECUTION}
    settings = {**settled.hyperparameters, **arguments}
    fails = None if settled.traits.needs.sparse_only else settled.traits.step_refusal(settings, one.ndims)
    if fails is not None:
        problem = f"{one.optimizer} can't step {few(one.entries)}: {fails}"
        remedy = "change what is said there, or give these to another class in a rule of their own"
        known = tuple(sorted(settled.traits.optional)) if "it wants" in fails else ()
        yield Mistake(settled.chosen_at, problem, allowed=known, remedy=remedy)


def _not_a_matrix(entries: Sequence[Entry], one: Merged) -> Mistake:
    shapes = ", ".join(f"{entry.name} {list(entry.parameter.shape)}" for entry in entries[:3])
    return Mistake(
        one.settled.chosen_at,
        f"{one.optimizer} takes matrices alone, and here it gets {few(entries)}",
        given=shapes + (" …" if len(entries) > 3 else ""),
        allowed=("parameters with ndim 2",),
        remedy="choose it in a rule with match {module: linear, ndim: 2, not: {module: [embedding, head]}}, and "
        "another class, such as torch.optim.AdamW, under optimizer",
    )


def _not_hidden(one: Merged, recipe: Recipe, index: ParameterIndex) -> Iterator[Mistake]:
    """A class for hidden matrices holds an embedding or the output head only where its rule names it."""
    last = one.optimizer.rpartition(".")[2]
    asking = [rule.match for rule in recipe.rules if rule.optimizer and rule.optimizer.rpartition(".")[2] == last]
    for kind, words in (("embedding", "an embedding"), ("head", "the output head")):
        taken = [
            entry
            for entry in one.entries
            if index.is_kind(entry, kind) and not any(index.names_it(match, entry) for match in asking)
        ]
        if taken:
            yield Mistake(
                one.settled.chosen_at,
                f"{one.optimizer} is made for hidden matrices, and here it gets {words}",
                given=few(taken),
                allowed=("hidden matrices", f"{words} that the match of its rule names in full"),
                remedy=f"exclude it from the match, not: {{module: {kind}}}, or name it there: [{taken[0].name}, …]",
            )


def class_mistakes(merged: Sequence[Merged]) -> Iterator[Mistake]:
    """What a class can't do beside other groups or other classes."""
    classes = by_class(merged)
    for cls, groups in classes.items():
        traits, name = groups[0].settled.traits, dotted_name(cls)
        wrong = traits.refusal_of_groups() if len(groups) > 1 else None
        if wrong is not None:
            problem = f"{name} holds one param group, this recipe makes {len(groups)}: {wrong}"
            yield Mistake("rules", problem, remedy="remove the rules (rules=none), or choose another class")
        why = _alone_because(traits) if len(classes) > 1 else None
        if why is not None:
            others = ", ".join(dotted_name(other) for other in classes if other is not cls)
            problem = f"{name} {why}, so it can't share a run with {others}"
            yield Mistake("rules", problem, given=name, remedy=f"give every parameter to {name}, or none")


def _alone_because(traits: Traits) -> str | None:
    """Why a class can't be one of several."""
    if traits.makes_groups:
        return "makes its param groups itself, from the whole model"
    if traits.needs.evaluates:
        return "evaluates the model several times a step"
    return "steps an optimizer inside of it" if constructor_of(traits.optimizer).inner else None


def schedule_mistakes(one: Merged, name: str, horizon: Horizon) -> list[Mistake]:
    """Whether a group's hyperparameter can follow its schedule; where it goes is noted in its ``spans``."""
    settled = one.settled
    key, start = settled.schedule_origins[name], value_at(name, settled.hyperparameters)
    numbers = numbers_in(settled.hyperparameters)
    if name not in numbers:
        problem = f"{name} is not one number, so it can't be scheduled"
        own = tuple(number for number in numbers if number.startswith(f"{name}."))
        remedy = f"schedule one of its numbers ({own[0]})" if own else "schedule a number"
        return [Mistake(key, problem, given=repr(start), allowed=own, remedy=remedy)]
    mistakes, reached = bound_mistakes(settled.schedules[name], start, horizon, key)
    if reached is not None:
        one.spans[name] = reached
        for value in (reached.low, reached.peak):
            wrong = settled.traits.refusal(dict([replaced(name, settled.hyperparameters, value)]))
            if wrong is not None:
                problem = f"it takes {name} to {value:g}, which {one.optimizer} refuses: {wrong}"
                mistakes.append(Mistake(key, problem, given=f"from {start:g}", remedy="change where the schedule goes"))
                break
    return mistakes


def bound_mistakes(
    node: Mapping[str, Any], start: float, horizon: Horizon, key: str
) -> tuple[list[Mistake], Span | None]:
    """Where a schedule goes from a value in a run, or why it doesn't."""
    try:
        schedule = schedule_of(node, key)
        mistakes = [*_misplaced(schedule, node, key)]
        if mistakes:
            return mistakes, None
    except ConfigError as error:
        return list(error.mistakes), None
    try:
        return [], span(bind(schedule, start, horizon), horizon)
    except LitOptimError as error:
        return [mistake.under(key) for mistake in error.mistakes], None
    except Exception as error:  # whatever a curve of the user's may raise
        problem = f"it can't be evaluated: {type(error).__name__}: {error}"
        remedy = "mend its arguments, or what its curve() returns: a function of the step"
        return [Mistake(key, problem, given=repr(node), remedy=remedy)], None


def _misplaced(schedule: Schedule, node: Mapping[str, Any], key: str) -> Iterator[Mistake]:
    """A scheduler of torch's under another hyperparameter than lr, and a plateau inside of another schedule."""
    name = f".{key}".rpartition(".schedule.")[2]
    if isinstance(schedule, TorchSchedule | TorchPlateau) and name != "lr":
        problem = f"torch's schedulers move lr, and not {name}"
        remedy = "use one of lit_optim.schedules: they move any number"
        yield Mistake(f"{key}._target_", problem, given=str(node["_target_"]), remedy=remedy)
    for field, value in vars(schedule).items():
        if _follows_a_metric(value):
            remedy = "let it stand by itself; it has a warmup of its own"
            yield Mistake(
                f"{key}.{field}", "a schedule that follows a metric can't be a part of another", remedy=remedy
            )


def _follows_a_metric(value: object) -> bool:
    """Whether a schedule, or one inside of it or of a list, does."""
    if isinstance(value, Schedule):
        return isinstance(value, Plateau) or any(map(_follows_a_metric, vars(value).values()))
    return isinstance(value, (list, tuple)) and any(map(_follows_a_metric, value))
