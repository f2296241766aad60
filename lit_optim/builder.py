"""Plan → torch optimizer and scheduler. Nothing else in the package constructs either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lit_optim.composite import CompositeOptimizer
from lit_optim.errors import Mistake, PlanError
from lit_optim.plan import Group, Plan
from lit_optim.scheduler import PlanScheduler
from lit_optim.selection import Entry, entries_of
from lit_optim.targets import resolve
from lit_optim.traits import Traits, traits_of

__all__ = ["build"]


def build(model: nn.Module, plan: Plan) -> tuple[Optimizer, PlanScheduler]:
    """Make the optimizer and the scheduler that a plan describes.

    Args:
        model: The model that was planned; its parameters are found by name.
        plan: From `make_plan`, or read back from its JSON form.

    Returns:
        The optimizer, of the very class that the plan names (a `CompositeOptimizer` of several), its groups carrying
        ``name`` and ``param_names``; and the scheduler, to be stepped once after each optimizer step. What the plan
        holds frozen no longer requires a gradient.

    Raises:
        PlanError: The model's trainable parameters are not those of the plan.
    """
    entries = {entry.name: entry for entry in entries_of(model)}
    _check_same_parameters(plan, entries)
    for name in plan.frozen:
        entries[name].parameter.requires_grad_(False)
    children = {name: _child(groups, plan, entries) for name, groups in _by_class(plan).items()}
    optimizer = next(iter(children.values())) if len(children) == 1 else CompositeOptimizer(children)
    scheduler = PlanScheduler(optimizer, plan)
    if scheduler.thaw.has_work:
        scheduler.thaw.register()
    return optimizer, scheduler


def _by_class(plan: Plan) -> dict[str, list[Group]]:
    """The groups of each class, by the class's name in lower case (dotted where two classes share it)."""
    classes = dict.fromkeys(group.optimizer for group in plan.groups)
    short = [name.rpartition(".")[2].lower() for name in classes]
    names = {cls: last if short.count(last) == 1 else cls for cls, last in zip(classes, short, strict=True)}
    return {name: [group for group in plan.groups if group.optimizer == cls] for cls, name in names.items()}


def _child(groups: Sequence[Group], plan: Plan, entries: Mapping[str, Entry]) -> Optimizer:
    """The optimizer of the groups of one class."""
    optimizer_class: type[Optimizer] = resolve(groups[0].optimizer, (Optimizer,), "optimizer")
    traits = traits_of(optimizer_class)
    held = [entries[name] for group in groups for name in group.parameters]
    optimizer = traits.optimizer(
        [
            {
                **group.hyperparameters,
                "params": [(name, entries[name].parameter) for name in group.parameters],
                "name": group.name,
            }
            for group in groups
        ],
        **_defaults(groups[0], traits),
        **_execution(plan, traits, held),
    )
    if optimizer.defaults.get("fused"):
        # GradScaler then unscales before the step: clipping works, and a skipped step never reaches its hooks.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def _defaults(first: Group, traits: Traits) -> dict[str, Any]:
    """The first group's values as constructor arguments; each group carries all of its own beside them.

    What the groups share would not do: the class may refuse ``nesterov`` without the ``momentum`` that differs.
    """
    return {name: value for name, value in first.hyperparameters.items() if name in traits.arguments}


def _execution(plan: Plan, traits: Traits, held: Sequence[Entry]) -> dict[str, Any]:
    """What the recipe says of execution; the fused kernel where it says nothing and there is one."""
    if plan.execution.get("capturable") and any(entry.parameter.device.type == "cpu" for entry in held):
        remedy = "remove it, or train on a device that captures steps (trainer=gpu)"
        raise PlanError(
            Mistake("optimizer.capturable", "there is nothing to capture on the CPU", "True", remedy=remedy)
        )
    if plan.execution:
        return {name: value for name, value in plan.execution.items() if name in traits.arguments}
    sparse = any(getattr(owner, "sparse", False) for entry in held for owner in entry.owners)  # no kernel takes it
    return {"fused": True} if not sparse and traits.can_fuse(entry.parameter for entry in held) else {}


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
