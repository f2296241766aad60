"""What a model is made of, told from its modules and not from their names: wrappers, leaves, blocks."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from torch import nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel

__all__ = ["Block", "blocks_of", "children_of", "is_composite", "leaves_of", "repeated_in", "unwrapped"]

Block = tuple[str, nn.Module]
"""A module with its qualified name, without wrapper prefixes."""

_STACKS = (nn.Sequential, nn.ModuleList)
_LATE_WRAPPERS = (  # looked up only where their package is imported: elsewhere no module can be one
    ("torch.distributed.fsdp", "FullyShardedDataParallel", "_fsdp_wrapped_module"),
    ("torch.distributed.algorithms._checkpoint.checkpoint_wrapper", "ActivationWrapper", "_checkpoint_wrapped_module"),
    ("torch.optim.swa_utils", "AveragedModel", "module"),
)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of what ``torch.compile``, (D)DP, FSDP, activation checkpointing or averaging put around it.

    They are told by their class: a user's own attribute called ``module`` is no wrapper.
    """
    while True:
        cls = type(module)
        if cls not in _inside_of:
            _inside_of[cls] = _inside(cls)
        inside = _inside_of[cls]
        if inside is None:
            return module
        module = getattr(module, inside)


_inside_of: dict[type, str | None] = {}  # looked up once a class: a model has many modules of few classes


def _inside(cls: type) -> str | None:
    """The attribute that holds the wrapped module; None for what is no wrapper."""
    if issubclass(cls, OptimizedModule):
        return "_orig_mod"
    if issubclass(cls, (DataParallel, DistributedDataParallel)):
        return "module"
    for package, name, attribute in _LATE_WRAPPERS:
        wrapper = getattr(sys.modules.get(package), name, None)
        if wrapper is not None and issubclass(cls, wrapper):
            return attribute
    return None


def children_of(module: nn.Module) -> list[Block]:
    """The direct children, unwrapped, in the order of their definition."""
    return [(name, unwrapped(child)) for name, child in module._modules.items() if child is not None]


def leaves_of(module: nn.Module, prefix: str = "") -> Iterator[Block]:
    """Every module below (itself included) that holds parameters of its own, in the order of their definition."""
    seen: set[int] = set()

    def walk(here: nn.Module, name: str) -> Iterator[Block]:
        if id(here) in seen:
            return
        seen.add(id(here))
        if any(parameter is not None for parameter in here._parameters.values()):
            yield name, here
        for child_name, child in children_of(here) if here._modules else ():
            yield from walk(child, f"{name}.{child_name}" if name else child_name)

    yield from walk(unwrapped(module), prefix)


def is_composite(module: nn.Module) -> bool:
    """Whether it is built of several modules with parameters: a block and not a layer."""
    return sum(1 for _ in islice(leaves_of(module), 2)) > 1


def repeated_in(module: nn.Module) -> list[Block]:
    """The composite children of a Sequential or ModuleList, if two or more of them are of one make; else nothing.

    Of one make are modules of the same class, or plain containers that hold the same classes in the same order: a
    Sequential of *features* and *classifier* repeats nothing.
    """
    if not isinstance(module, _STACKS):
        return []
    composite = [(name, child) for name, child in children_of(module) if is_composite(child)]
    makes = Counter(map(_make, (child for _, child in composite)))
    return composite if max(makes.values(), default=0) > 1 else []


def _make(module: nn.Module) -> tuple[type, ...]:
    inside = (type(child) for _, child in children_of(module)) if isinstance(module, _STACKS) else ()
    return (type(module), *inside)


def blocks_of(model: nn.Module) -> list[Block]:
    """The blocks that a model repeats, in order: of a transformer its layers, of a ResNet its residual blocks.

    Where the repeated children of a container are alike (the same class and shapes in more than half of them) they are
    the blocks, whatever they repeat themselves, such as attention heads or experts; where they are not (stages of
    growing width), the blocks are looked for inside of each.

    Returns:
        The blocks with their qualified names; empty for a model that repeats nothing.
    """
    return list(_blocks(unwrapped(model), "", set()))


def _blocks(module: nn.Module, name: str, above: set[int]) -> Iterator[Block]:
    if id(module) in above:  # a module that holds itself
        return
    above = above | {id(module)}
    repeated = dict(repeated_in(module))
    alike = bool(repeated) and _are_alike(list(repeated.values()))
    for child, part in children_of(module):
        path = f"{name}.{child}" if name else child
        inside = [] if alike else list(_blocks(part, path, above))
        if inside:
            yield from inside
        elif child in repeated:
            yield _only_block(path, part)


def _only_block(name: str, part: nn.Module) -> Block:
    """A repeated part, or what a plain container around it holds: EfficientNet has stages of one block."""
    inside = [(f"{name}.{child}", block) for child, block in children_of(part) if is_composite(block)]
    return _only_block(*inside[0]) if isinstance(part, _STACKS) and len(inside) == 1 else (name, part)


def _are_alike(parts: list[nn.Module]) -> bool:
    if isinstance(parts[0], _STACKS):  # a container in a container: a stage without a class of its own
        return False
    looks = Counter(
        (type(part), tuple(tuple(parameter.shape) for _, leaf in leaves_of(part) for parameter in _own(leaf)))
        for part in parts
    )
    return looks.most_common(1)[0][1] * 2 > len(parts)


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in module._parameters.values() if parameter is not None)
