"""What a model is made of, told from its modules and not from their names: wrappers, leaves, blocks."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import torch
from torch import nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

__all__ = [
    "Block",
    "Holder",
    "blocks_of",
    "children_of",
    "compiled_in",
    "holders_of",
    "holds_matrix",
    "is_compiled",
    "is_composite",
    "leaves_of",
    "parameters_of",
    "repeated_in",
    "shape_of",
    "unwrapped",
]

Block = tuple[str, nn.Module]
"""A module with its qualified name, without wrapper prefixes."""

Holder = tuple[str, nn.Module, list[tuple[str, nn.Parameter]]]
"""A block with the parameters of its own, by their names in it."""

_PARAMETRIZATIONS = "parametrizations"  # the child that torch.nn.utils.parametrize gives a module
_STACKS = (nn.Sequential, nn.ModuleList)
_FLATTENER = "_fsdp_wrapped_module"
_LATE_WRAPPERS = (  # looked up only where their package is imported: elsewhere no module can be one
    ("torch.distributed.fsdp", "FullyShardedDataParallel", _FLATTENER),
    ("torch.distributed.algorithms._checkpoint.checkpoint_wrapper", "ActivationWrapper", "_checkpoint_wrapped_module"),
    ("torch.optim.swa_utils", "AveragedModel", "module"),
)


def is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` runs it: wrapped, or in place (``module.compile()``)."""
    return isinstance(module, OptimizedModule) or module._compiled_call_impl is not None


def compiled_in(module: nn.Module, name: str = "") -> Iterator[str]:
    """The names of the outermost modules that ``torch.compile`` runs; empty for the model itself."""
    if is_compiled(module):
        yield name
        return
    for child_name, child in module.named_children():
        yield from compiled_in(child, f"{name}.{child_name}" if name else child_name)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of what ``torch.compile``, (D)DP, FSDP, activation checkpointing or averaging put around it.

    They are told by their class: a user's own attribute called ``module`` is no wrapper.
    """
    while True:
        cls: type = type(module)
        inside = _inside(cls)
        if inside is None:
            return module
        if inside == _FLATTENER:
            _note_shapes(module)
        module = getattr(module, inside)


@functools.cache  # a model has many modules of few classes
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


_whole_shapes: WeakIdKeyDictionary = WeakIdKeyDictionary()  # by parameter: only FSDP's wrapper knows them


def _note_shapes(wrapper: nn.Module) -> None:
    """Note what the parameters are that FSDP (``use_orig_params=True``) cuts into flat pieces, one a process."""
    flat = getattr(getattr(wrapper, "_handle", None), "flat_param", None)
    for parameter, shape in zip(getattr(flat, "_params", None) or (), getattr(flat, "_shapes", ()), strict=False):
        _whole_shapes[parameter] = shape


def shape_of(parameter: nn.Parameter) -> torch.Size | None:
    """The shape of the whole parameter, whatever piece of it is here; None where it is still unknown (lazy)."""
    if is_lazy(parameter):
        return None
    return _whole_shapes[parameter] if _whole_shapes.data and parameter in _whole_shapes else parameter.shape


def parameters_of(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters of its own, by name; those from which a parametrization makes its tensors are among them.

    ``weight_norm`` turns ``weight`` into ``parametrizations.weight.original0`` and ``…1``: they are still the layer's.
    """
    own = [(name, parameter) for name, parameter in module._parameters.items() if parameter is not None]
    if _PARAMETRIZATIONS in module._modules:
        behind = module._modules[_PARAMETRIZATIONS]
        own += () if behind is None else behind.named_parameters(_PARAMETRIZATIONS, remove_duplicate=False)
    return own


def children_of(module: nn.Module) -> list[Block]:
    """The direct children, unwrapped, in the order of their definition."""
    return [
        (name, unwrapped(child))
        for name, child in module._modules.items()
        if child is not None and name != _PARAMETRIZATIONS
    ]


def holders_of(model: nn.Module) -> list[Holder]:
    """Every module that holds parameters of its own, under every one of its names, in the order of their definition."""
    found: list[Holder] = []
    above: set[int] = set()

    def walk(module: nn.Module, path: str) -> None:
        if id(module) in above:  # a module that holds itself
            return
        children = module._modules
        own = parameters_of(module) if module._parameters or _PARAMETRIZATIONS in children else None
        if own:
            found.append((path, module, own))
        if children:
            above.add(id(module))
            for name, child in children.items():
                if child is not None and name != _PARAMETRIZATIONS:
                    walk(unwrapped(child), f"{path}.{name}" if path else name)
            above.discard(id(module))

    walk(unwrapped(model), "")
    return found


