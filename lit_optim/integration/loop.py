"""What Lightning's loop can't do for an optimizer, refused by name before the first step."""

from __future__ import annotations

from collections.abc import Iterator

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from lit_optim.builder import traits_in
from lit_optim.errors import Mistake, PlanError
from lit_optim.needs import Needs
from lit_optim.plan import Plan
from lit_optim.recipe import Recipe
from lit_optim.state_types import unreadable

__all__ = ["check_loop", "check_needs"]

_ASKED = 4  # groups of a class whose state is tried out; a recipe may make hundreds that differ in a number


def check_loop(module: LightningModule, recipe: Recipe) -> None:
    """Refuse what automatic optimization never does.

    Args:
        module: What is trained.
        recipe: Its recipe, which may ask for steps to differentiate through.

    Raises:
        PlanError: A module with manual optimization, or a step to differentiate through.
    """
    mistakes = []
    if not module.automatic_optimization:
        remedy = "set self.automatic_optimization = True, or use make_plan and build in a loop of your own"
        problem = f"{type(module).__name__} optimizes manually, so nothing would step what the plan builds"
        mistakes.append(Mistake("automatic_optimization", problem, remedy=remedy))
    said = {"optimizer": recipe.values} | {f"{rule.key}.optimizer": rule.arguments for rule in recipe.rules}
    for key in (key for key, values in said.items() if values.get("differentiable")):
        remedy = "remove it, or use make_plan and build in a loop of your own"
        problem = "Lightning doesn't differentiate through a step"
        mistakes.append(Mistake(f"{key}.differentiable", problem, given="True", remedy=remedy))
    if mistakes:
        raise PlanError(*mistakes)


def check_needs(trainer: Trainer, plan: Plan, needs: Needs) -> None:
    """Refuse a precision or a strategy in which what the optimizer needs isn't defined.

    Args:
        trainer: What it is to run in.
        plan: What is to run.
        needs: Its optimizer's.

    Raises:
        PlanError: ``16-mixed`` with an optimizer that needs a closure or the graph of its gradients; several processes
            with the latter; FSDP1; sharded parameters with one that evaluates the model; checkpoints of a state that
            can't be loaded again.
    """
    mistakes = []
    names = ", ".join(dict.fromkeys(group.optimizer for group in plan.groups))
    scales = isinstance(trainer.precision_plugin, MixedPrecision) and trainer.precision_plugin.scaler is not None
    if scales and (needs.closure or needs.evaluates or needs.graph):
        why = "evaluates the model within its step" if not needs.graph else "differentiates its gradients"
        problem = f"{names} {why}, and a GradScaler scales the loss outside of it"
        remedy = "use trainer.precision=bf16-mixed or 32-true, or another optimizer"
        mistakes.append(Mistake("trainer.precision", problem, trainer.precision, remedy=remedy))
    if needs.graph and trainer.world_size > 1:
        problem = f"{names} differentiates its gradients, and those that are averaged over processes have no graph"
        remedy = "use one process (trainer.devices=1), or another optimizer"
        mistakes.append(Mistake("trainer.devices", problem, str(trainer.world_size), remedy=remedy))
    if isinstance(trainer.strategy, FSDPStrategy):
        problem = "FSDP1 flattens parameters, which leaves no shapes for Muon and no gradients to clip or to look at"
        remedy = "use FSDP2 (trainer=fsdp), which torch keeps in its place"
        mistakes.append(Mistake("trainer.strategy", problem, type(trainer.strategy).__name__, remedy=remedy))
    if needs.evaluates and isinstance(trainer.strategy, ModelParallelStrategy):
        problem = f"{names} evaluates the model within its step, at weights that it moves as whole tensors"
        remedy = "use trainer=ddp, which leaves them whole, or another optimizer"
        mistakes.append(Mistake("trainer.strategy", problem, type(trainer.strategy).__name__, remedy=remedy))
    if any(not getattr(saver, "save_weights_only", False) for saver in trainer.checkpoint_callbacks):
        mistakes += _not_to_be_saved(plan)
    if mistakes:
        raise PlanError(*mistakes)


def _not_to_be_saved(plan: Plan) -> Iterator[Mistake]:
    for name, traits in traits_in(plan).items():
        groups = [group for group in plan.groups if group.optimizer == name]
        said = [{**group.hyperparameters, **plan.arguments.get(name, {})} for group in groups]
        why = next(filter(None, (unreadable(traits, settings) for settings in said[:_ASKED])), None)
        if why is not None:
            problem = f"the state of {name} can't be loaded again, so its checkpoints would be lost: {why}"
            remedy = (
                "train without (callbacks.checkpoint=null callbacks.last=null), save weights only, or choose another"
            )
            yield Mistake("callbacks", problem, given=name, remedy=remedy)
