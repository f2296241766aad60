"""FSDP2 for a module that doesn't shard itself: ``configure_model``, and what the plan says of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.nn.parameter import is_lazy

from lit_optim.errors import ConfigError, Mistake
from lit_optim.plan import Plan
from lit_optim.shard_units import sharded_in, units_of

__all__ = ["as_on_rank_zero", "listing_units", "share_out", "supply_configure_model"]

_STEPS = ("training_step", "validation_step", "test_step", "predict_step")


def supply_configure_model(module: LightningModule) -> None:
    """Give a module ``share_out`` for its ``configure_model``, where the strategy needs one and it has none of its own.

    Of this instance, and under such a strategy alone: Lightning takes a module with the hook for one that makes its
    layers in it, and its WeightAveraging warns.

    Args:
        module: In its ``setup``, which comes before.

    Raises:
        ConfigError: FSDP2 can't do what is asked for.
    """
    if isinstance(module.trainer.strategy, ModelParallelStrategy):
        _check_fits(module.trainer, module)
        if not is_overridden("configure_model", module):
            module.configure_model = functools.partial(share_out, module)  # type: ignore[method-assign]


def _check_fits(trainer: Trainer, module: LightningModule) -> None:
    """Refuse what Lightning would leave out without a word, and torch tell in the middle of the run."""
    mistakes = []
    if trainer.strategy._layer_sync is not None:  # type: ignore[attr-defined]  # of strategies with several devices
        problem = "under FSDP2 each BatchNorm counts the samples of its own device alone"
        mistakes.append(Mistake("trainer.sync_batchnorm", problem, remedy="use trainer=ddp, or leave it out"))
    its_own = is_overridden("configure_model", module)  # which may leave such parameters alone
    for name, inside in () if its_own else module.named_modules():
        if isinstance(inside, nn.Embedding | nn.EmbeddingBag) and inside.sparse and inside.weight.requires_grad:
            problem, remedy = "FSDP2 shares out no sparse gradients", "make it dense, or use trainer=ddp"
            mistakes.append(Mistake("model", problem, given=f"{name} (sparse=True)", remedy=remedy))
    for name, parameter in () if its_own else module.named_parameters():
        if not is_lazy(parameter) and 0 in (parameter.dim(), parameter.numel()):
            problem = "FSDP2 shares parameters out along their first dimension, and this one has none"
            problem = problem if parameter.numel() else "FSDP2 can't share out a parameter that holds no numbers"
            remedy = "give it the shape (1,)" if parameter.numel() else "leave it out"
            given = f"{name}, of shape {tuple(parameter.shape)}"
            mistakes.append(Mistake("model", problem, given, remedy=f"{remedy}, or use trainer=ddp"))
    if mistakes:
        raise ConfigError(*mistakes)


def share_out(module: LightningModule) -> None:
    """Share the parameters out over the devices, a unit at a time (see `units_of`); once for fit and test.

    They begin as rank zero's, as under DistributedDataParallel. Names stay as they are. The module's steps gather what
    no block has, as its ``forward`` would: Lightning calls them and not that, and they may use any parameter.

    Raises:
        ConfigError: A mesh with tensor parallelism, which no module has by itself.
    """
    if module.device_mesh is None or isinstance(module, FSDPModule):
        return
    tensor_parallel = module.device_mesh["tensor_parallel"].size()
    if tensor_parallel > 1:  # each of these devices would train a network of its own
        remedy = "use trainer=fsdp, or set trainer.strategy.tensor_parallel_size=1"
        problem = "this module shares out data and parameters, and can't split a layer"
        key = "trainer.strategy.tensor_parallel_size"
        raise ConfigError(Mistake(key, problem, given=str(tensor_parallel), remedy=remedy))
    as_on_rank_zero((*module.parameters(), *module.buffers()), module.device_mesh.device_type)
    for unit in units_of(module).values():
        fully_shard(unit, mesh=module.device_mesh["data_parallel"])
    for step in _STEPS:
        if is_overridden(step, module):
            register_fsdp_forward_method(module, step)


def as_on_rank_zero(tensors: Iterable[Tensor], device: str) -> None:
    """Give every process the values that rank zero has.

    Args:
        tensors: The same in every process; one that is still to be made (on the device ``meta``) stays as it is.
        device: The kind of device that the processes talk through.
    """
    for tensor in tensors:
        if tensor.numel() and not tensor.is_meta:
            value = tensor.detach().to(device).contiguous()
            torch.distributed.broadcast(value.reshape(-1).view(torch.uint8), 0)  # bytes: a backend lacks some types
            tensor.detach().copy_(value)


def listing_units(plan: Plan, trainer: Trainer, module: LightningModule) -> Plan:
    """The plan with the units that FSDP2 gathers: those that there are, or those that `share_out` is going to make.

    Raises:
        ConfigError: FSDP2 can't do what is asked for.
    """
    if not isinstance(trainer.strategy, ModelParallelStrategy):
        return plan
    _check_fits(trainer, module)
    units = sharded_in(module) or ([] if is_overridden("configure_model", module) else [*units_of(module)])
    return replace(plan, shard_units=tuple(units))