def leaves_of(module: nn.Module, prefix: str = "") -> Iterator[Block]:
    """Every module below (itself included) that holds parameters of its own, once, in the order of their definition."""
    seen: set[int] = set()

    def walk(here: nn.Module, name: str) -> Iterator[Block]:
        if id(here) in seen:
            return
        seen.add(id(here))
        if parameters_of(here):
            yield name, here
        for child_name, child in children_of(here) if here._modules else ():
            yield from walk(child, f"{name}.{child_name}" if name else child_name)

    yield from walk(unwrapped(module), prefix)


def holds_matrix(module: nn.Module) -> bool:
    """Whether a parameter of its own is known to have two dimensions or more."""
    shapes = (shape_of(parameter) for _, parameter in parameters_of(module))
    return any(shape is not None and len(shape) >= 2 for shape in shapes)


def is_composite(module: nn.Module) -> bool:
    """Whether it is built of several modules with parameters: a block and not a layer."""
    return sum(1 for _ in islice(leaves_of(module), 2)) > 1


def repeated_in(module: nn.Module) -> list[Block]:
    """The composite children of a Sequential or ModuleList, if two or more of them are of one make; else nothing.

    Of one make are modules of the same class, or plain containers that hold the same classes, however often, in the
    same order: a Sequential of *features* and *classifier* repeats nothing.
    """
    if not isinstance(module, _STACKS):
        return []
    composite = [(name, child) for name, child in children_of(module) if is_composite(child)]
    makes = Counter(map(_make, (child for _, child in composite)))
    return composite if max(makes.values(), default=0) > 1 else []


def _make(module: nn.Module) -> tuple[type, ...]:
    inside = dict.fromkeys(type(child) for _, child in children_of(module)) if isinstance(module, _STACKS) else ()
    return (type(module), *inside)


def blocks_of(model: nn.Module) -> list[Block]:
    """The blocks that a model repeats, in order: of a transformer its layers, of a ResNet its residual blocks.

    Where the repeated children of a container are alike (more than half of them begin with the same layer, of the same
    shape) they are the blocks, whatever they repeat themselves, such as attention heads or experts; where they are not
    (stages of growing width), the blocks are looked for inside of each. Plain runs of layers, such as convolution and
    norm, are blocks of a model or of a stage, and parts of a block that has a class of its own.

    Returns:
        The blocks with their qualified names; empty for a model that repeats nothing.
    """
    return list(_blocks(unwrapped(model), "", frozenset()))


def _blocks(
    module: nn.Module, name: str, above: frozenset[int], is_repeated: bool = False, in_block: bool = False
) -> Iterator[Block]:
    """The blocks below a module.

    Args:
        module: Where to look.
        name: Its qualified name.
        above: The ids of the modules that hold it.
        is_repeated: Whether it, or a module above, is one of those that a container repeats.
        in_block: Whether a module above that is repeated has a class of its own.
    """
    if id(module) in above:  # a module that holds itself
        return
    above |= {id(module)}
    in_block = in_block or (is_repeated and not isinstance(module, _STACKS))
    repeated = dict(repeated_in(module))
    if in_block and all(map(_is_run, repeated.values())):
        repeated = {}
    alike = bool(repeated) and _are_alike(list(repeated.values()))
    for child, part in children_of(module):
        path = f"{name}.{child}" if name else child
        inside = [] if alike else list(_blocks(part, path, above, is_repeated or child in repeated, in_block))
        if inside:
            yield from inside
        elif child in repeated:
            yield _only_block(path, part)


def _only_block(name: str, part: nn.Module) -> Block:
    """A repeated part, or what a plain container around it holds: EfficientNet has stages of one block."""
    inside = [(f"{name}.{child}", block) for child, block in children_of(part) if is_composite(block)]
    return _only_block(*inside[0]) if isinstance(part, _STACKS) and len(inside) == 1 else (name, part)


def _is_run(part: nn.Module) -> bool:
    """Whether it is a plain container of single layers."""
    return isinstance(part, _STACKS) and not any(is_composite(child) for _, child in children_of(part))


def _are_alike(parts: list[nn.Module]) -> bool:
    if isinstance(parts[0], _STACKS):  # a container in a container: a stage without a class of its own
        return False
    looks = Counter(map(_first_layer, parts))
    return looks.most_common(1)[0][1] * 2 > len(parts)


def _first_layer(part: nn.Module) -> tuple[object, ...]:
    _, leaf = next(leaves_of(part))  # composite, so there is one
    return type(leaf), *(shape_of(parameter) for _, parameter in parameters_of(leaf))
