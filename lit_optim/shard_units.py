"""Which modules of a model FSDP2 gathers at a time: its repeated blocks, each by itself, and all the rest together."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.distributed.fsdp import FSDPModule

from lit_optim.structure import blocks_of, holders_of, unwrapped

__all__ = ["sharded_in", "units_of"]


def units_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules to hand to ``fully_shard``, in this order.

    A block is a unit if it is called as a whole (a ModuleList isn't) and has its parameters to itself: one that is tied
    to a parameter elsewhere can't be gathered twice. A module in a wrapper (``torch.compile``, activation
    checkpointing) is a unit together with it.

    Returns:
        By qualified name without wrapper prefixes; last, under the empty name, the model itself with what is left.
    """
    whole: dict[int, nn.Module] = {}
    for module in model.modules():
        whole.setdefault(id(unwrapped(module)), module)
    holding: dict[int, set[int]] = {}
    for _, module, own in holders_of(model):
        for _, parameter in own:
            holding.setdefault(id(parameter), set()).add(id(module))
    units: dict[int, tuple[str, nn.Module]] = {}
    for name, block in blocks_of(model):
        inside = {id(module) for module in block.modules()}
        alone = all(holding[id(parameter)] <= inside for parameter in block.parameters())
        if alone and type(block).forward is not nn.Module.forward:
            units.setdefault(id(block), (name, whole[id(block)]))
    return {**dict(units.values()), "": model}


def sharded_in(model: nn.Module) -> list[str]:
    """The units that a model has been shared out in, by qualified name without wrapper prefixes, outer ones last."""
    seen: set[int] = set()

    def walk(module: nn.Module, name: str) -> Iterator[str]:
        if id(module) in seen:
            return
        seen.add(id(module))
        inside = unwrapped(module)
        for child, part in inside._modules.items():
            if part is not None:
                yield from walk(part, f"{name}.{child}" if name else child)
        if isinstance(module, FSDPModule) or isinstance(inside, FSDPModule):
            yield name

    return [*walk(model, "")]
