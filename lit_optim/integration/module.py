"""``configure_optimizers`` from a recipe: as a base class, as a call, or attached to a module that stays unedited."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lit_optim.builder import build, needs_in
from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.integration.agreement import agreed, check_same_model
from lit_optim.integration.backward import keep_graph
from lit_optim.integration.callbacks.accumulation import AccumulateByEpoch
from lit_optim.integration.callbacks.clipping import ClipGroups
from lit_optim.integration.callbacks.continuing import Continuing
from lit_optim.integration.callbacks.freezing import DropGradients
from lit_optim.integration.callbacks.metrics import ShowMetrics
from lit_optim.integration.callbacks.modes import OptimizerModes
from lit_optim.integration.callbacks.replay import ReplaySteps
from lit_optim.integration.checkpoint_io import AtomicCheckpointIO
from lit_optim.integration.compiled import accept_compiled
from lit_optim.integration.horizon import accumulation_schedulers, fitting_horizon, warned_of_time
from lit_optim.integration.loop import check_loop, check_needs
from lit_optim.integration.shard_steps import check_steps
from lit_optim.integration.sharding import listing_units, supply_configure_model
from lit_optim.monitors import monitors_in
from lit_optim.plan import Plan
from lit_optim.planner import Planner, make_plan
from lit_optim.recipe import Recipe
from lit_optim.scheduler import PlanScheduler
from lit_optim.selection import entries_of
from lit_optim.state_types import trust

__all__ = ["RecipeModule", "attach", "configure_optimizers", "freeze"]

RecipeLike = Recipe | Mapping[str, Any] | str | Path


class RecipeModule(LightningModule):
    """A LightningModule whose optimizer and schedules come from a recipe.

    Args:
        recipe: A `Recipe`, or what `Recipe.from_config` reads.

    Raises:
        RecipeError: The recipe's structure is wrong.
    """

    def __init__(self, recipe: RecipeLike) -> None:
        super().__init__()
        self.recipe = _recipe(recipe)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # a string, which Lightning sets some forty times a batch
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Get ready for a checkpoint and for a strategy: see `prepare`; a subclass calls it as well."""
        prepare(self, self.recipe)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """See `lit_optim.configure_optimizers`."""
        return configure_optimizers(self, self.recipe)


def configure_optimizers(module: LightningModule, recipe: RecipeLike) -> OptimizerLRSchedulerConfig:
    """What a LightningModule's ``configure_optimizers`` returns, built from a recipe for the run at hand.

    The plan that runs is ``plan`` on the scheduler, so ``trainer.lr_scheduler_configs[0].scheduler.plan``.

    Args:
        module: A module with automatic optimization, attached to a Trainer that is fitting.
        recipe: A `Recipe`, or what `Recipe.from_config` reads.

    Raises:
        RecipeError: The recipe's structure is wrong.
        PlanError: It doesn't fit this model or this run, or the processes of the run made different plans or
            were seeded differently.
    """
    recipe = _recipe(recipe)
    check_loop(module, recipe)
    trust(recipe)  # once more, for who has no `prepare`: what is saved from here on can be loaded
    _make_resumable(module).on_asking()
    horizon = fitting_horizon(module.trainer)
    plan = warned_of_time(agreed(lambda: make_plan(module, recipe, horizon)), module.trainer)
    plan = listing_units(plan, module.trainer, module)
    check_needs(module.trainer, plan, needs_in(plan))
    check_steps(module, plan)
    late = _frozen_too_late(module, plan)
    optimizer, scheduler = build(module, plan)
    scheduler.follows_steps = True
    for parameter in late:
        parameter.requires_grad_(True)
    keep_graph(module, scheduler.needs.graph)
    callbacks: list[Callback] = module.trainer.callbacks  # type: ignore[attr-defined]  # set by a helper of its own
    accumulating = map(AccumulateByEpoch, accumulation_schedulers(module.trainer)[-1:])
    callbacks[:] = [
        *accumulating,
        *_helpers(optimizer, scheduler, late, recipe),
        *(one for one in callbacks if not isinstance(one, _HELPERS)),
        *_clipping(scheduler),
    ]
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1}}


_HELPERS = (AccumulateByEpoch, DropGradients, ClipGroups, ReplaySteps, OptimizerModes, ShowMetrics)


def _helpers(
    optimizer: Optimizer, scheduler: PlanScheduler, late: Sequence[nn.Parameter], recipe: Recipe
) -> Iterator[Callback]:
    """What does in Lightning's loop what the plan and its optimizer want; first among the callbacks, before savers."""
    if scheduler.needs.modes:
        yield OptimizerModes(optimizer)
    if scheduler.thaw.has_work or late:
        yield DropGradients(scheduler.thaw, late)
    if scheduler.needs.closure or scheduler.needs.evaluates:
        yield ReplaySteps(scheduler.step_hook, optimizer)
    if scheduler.monitors:
        yield ShowMetrics(scheduler, monitors_in(recipe))


