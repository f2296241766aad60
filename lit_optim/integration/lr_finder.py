"""Find a learning rate: train a copy for a moment, while one factor over all groups grows until the loss diverges."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lit_optim.durations import Horizon
from lit_optim.errors import ConfigError, Mistake, PlanError, RunError
from lit_optim.integration.callbacks.continuing import random_state, restore_random_state
from lit_optim.integration.callbacks.recorder import batch_loss
from lit_optim.integration.module import attach
from lit_optim.planner import Planner
from lit_optim.recipe import Recipe
from lit_optim.sweep import Geometric, Sweep, swept

__all__ = ["find_lr", "learning_rates", "range_mistakes"]

_MEMORY = 0.8  # of the running mean that tells divergence from a bad batch


def find_lr(
    module: LightningModule,
    recipe: Recipe | Mapping[str, Any] | str | Path,
    trainer: Callable[..., Trainer] = Trainer,
    datamodule: LightningDataModule | None = None,
    train_dataloaders: Any = None,
    low: float = 1e-5,
    high: float = 1e3,
    steps: int = 100,
    stop: float = 4.0,
    on_step: Callable[[int, float, float], None] | None = None,
) -> Sweep:
    """Train a copy while a factor over every group's learning rate grows from ``low`` to ``high``.

    The optimizer is the recipe's own, composite or not; schedules are put aside (see `lit_optim.sweep.swept`). Module,
    data module, loaders and random states stay as they were, so a fit afterwards is the one that it would have been.
    Nothing is logged, validated or saved. One process.

    Args:
        module: Any LightningModule with automatic optimization.
        recipe: A `Recipe`, or what `Recipe.from_config` reads.
        trainer: Makes the Trainer; it gets ``max_steps``, ``callbacks`` and the like, and adds what it wants:
            ``functools.partial(Trainer, precision="bf16-mixed")``. No Trainer of the caller's is touched.
        datamodule: Copied; or else
        train_dataloaders: what ``Trainer.fit`` takes, copied without its datasets (an iterable without
            ``state_dict`` is used as it is). Short data is gone through again.
        low: The first factor.
        high: The last.
        steps: Optimizer steps.
        stop: A running mean of the loss above this many times its lowest value ends the sweep.
        on_step: Called after each step with its number (1 for the first), its factor and its loss.

    Raises:
        RunError: A range that makes no sense, several processes, or a ``training_step`` that returns no loss.
        RecipeError: The recipe's structure is wrong.
        PlanError: It doesn't fit the module.
    """
    mistakes = range_mistakes(low, high, steps, stop)
    if mistakes:
        raise RunError(*mistakes)
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_config(recipe)
    sweep = Geometric(float(low), float(high), steps)
    with _same_random_state():
        watch = _Watch(sweep, stop, on_step)
        own = trainer(
            max_steps=steps,
            max_epochs=-1,
            min_steps=None,  # or Lightning goes on where the loss has diverged
            min_epochs=None,
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
        )
        if own.world_size > 1:
            problem = "a sweep runs in one process"
            raise RunError(
                Mistake("trainer.devices", problem, str(own.world_size), ("1",), remedy="use trainer=cpu or gpu")
            )
        trained = attach(_copied(module), swept(recipe, sweep))
        own.fit(trained, train_dataloaders=_loaders(train_dataloaders), datamodule=_copied(datamodule))
    if not watch.losses and not watch.diverged:
        remedy = "return the loss, or a dict with it under 'loss'"
        raise RunError(Mistake("training_step", "it returned no loss to look at", remedy=remedy))
    factors = tuple(sweep.factor(step) for step in range(len(watch.losses)))
    return Sweep(factors, tuple(watch.losses), watch.diverged)


def range_mistakes(low: float, high: float, steps: int, stop: float) -> list[Mistake]:
    """What is wrong with a range, each under the flag that sets it."""
    mistakes = []
    if not 0 < low < math.inf:
        mistakes.append(Mistake("--low", "a factor is above 0", repr(low), remedy="for example --low 1e-5"))
    elif not low < high < math.inf:
        mistakes.append(Mistake("--high", "the last factor is above the first", repr(high), remedy="raise it"))
    if steps < 20:
        problem, allowed = "no curve can be told from fewer than 20", ("20 or more",)
        mistakes.append(Mistake("--steps", problem, repr(steps), allowed, remedy="raise it"))
    if not 1 < stop < math.inf:
        mistakes.append(Mistake("--stop", "a multiple above 1 is needed", repr(stop), remedy="for example --stop 4"))
    return mistakes


def learning_rates(model: nn.Module, recipe: Recipe) -> dict[str, float]:
    """The config keys that say a group's learning rate, with what they say before any factor or layer decay.

    Where a class's own default stands, the key is where it could be said. A sweep's factor times each is a run with the
    same ratios; what a rule multiplies follows by itself.

    Raises:
        PlanError: No group has a learning rate, or one that is not a number.
    """
    said = {"optimizer.lr": recipe.values.get("lr")}
    for rule in recipe.rules:
        said[f"{rule.key}.optimizer.lr"], said[f"{rule.key}.lr"] = rule.arguments.get("lr"), rule.values.get("lr")
    rates: dict[str, Any] = {}
    for one in Planner(model, recipe, Horizon(-1)).merged:
        settled = one.settled
        if "lr" in settled.hyperparameters:
            key = settled.origins.get("lr", f"{settled.chosen_at}.lr")
            rates[key] = said[key] if "lr" in settled.origins else settled.traits.defaults["lr"]
    wrong = [
        Mistake(key, "there is no number to multiply", repr(rate), remedy=f"set one: {key}=0.001")
        for key, rate in rates.items()
        if isinstance(rate, bool) or not isinstance(rate, (int, float))
    ]
    if not rates:
        wrong.append(Mistake("optimizer", "no group has a learning rate to find", remedy="choose another optimizer"))
    if wrong:
        raise PlanError(*wrong)
    return rates


class _Watch(Callback):
    """Takes each step's loss, and ends the sweep where it diverges."""

    def __init__(self, sweep: Geometric, stop: float, on_step: Callable[[int, float, float], None] | None) -> None:
        self.sweep = sweep
        self.stop = stop
        self.on_step = on_step
        self.losses: list[float] = []
        self.diverged = False
        self._window: list[float] = []
        self._steps = 0
        self._mean = 0.0
        self._best = math.inf

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._window.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = batch_loss(outputs)
        if loss is not None:
            self._window.append(float(loss) * trainer.accumulate_grad_batches)  # Lightning has divided by it
        if self.diverged or trainer.global_step == self._steps or not self._window:
            return
        self._steps = trainer.global_step
        self._take(sum(self._window) / len(self._window))
        self._window.clear()
        trainer.should_stop = self.diverged

    def _take(self, loss: float) -> None:
        if not math.isfinite(loss):
            self.diverged = True
            return
        self.losses.append(loss)
        count = len(self.losses)
        self._mean = _MEMORY * self._mean + (1 - _MEMORY) * loss
        mean = self._mean / (1 - _MEMORY**count)
        self._best = min(self._best, mean)
        # stop × best, but above it also where that is negative
        self.diverged = mean > self._best + (self.stop - 1) * abs(self._best)
        if self.on_step is not None:
            self.on_step(count, self.sweep.factor(count - 1), loss)


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Lightning's ``isolate_rng`` restores nothing after an error."""
    before = random_state()
    try:
        yield
    finally:
        restore_random_state(before)


