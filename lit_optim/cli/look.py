"""Config → plan without training; whatever is wrong on the way is told at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from lit_optim.durations import Horizon
from lit_optim.errors import LitOptimError, Mistake, PlanError, RecipeError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from lit_optim.plan import Plan
    from lit_optim.recipe import Recipe

__all__ = ["Look", "look"]


_ANY_RUN = Horizon(10**9, 10**6)  # stands in for a run that is refused itself: any length fits into it


@dataclass(frozen=True)
class Look:
    """What a config comes to."""

    module: LightningModule
    recipe: Recipe
    horizon: Horizon
    plan: Plan


@dataclass
class _Refusals:
    """What several looks at a config found wrong."""

    errors: list[LitOptimError] = field(default_factory=list)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a refusal inside the block, and go on behind it."""
        try:
            yield
        except LitOptimError as error:
            self.errors.append(error)

    def told(self) -> None:
        """Raise them as one."""
        if self.errors:
            mistakes: dict[Mistake, None] = {}
            for error in self.errors:
                mistakes |= dict.fromkeys(error.mistakes)
            seeds = [mistake.given for mistake in mistakes if mistake.key == "seed"]  # which data.seed follows
            mistakes = {one: None for one in mistakes if one.key != "data.seed" or one.given not in seeds}
            kind = type(self.errors[0]) if len({*map(type, self.errors)}) == 1 else PlanError
            raise kind(*mistakes) from self.errors[0]


def look(config: DictConfig) -> Look:
    """Build what the config names, and plan with it; nothing is trained and nothing written.

    Raises:
        LitOptimError: With the mistakes of every part that could be looked at.
    """
    from lit_optim.builder import needs_in
    from lit_optim.cli.assemble import (
        callbacks_of,
        check_monitors,
        check_top,
        data_of,
        module_of,
        read_recipe,
        seed_of,
        trainer_of,
    )
    from lit_optim.cli.quiet import quiet
    from lit_optim.integration.horizon import planned_horizon, warned_of_time
    from lit_optim.integration.loop import check_loop, check_needs
    from lit_optim.integration.sharding import listing_units
    from lit_optim.planner import make_plan

    quiet()
    refusals = _Refusals()
    with refusals.noted():
        check_top(config)
    with refusals.noted():
        seed_of(config)
    recipe, mistakes = read_recipe(config)
    if mistakes:
        refusals.errors.append(RecipeError(*mistakes))
    data = module = horizon = plan = trainer = None
    with refusals.noted():
        data = data_of(config)
    with refusals.noted(), _translated():
        trainer = trainer_of(config, callbacks_of(config), [])
    if data is not None:
        with refusals.noted():
            module = module_of(config, data, recipe)
    if module is not None:
        with refusals.noted():
            check_loop(module, recipe)
        with refusals.noted():
            check_monitors(config, module)
    if data is not None and trainer is not None:
        with refusals.noted(), _translated():
            horizon = planned_horizon(trainer, data)
    if module is not None:
        with refusals.noted(), _translated():
            module.configure_model()
            plan = make_plan(module, recipe, horizon or _any_run(recipe))
    if plan is not None and trainer is not None:
        with refusals.noted():
            plan = listing_units(warned_of_time(plan, trainer), trainer, module)
            check_needs(trainer, plan, needs_in(plan))
    _drop_echoes(refusals, mistakes, horizon)
    refusals.told()
    assert module is not None
    assert horizon is not None
    assert plan is not None
    return Look(module, recipe, horizon, plan)


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


def _drop_echoes(refusals: _Refusals, structural: tuple[Mistake, ...], horizon: Horizon | None) -> None:
    """Drop what the planner says only because the recipe lost a part, or the run its length, to another mistake."""
    lost = {mistake.key.removesuffix("._target_") for mistake in structural}
    for number, error in enumerate(refusals.errors):
        if isinstance(error, PlanError):
            kept = [mistake for mistake in error.mistakes if mistake.key not in lost]
            if horizon is None:
                kept = [mistake for mistake in kept if str(_ANY_RUN.total_steps) not in mistake.problem]
            refusals.errors[number] = PlanError(*kept)
