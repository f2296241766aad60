"""Config → plan without training; whatever is wrong on the way is told at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.cli.refusals import Refusals
from lit_optim.durations import UNKNOWN_END, Horizon
from lit_optim.errors import DataError, LitOptimError, Mistake, PlanError, RecipeError
from lit_optim.lr_scaling import SIZE

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

    from lit_optim.plan import Plan
    from lit_optim.recipe import Recipe

__all__ = ["Look", "look", "with_all_else"]

_ANY_RUN = Horizon(-1, 10**6)  # stands in for a run that is refused itself: any length fits into it
_BESIDE_THE_MODEL = ("trainer.", "callbacks.", "logger.", "hydra", "-")  # how keys begin that can't be of it


@dataclass(frozen=True)
class Look:
    """What a config comes to."""

    module: LightningModule
    recipe: Recipe
    horizon: Horizon
    plan: Plan


def look(config: DictConfig, lost: Collection[str] = (), last: Path | None = None, loads: bool = True) -> Look:
    """Build what the config names, and plan with it; nothing is trained and nothing written.

    Args:
        config: Of a run.
        lost: Keys of the command line that it lacks. What a run's length depends on is not told of another, nor what
            depends on the model where they may have been of that.
        last: The checkpoint of a run that goes on.
        loads: Whether the data is loaded, to find out how long the run is.

    Raises:
        LitOptimError: With the mistakes of every part that could be looked at; what a part that is refused would have
            been needed for is not.
    """
    from lit_optim.builder import needs_in
    from lit_optim.cli.assemble import (
        callbacks_of,
        check_loggers,
        check_model,
        check_monitors,
        check_top,
        data_of,
        module_of,
        read_recipe,
        seed_of,
        stand_in_for_data,
        trainer_of,
    )
    from lit_optim.cli.quiet import quiet
    from lit_optim.cli.start import starting_point
    from lit_optim.integration.horizon import planned_horizon, warned_of_time
    from lit_optim.integration.loop import check_loop, check_needs
    from lit_optim.integration.sharding import listing_units
    from lit_optim.planner import make_plan

    quiet()
    refusals = Refusals()
    with refusals.noted():
        check_top(config)
    with refusals.noted():
        seed_of(config)
    recipe, mistakes = read_recipe(config)
    if mistakes:
        refusals.errors.append(RecipeError(*mistakes))
    data = module = horizon = plan = trainer = callbacks = None
    with refusals.noted():
        data = data_of(config)
    with refusals.noted(), _translated():
        callbacks = callbacks_of(config)
    with refusals.noted(), _translated():
        check_loggers(config)
    with refusals.noted(), _translated():
        trainer = trainer_of(config, callbacks or [], [])
    shape: LightningDataModule | type[LightningDataModule] | None = data
    if shape is None:
        with refusals.noted():
            shape = stand_in_for_data(config)
    if all(key.startswith(_BESIDE_THE_MODEL) for key in lost):
        with refusals.noted():
            if shape is None:
                check_model(config)
            else:
                module = module_of(config, shape, recipe)
    with refusals.noted():
        starting_point(config, None if data is None else module, last)
    if module is not None:
        with refusals.noted():
            check_loop(module, recipe)
        with refusals.noted():
            check_monitors(config, module)
    if loads and not lost and None not in (data, trainer, callbacks):  # which may say how many batches make a step
        with refusals.noted(), _translated():
            horizon = planned_horizon(trainer, data)
    if module is not None:
        with refusals.noted(), _translated():
            module.configure_model()
            plan = make_plan(module, recipe, horizon or _any_run(recipe))
    else:
        with refusals.noted():
            _plan_without_model(recipe, horizon or _any_run(recipe))
    if module is not None and plan is not None and trainer is not None:
        with refusals.noted():
            plan = listing_units(warned_of_time(plan, trainer), trainer, module)
            check_needs(trainer, plan, needs_in(plan))
    _drop_echoes(refusals, mistakes, horizon)
    refusals.told()
    assert module is not None
    assert horizon is not None
    assert plan is not None
    return Look(module, recipe, horizon, plan)


def with_all_else(
    error: LitOptimError, config: DictConfig, lost: Collection[str] = (), last: Path | None = None
) -> LitOptimError:
    """A refusal of a run that has not begun, and whatever else is wrong with its config.

    Args:
        error: The refusal.
        config: Of the run.
        lost: As of `look`.
        last: As of `look`.
    """
    keys = {mistake.key for mistake in error.mistakes}
    try:
        # data is prepared by one process alone, and not again where that has failed
        look(config, lost, last, loads=is_rank_zero() and not isinstance(error, DataError))
    except LitOptimError as found:
        others = [mistake for mistake in found.mistakes if mistake.key not in keys]
        return Refusals([error, type(found)(*others)]).joined() if others else error
    except Exception:  # whatever else may fail there, the refusal is told
        return error
    return error


def _plan_without_model(recipe: Recipe, horizon: Horizon) -> None:
    """Refuse of a recipe what can be said where the model is refused itself: what its classes take."""
    from torch import nn

    from lit_optim.planner import make_plan

    try:
        make_plan(nn.Module(), recipe, horizon)
    except PlanError as error:
        of_model = ("model", "rules", "optimizer", SIZE)
        kept = [one for one in error.mistakes if one.key not in of_model and not one.key.endswith(".match")]
        raise PlanError(*kept) from error


@contextmanager
def _translated() -> Iterator[None]:
    """What Lightning can't use, as a refusal."""
    from lit_optim.cli.failures import translated

    try:
        yield
    except Exception as error:
        told = translated(error, Path.cwd(), started=False)
        if told is error:
            raise
        raise told from error


def _any_run(recipe: Recipe) -> Horizon:
    """With the very batch that the learning rates are written for, if they are for one."""
    return _ANY_RUN if recipe.lr_scaling is None else replace(_ANY_RUN, global_batch=recipe.lr_scaling.batch_size)


def _drop_echoes(refusals: Refusals, structural: tuple[Mistake, ...], horizon: Horizon | None) -> None:
    """Drop what the planner says only because the recipe lost a part, or the run its length, to another mistake."""
    lost = {mistake.key.removesuffix("._target_") for mistake in structural}
    for number, error in enumerate(refusals.errors):
        if isinstance(error, PlanError):
            kept = [mistake for mistake in error.mistakes if mistake.key not in lost]
            if horizon is None:
                kept = [mistake for mistake in kept if mistake.remedy != UNKNOWN_END]
            refusals.errors[number] = PlanError(*kept)