def _copied(thing: Any) -> Any:
    """A deep copy, which leaves the Trainer that the thing hangs on, if there is one, behind."""
    trainer = getattr(thing, "_trainer", None) or vars(thing).get("trainer") if thing is not None else None
    try:
        return copy.deepcopy(thing, {} if trainer is None else {id(trainer): None})
    except (TypeError, RuntimeError, NotImplementedError) as error:
        problem = f"{type(thing).__name__} can't be copied, and a sweep trains a copy: {error}"
        remedy = "keep in it what copy.deepcopy takes"
        raise ConfigError(Mistake("lr-find", problem, remedy=remedy)) from error


def _loaders(loaders: Any) -> Any:
    """Loaders whose samplers and generators may move; the data itself is shared."""
    if isinstance(loaders, Mapping):
        return {name: _loaders(loader) for name, loader in loaders.items()}
    if isinstance(loaders, (list, tuple)):
        return [_loaders(loader) for loader in loaders]
    if isinstance(loaders, DataLoader):
        return copy.deepcopy(loaders, {id(loaders.dataset): loaders.dataset})
    if hasattr(loaders, "state_dict") and not isinstance(loaders, nn.Module):
        tensors = getattr(loaders, "tensors", ())  # of the package's own loader
        return copy.deepcopy(loaders, {id(tensor): tensor for tensor in tensors})
    return loaders