def _clipping(scheduler: PlanScheduler) -> Iterator[Callback]:
    """What clips single groups: in time for Lightning's own clipping, after whatever looks at gradients."""
    if scheduler.clipping.has_work:
        scheduler.step_hook.on_gradients.remove(scheduler.clipping.clip)
        yield ClipGroups(scheduler.clipping)


def _frozen_too_late(module: LightningModule, plan: Plan) -> list[nn.Parameter]:
    """What a rule freezes for good, and DistributedDataParallel has already wrapped as trained."""
    if not isinstance(module.trainer.strategy.model, DistributedDataParallel):
        return []
    frozen = {*plan.frozen}
    return [entry.parameter for entry in entries_of(module) if entry.name in frozen and entry.parameter.requires_grad]


def prepare(module: nn.Module, recipe: Recipe) -> None:
    """What has to be done before a checkpoint is loaded and a strategy wraps the model.

    Args:
        module: The model.
        recipe: What its rules freeze for good is frozen, and what its optimizers keep in their state may be loaded.

    Raises:
        PlanError: The processes of the run built different models, or one that no strategy can wrap.
    """
    trust(recipe)
    accept_compiled(module)
    freeze(module, recipe)
    if isinstance(module, LightningModule) and module._trainer is not None:  # None: whoever calls `setup` by hand
        check_same_model(module)
        _check_can_be_wrapped(module, recipe)
        _make_resumable(module)
        supply_configure_model(module)


def _check_can_be_wrapped(module: LightningModule, recipe: Recipe) -> None:
    """Tell what the plan would, in time: a strategy of several processes meets it first, and says it otherwise."""
    wraps = isinstance(module.trainer.strategy, ParallelStrategy) and not is_overridden("configure_model", module)
    if wraps and module.trainer.state.fn == TrainerFn.FITTING:
        parameters = [*module.parameters()]
        if any(map(is_lazy, parameters)) or not any(one.requires_grad for one in parameters):
            mistakes = [one for one in Planner(module, recipe, Horizon(-1)).mistakes if one.key == "model"]
            if mistakes:
                raise PlanError(*mistakes)


def _make_resumable(module: LightningModule) -> Continuing:
    """From here on checkpoints are whole and hold what `Continuing` adds; in time for one that the fit starts from."""
    callbacks: list[Callback] = module.trainer.callbacks  # type: ignore[attr-defined]
    continuing = next((one for one in callbacks if isinstance(one, Continuing)), None)
    if continuing is None:
        continuing = Continuing()
        callbacks.insert(0, continuing)
    strategy = module.trainer.strategy
    if type(strategy.checkpoint_io) is TorchCheckpointIO:  # and not a choice of the user's
        strategy.checkpoint_io = AtomicCheckpointIO()
    return continuing


def freeze(module: nn.Module, recipe: Recipe) -> None:
    """Switch off the gradients of what a recipe freezes for good; what is wrong with it is told later, all at once.

    Args:
        module: The model, before a strategy wraps it.
        recipe: Its rules with ``freeze: true``, as far as no later rule undoes them.
    """
    if not any(rule.freeze for rule in recipe.rules):
        return
    planner = Planner(module, recipe, Horizon(-1))
    for entry, settled in zip(planner.matching.index.entries, planner.ends, strict=True):
        if settled is not None and settled.is_frozen:
            entry.parameter.requires_grad_(False)


def attach(module: LightningModule, recipe: RecipeLike) -> LightningModule:
    """Give a LightningModule, as it is, the optimizer and schedules of a recipe.

    Its own ``configure_optimizers`` is put aside for this instance; the class stays as it was. The module can still be
    copied and pickled, so strategies that start processes work.

    Args:
        module: Any LightningModule with automatic optimization.
        recipe: A `Recipe`, or what `Recipe.from_config` reads.

    Returns:
        The same module.

    Raises:
        RecipeError: The recipe's structure is wrong.
    """
    # An instance attribute: Lightning looks hooks up on the instance. A partial, because a bound method that stands on
    # its own instance can't be unpickled.
    recipe = _recipe(recipe)
    module.configure_optimizers = functools.partial(configure_optimizers, module, recipe)  # type: ignore[method-assign]
    module.setup = functools.partial(_setup, module, recipe)  # type: ignore[method-assign]
    return module


def _setup(module: LightningModule, recipe: Recipe, stage: str) -> None:
    """The class's own ``setup``, then ours."""
    type(module).setup(module, stage)
    prepare(module, recipe)


def _recipe(recipe: RecipeLike) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else Recipe.from_config(recipe)
