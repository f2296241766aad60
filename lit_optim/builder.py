"""Plan → torch optimizer and scheduler. Nothing else in the package constructs either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_optim.errors import Mistake, PlanError
from lit_optim.plan import Plan
from lit_optim.scheduler import PlanScheduler
from lit_optim.selection import Entry, entries_of
from lit_optim.targets import resolve
from lit_optim.traits import Traits, traits_of

__all__ = ["build"]


def build(model: nn.Module, plan: Plan) -> tuple[Optimizer, LRScheduler]:
    """Make the optimizer and the scheduler that a plan describes.

    Args:
        model: The model that was planned; its parameters are found by name.
        plan: From `make_plan`, or read back from its JSON form.

    Returns:
        The optimizer, of the very class that the plan names, its groups carrying ``name`` and ``param_names``; and the
        scheduler, to be stepped once after each optimizer step.

    Raises:
        PlanError: The model's trainable parameters are not those of the plan.
    """
    entries = entries_of(model)
    parameters = {entry.name: entry.parameter for entry in entries}
    _check_same_parameters(plan, parameters)
    optimizer_class: type[Optimizer] = resolve(plan.groups[0].optimizer, (Optimizer,), "optimizer")
    traits = traits_of(optimizer_class)
    groups = [
        {
            **group.hyperparameters,
            "params": [(name, parameters[name]) for name in group.parameters],
            "name": group.name,
        }
        for group in plan.groups
    ]
    optimizer = traits.optimizer(groups, **_defaults(plan, traits), **_execution(plan, traits, entries))
    if optimizer.defaults.get("fused"):
        # GradScaler then unscales before the step: clipping works, and a skipped step never reaches its hooks.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer, PlanScheduler(optimizer, plan)


def _defaults(plan: Plan, traits: Traits) -> dict[str, Any]:
    """The first group's values as constructor arguments; each group carries all of its own beside them.

    What the groups share would not do: the class may refuse ``nesterov`` without the ``momentum`` that differs.
    """
    return {name: value for name, value in plan.groups[0].hyperparameters.items() if name in traits.arguments}


def _execution(plan: Plan, traits: Traits, entries: Sequence[Entry]) -> dict[str, Any]:
    """What the recipe says of execution; the fused kernel where it says nothing and there is one."""
    trained = [entry for entry in entries if entry.parameter.requires_grad]
    if plan.execution.get("capturable") and any(entry.parameter.device.type == "cpu" for entry in trained):
        remedy = "remove it, or train on a device that captures steps (trainer=gpu)"
        raise PlanError(
            Mistake("optimizer.capturable", "there is nothing to capture on the CPU", "True", remedy=remedy)
        )
    if plan.execution:
        return dict(plan.execution)
    sparse = any(getattr(owner, "sparse", False) for entry in trained for owner in entry.owners)  # no kernel takes it
    return {"fused": True} if not sparse and traits.can_fuse(entry.parameter for entry in trained) else {}


def _check_same_parameters(plan: Plan, parameters: dict[str, nn.Parameter]) -> None:
    planned = {name for group in plan.groups for name in group.parameters}
    trainable = {name for name, parameter in parameters.items() if parameter.requires_grad}
    for problem, names in (
        ("planned, but not trainable parameters of this model", planned - trainable),
        ("trainable, but not in the plan", trainable - planned),
    ):
        if names:
            given = ", ".join(sorted(names)[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            raise PlanError(
                Mistake("model", problem, given=given, remedy="plan the model that you build for, as it is now")
            )
