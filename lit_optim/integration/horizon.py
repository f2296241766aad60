"""How long a Trainer will train, in optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from lit_optim.durations import Horizon
from lit_optim.errors import Mistake, PlanError

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, Trainer

__all__ = ["fitting_horizon", "planned_horizon"]


def fitting_horizon(trainer: Trainer) -> Horizon:
    """The horizon of a fit that is under way, from what the Trainer itself counts.

    Raises:
        PlanError: A fit without a single step.
    """
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()
    horizon = _horizon(trainer, trainer.num_training_batches, trainer.train_dataloader)
    if trainer.ckpt_path is not None:
        # A loader gets its saved position back where Lightning sets the data up, once, and now is too early: the loops'
        # state is read after configure_optimizers. So let it be set up again.
        trainer.fit_loop._combined_loader = None
    return horizon


def planned_horizon(trainer: Trainer, data: LightningDataModule) -> Horizon:
    """The horizon that a fit would have, without starting it or its processes.

    Args:
        trainer: Not yet used.
        data: Prepared and set up here, as a fit would.

    Raises:
        PlanError: A fit without a single step.
    """
    data.trainer = trainer
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    limit = trainer.limit_train_batches
    batches = _batches_of_one_rank(loader, trainer.world_size)
    if limit is not None and not (batches == math.inf and isinstance(limit, float)):
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return _horizon(trainer, batches, loader)


def _horizon(trainer: Trainer, batches: float, loader: Any) -> Horizon:
    _check_counts(trainer)
    accumulated = trainer.accumulate_grad_batches
    max_epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
    settings: dict[str, float] = {"trainer.max_epochs": max_epochs, "trainer.max_steps": trainer.max_steps}
    settings["trainer.limit_train_batches"] = 1 if trainer.limit_train_batches is None else trainer.limit_train_batches
    mistakes = [
        Mistake(key, "the run would not take a single optimizer step", given=repr(value), remedy=f"raise {key}")
        for key, value in settings.items()
        if value == 0
    ]
    if batches == 0 and trainer.limit_train_batches != 0:
        limited = trainer.limit_train_batches not in (None, 1.0)
        key, given = ("trainer.limit_train_batches", repr(trainer.limit_train_batches)) if limited else ("data", None)
        remedy = "raise the limit" if limited else "give more data, or smaller batches"
        mistakes.append(Mistake(key, "there is not one batch to train on", given=given, remedy=remedy))
    if mistakes:
        raise PlanError(*mistakes)
    per_epoch = None if batches == math.inf else math.ceil(batches / accumulated)
    total: float = math.inf if per_epoch is None or max_epochs == -1 else per_epoch * max_epochs
    if trainer.max_steps != -1:
        total = min(total, trainer.max_steps)
    size = getattr(loader, "batch_size", None)
    samples = size * accumulated * trainer.world_size if isinstance(size, int) else None
    return Horizon(total, per_epoch, samples)


def _check_counts(trainer: Trainer) -> None:
    """Refuse what no horizon can be made of."""
    counts: dict[str, Any] = {name: getattr(trainer, name) for name in ("max_steps", "accumulate_grad_batches")}
    if trainer.max_epochs is not None:
        counts["max_epochs"] = trainer.max_epochs
    mistakes = [
        Mistake(f"trainer.{name}", "a whole number is needed", repr(value), ("an integer",), remedy="correct the value")
        for name, value in counts.items()
        if not isinstance(value, int) or (name == "accumulate_grad_batches" and value < 1)
    ]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set in its constructor by a helper
        name = type(callback).__name__
        if isinstance(callback, GradientAccumulationScheduler) and len({*callback.scheduling.values()}) > 1:
            problem, remedy = f"{name} changes what a step is in mid-run", "set trainer.accumulate_grad_batches instead"
        elif isinstance(callback, StochasticWeightAveraging):
            problem, remedy = f"{name} replaces the plan's schedules", "use lightning's WeightAveraging instead"
        else:
            continue
        mistakes.append(Mistake("callbacks", problem, remedy=remedy))
    if mistakes:
        raise PlanError(*mistakes)


def _batches_of_one_rank(loader: Any, world_size: int) -> float:
    """Batches an epoch; Lightning gives a plain DataLoader a DistributedSampler, which shares the samples out."""
    try:
        batches = len(loader)
    except (TypeError, NotImplementedError):  # a stream; a DataLoader over one has a __len__ that raises
        return math.inf
    if world_size == 1 or not isinstance(loader, DataLoader) or not isinstance(loader.dataset, Sized):
        return batches
    if loader.batch_size is None or isinstance(loader.sampler, DistributedSampler):
        return batches
    samples = math.ceil(len(loader.dataset) / world_size)
    return samples // loader.batch_size if loader.drop_last else math.ceil(samples / loader.batch_size)
