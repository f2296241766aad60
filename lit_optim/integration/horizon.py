"""How long a Trainer will train, in optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging, Timer
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from lit_optim.durations import Horizon, steps_before
from lit_optim.errors import Mistake, PlanError
from lit_optim.integration.shares import share_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, Trainer

    from lit_optim.integration.checkpoint import Checkpoint
    from lit_optim.plan import Plan

__all__ = ["accumulation_schedulers", "fitting_horizon", "planned_horizon", "warned_of_time", "warning_of_end"]

_LIGHTNINGS_EPOCHS = 1000  # where nothing else ends a run


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
    batches = _batches_of_one_share(loader, share_of(trainer).replicas)
    if limit is not None and not (batches == math.inf and isinstance(limit, float)):
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return _horizon(trainer, batches, loader)


def warned_of_time(plan: Plan, trainer: Trainer) -> Plan:
    """The plan, with a warning where ``trainer.max_time`` (or a Timer) may end the run while its schedules go on."""
    limited = any(isinstance(one, Timer) and one.time_remaining() is not None for one in _callbacks(trainer))
    if not limited or not plan.horizon.is_bounded or not any(group.schedules for group in plan.groups):
        return plan
    warning = (
        f"trainer.max_time: the run may end before its schedules do, at step {plan.horizon.total_steps:,}; set "
        "trainer.max_steps to what fits into the time, or take the limit away"
    )
    return replace(plan, warnings=(*plan.warnings, warning))


def warning_of_end(trainer: Trainer, horizon: Horizon, checkpoint: Checkpoint) -> str | None:
    """What is to be said of a fit that ends before its schedules or after them, since its epochs had another length.

    Args:
        trainer: Of the fit.
        horizon: Of its plan, which is that of a run with all its epochs as they are now.
        checkpoint: From which it goes on.
    """
    before, max_epochs = checkpoint.plan, _max_epochs(trainer)
    if before is None or not horizon.is_bounded or horizon.epoch_steps or max_epochs == -1:
        return None
    if horizon.steps_per_epoch in (None, before.horizon.steps_per_epoch):
        return None
    progress = checkpoint.content["loops"]["fit_loop"]
    batches, epochs = progress["epoch_loop.batch_progress"], progress["epoch_progress"]["current"]
    is_over = batches["is_last_batch"] or epochs["processed"] == epochs["ready"]
    begun = batches["current"]["processed"] // trainer.accumulate_grad_batches
    begun = 0 if is_over or begun > horizon.steps_per_epoch else begun  # Lightning begins a shorter one again
    end = checkpoint.step + (max_epochs - epochs["ready"] + (not is_over)) * horizon.steps_per_epoch - begun
    end = end if trainer.max_steps == -1 else min(end, trainer.max_steps)
    if end == horizon.total_steps:
        return None
    return (
        f"trainer.max_epochs: the run ends at step {end:,}, and its schedules at step {horizon.total_steps:,}, since "
        f"epochs had {before.horizon.steps_per_epoch} steps before the checkpoint and have {horizon.steps_per_epoch} "
        f"now; trainer.max_epochs=-1 trainer.max_steps={end} has them end together"
    )


def _horizon(trainer: Trainer, batches: float, loader: Any) -> Horizon:
    _check_counts(trainer)
    accumulated = _accumulated(trainer)
    max_epochs = _max_epochs(trainer)
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
    total: float = math.inf if trainer.max_steps == -1 else trainer.max_steps
    epochs: list[tuple[int, int]] = []
    if batches != math.inf:
        epochs = [(first, math.ceil(batches / many)) for first, many in accumulated.items()]
        total = total if max_epochs == -1 else min(total, steps_before(max_epochs, epochs))
        epochs = [(first, steps) for first, steps in epochs if steps_before(first, epochs) < total]
        accumulated = {first: accumulated[first] for first, _ in epochs}  # the rest is after the end
    size = getattr(loader, "batch_size", None)
    shares = share_of(trainer).replicas
    together = {size * many * shares if isinstance(size, int) else None for many in accumulated.values()}
    samples = together.pop() if len(together) == 1 else None
    differing = tuple(next(alike) for _, alike in groupby(epochs, key=lambda epoch: epoch[1]))
    return Horizon(total, epochs[0][1] if epochs else None, samples, differing if len(differing) > 1 else ())


def _max_epochs(trainer: Trainer) -> int:
    """As a fit will fill it in; -1 for no end."""
    if trainer.max_epochs is not None:
        return trainer.max_epochs
    ends_otherwise = trainer.max_steps != -1 or any(isinstance(one, Timer) for one in _callbacks(trainer))
    return -1 if ends_otherwise else _LIGHTNINGS_EPOCHS


def _accumulated(trainer: Trainer) -> Mapping[int, int]:
    """Micro-batches behind a step, by the first epoch in which it is so many."""
    schedulers = accumulation_schedulers(trainer)
    if not schedulers:
        return {0: trainer.accumulate_grad_batches}
    return {epoch: schedulers[-1].scheduling[epoch] for epoch in sorted(schedulers[-1].scheduling)}


def accumulation_schedulers(trainer: Trainer) -> list[GradientAccumulationScheduler]:
    """Lightning's callbacks that change the accumulation by epoch; the last one has the last word."""
    return [one for one in _callbacks(trainer) if isinstance(one, GradientAccumulationScheduler)]


def _callbacks(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set in its constructor by a helper
    return callbacks


def _check_counts(trainer: Trainer) -> None:
    """Refuse what no horizon can be made of."""
    counts: dict[str, Any] = {name: getattr(trainer, name) for name in ("max_steps", "accumulate_grad_batches")}
    if trainer.max_epochs is not None:
        counts["max_epochs"] = trainer.max_epochs
    mend = "correct the value"
    mistakes = [
        Mistake(
            f"trainer.{name}", f"a whole number{above} is needed", repr(value), (f"an integer{above}",), remedy=mend
        )
        for name, value in counts.items()
        for above in (" above 0" if name == "accumulate_grad_batches" else "",)
        if not isinstance(value, int) or isinstance(value, bool) or (above and value < 1)
    ]
    if accumulation_schedulers(trainer) and trainer.accumulate_grad_batches != 1:
        problem, given = "a GradientAccumulationScheduler says this as well", repr(trainer.accumulate_grad_batches)
        remedy = "leave this at 1, or remove the callback"
        mistakes.append(Mistake("trainer.accumulate_grad_batches", problem, given, remedy=remedy))
    if any(isinstance(callback, StochasticWeightAveraging) for callback in _callbacks(trainer)):
        problem = "StochasticWeightAveraging replaces the plan's schedules"
        mistakes.append(Mistake("callbacks", problem, remedy="use lightning's WeightAveraging instead"))
    if mistakes:
        raise PlanError(*mistakes)


def _batches_of_one_share(loader: Any, shares: int) -> float:
    """Batches an epoch; Lightning gives a plain DataLoader a DistributedSampler, which shares the samples out."""
    try:
        batches = len(loader)
    except (TypeError, NotImplementedError):  # a stream; a DataLoader over one has a __len__ that raises
        return math.inf
    if shares == 1 or not isinstance(loader, DataLoader) or not isinstance(loader.dataset, Sized):
        return batches
    if loader.batch_size is None or isinstance(loader.sampler, DistributedSampler):
        return batches
    samples = math.ceil(len(loader.dataset) / shares)
    return samples // loader.batch_size if loader.drop_last else math.ceil(samples / loader.batch_size)
