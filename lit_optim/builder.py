"""Plan → torch optimizer and scheduler. Nothing else in the package constructs either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn
from torch.optim import Optimizer

from lit_optim.composite import CompositeOptimizer
from lit_optim.construction import construct
from lit_optim.errors import Mistake, PlanError
from lit_optim.needs import Needs, union
from lit_optim.plan import Group, Plan
from lit_optim.scheduler import PlanScheduler
from lit_optim.selection import Entry, entries_of
from lit_optim.targets import resolve
from lit_optim.traits import Traits, traits_of

__all__ = ["build", "needs_in", "traits_in"]


def build(model: nn.Module, plan: Plan) -> tuple[Optimizer, PlanScheduler]:
    """Make the optimizer and the scheduler that a plan describes.

    Args:
        model: The model that was planned; its parameters are found by name.
        plan: From `make_plan`, or read back from its JSON form.

    Returns:
        The optimizer, of the very class that the plan names (a `CompositeOptimizer` of several), its groups carrying
        ``name`` and ``param_names``; and the scheduler, to be stepped once after each optimizer step. What the plan
        holds frozen no longer requires a gradient. ``optimizer.step(closure)`` is all that any class wants: one that
        needs gradients before it moves (SAM) has the closure evaluated first.

    Raises:
        PlanError: The model's trainable parameters are not those of the plan, or an optimizer can't be made of it here.
    """
    entries = {entry.name: entry for entry in entries_of(model)}
    _check_same_parameters(plan, entries)
    for name in plan.frozen:
        entries[name].parameter.requires_grad_(False)
    traits = traits_in(plan)
    children = {
        name: _child(model, groups, plan, traits[groups[0].optimizer], entries)
        for name, groups in _by_class(plan).items()
    }
    optimizer = next(iter(children.values())) if len(children) == 1 else CompositeOptimizer(children)
    own = {name: of_class.moves_itself for name, of_class in traits.items()}
    scheduler = PlanScheduler(optimizer, plan, union(of_class.needs for of_class in traits.values()), own)
    if scheduler.step_hook.has_work:
        optimizer.register_step_pre_hook(scheduler.step_hook)
    scheduler.state_by_name.stand_before(optimizer)
    return optimizer, scheduler


def traits_in(plan: Plan) -> dict[str, Traits]:
    """What is known of each class of a plan, by its dotted name."""
    found: dict[str, Traits] = {}
    for group in plan.groups:
        if group.optimizer not in found:
            optimizer: type[Optimizer] = resolve(group.optimizer, (Optimizer,), "optimizer")
            said = {**group.hyperparameters, **plan.arguments.get(group.optimizer, {})}
            found[group.optimizer] = traits_of(optimizer, said)
    return found


def needs_in(plan: Plan) -> Needs:
    """What a loop has to do for the optimizer of a plan."""
    return union(traits.needs for traits in traits_in(plan).values())


def _by_class(plan: Plan) -> dict[str, list[Group]]:
    """The groups of each class, by the class's name in lower case (dotted where two classes share it)."""
    classes = dict.fromkeys(group.optimizer for group in plan.groups)
    short = [name.rpartition(".")[2].lower() for name in classes]
    names = {cls: last if short.count(last) == 1 else cls for cls, last in zip(classes, short, strict=True)}
    return {name: [group for group in plan.groups if group.optimizer == cls] for cls, name in names.items()}


def _child(
    model: nn.Module, groups: Sequence[Group], plan: Plan, traits: Traits, entries: Mapping[str, Entry]
) -> Optimizer:
    """The optimizer of the groups of one class.

    The first group's values are the constructor's arguments as well; each group carries all of its own beside them.
    What the groups share would not do: the class may refuse ``nesterov`` without the ``momentum`` that differs.
    """
    name = groups[0].optimizer
    own = [
        {
            **group.hyperparameters,
            "params": [(name, entries[name].parameter) for name in group.parameters],
            "name": group.name,
        }
        for group in groups
    ]
    first = {name: value for name, value in groups[0].hyperparameters.items() if name in traits.arguments}
    settings = {**first, **plan.arguments.get(name, {}), **plan.execution.get(name, {})}
    try:
        optimizer = construct(traits.optimizer, own, settings, model)
    except Exception as error:  # whatever a class of the user's may raise
        problem = f"{name} refuses what the plan says: {error}"
        given = ", ".join(f"{argument}={value}" for argument, value in settings.items())
        raise PlanError(
            Mistake("optimizer", problem, given=given, remedy="plan for this model as it is now")
        ) from error
    if optimizer.defaults.get("fused"):
        # GradScaler then unscales before the step: clipping works, and a skipped step never reaches its hooks.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]  # torch sets it on instances
    return optimizer


def _check_same_parameters(plan: Plan, entries: Mapping[str, Entry]) -> None:
    planned = {name for group in plan.groups for name in group.parameters}
    trainable = {name for name, entry in entries.items() if entry.parameter.requires_grad} - {*plan.frozen}
    for problem, names in (
        ("planned, but not trainable parameters of this model", (planned - trainable) | ({*plan.frozen} - {*entries})),
        ("trainable, but not in the plan", trainable - planned),
    ):
        if names:
            given = ", ".join(sorted(names)[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            raise PlanError(
                Mistake("model", problem, given=given, remedy="plan the model that you build for, as it is now")
            )
