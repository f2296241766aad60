"""What a module is: norm, embedding, linear, conv, or the output head, by identity and not by its attribute's name."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from lit_optim.structure import (
    Block,
    children_of,
    holds_matrix,
    is_composite,
    leaves_of,
    parameters_of,
    repeated_in,
    unwrapped,
)

__all__ = ["KINDS", "heads_of"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_ASKS = ("get_output_embeddings", "get_classifier")
_CONV1D = "transformers.pytorch_utils.Conv1D"  # GPT-2's linear layer, its weight transposed


def _is_norm(module: nn.Module) -> bool:
    """torch's norms, and classes that say so and hold vectors alone: LlamaRMSNorm, T5LayerNorm, LayerNorm2d."""
    if isinstance(module, _NORMS):
        return True
    if "norm" not in type(module).__name__.lower() or is_composite(module):  # a NormFreeBlock is none
        return False
    return bool(parameters_of(module)) and not holds_matrix(module)


def _is_embedding(module: nn.Module) -> bool:
    """torch's embeddings, and classes that say so and hold a table of their own: VocabParallelEmbedding."""
    if isinstance(module, _EMBEDDINGS):
        return True
    return "embedding" in type(module).__name__.lower() and holds_matrix(module)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.Bilinear)) or any(
        f"{cls.__module__}.{cls.__qualname__}" == _CONV1D for cls in type(module).__mro__
    )


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd)


def _is_depthwise_conv(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and module.groups == module.in_channels > 1


KINDS: Mapping[str, Callable[[nn.Module], bool]] = {
    "norm": _is_norm,
    "embedding": _is_embedding,
    "linear": _is_linear,
    "conv": _is_conv,
    "depthwise_conv": _is_depthwise_conv,
}
"""What ``match: {module: …}`` calls by a plain word, beside ``head``, which depends on the whole model."""


def heads_of(model: nn.Module, leaves: Sequence[Block] | None = None) -> set[int]:
    """The ids of the modules that make a model's output.

    In this order: what the model itself says is its head (``get_output_embeddings`` of transformers,
    ``get_classifier`` of timm); a linear layer that shares its weight with an embedding; and the last layer that holds
    a matrix, as long as it stands behind the repeated blocks and not inside of one, and not inside of a model that has
    named its head. Where that is linear, the linear layers right before it in its module that take the same input, and
    whose output it can't take, are heads beside it.

    Args:
        model: Any module.
        leaves: Its modules with parameters, where they are known already.
    """
    model = unwrapped(model)
    leaves = list(leaves_of(model)) if leaves is None else leaves
    declared = list(_declared(model))
    heads = {id(leaf) for _, said in declared for head in said for _, leaf in leaves_of(head) if not _is_norm(leaf)}
    tables = {id(parameter) for _, leaf in leaves if _is_embedding(leaf) for _, parameter in parameters_of(leaf)}
    if tables:
        linear = (leaf for _, leaf in leaves if _is_linear(leaf))
        heads |= {id(leaf) for leaf in linear if any(id(parameter) in tables for _, parameter in parameters_of(leaf))}
    if declared or not heads:
        spoken_for = {id(leaf) for owner, _ in declared for _, leaf in leaves_of(owner)}
        last = next(
            ((name, leaf) for name, leaf in reversed(leaves) if holds_matrix(leaf) and not _is_norm(leaf)), None
        )
        if last is not None and id(last[1]) not in spoken_for:
            heads |= {id(head) for head in _heads_up_to(model, *last)}
    return heads


def _heads_up_to(model: nn.Module, name: str, last: nn.Module) -> Iterator[nn.Module]:
    """The last layer with a matrix and its like beside it; none where it is an embedding, or a part of a block."""
    here, home = model, model
    for part in name.split(".") if name else ():
        home, inside = here, dict(children_of(here))[part]
        if isinstance(here, nn.MultiheadAttention) or part in dict(repeated_in(here)):
            return
        here = inside
    if not _is_layer(last) or _is_embedding(last):
        return
    yield last
    if isinstance(last, nn.Linear) and not isinstance(home, nn.Sequential):
        holding = (child for _, child in reversed(children_of(home)) if any(leaves_of(child)))
        before = itertools.dropwhile(lambda child: child is not last, holding)
        yield from itertools.takewhile(lambda child: child is last or _is_beside(child, last), before)


def _is_beside(other: nn.Module, last: nn.Linear) -> bool:
    """Whether another linear layer takes the same input, and gives what the last can't take: they are no chain."""
    return isinstance(other, nn.Linear) and other.in_features == last.in_features != other.out_features


def _is_layer(module: nn.Module) -> bool:
    """Whether it is one layer, and neither a mere collection of parameters nor a model that holds some itself."""
    if isinstance(module, (nn.ParameterList, nn.ParameterDict, nn.RNNBase, nn.MultiheadAttention)):
        return False
    return _is_linear(module) or _is_conv(module) or not is_composite(module)


def _declared(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """The outermost modules that can say what their head is, each with what it says."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        cls: type = type(module)
        said = [head for ask in _asks_of(cls) for head in _answer(module, ask)]
        if said:
            yield module, said
        elif module._modules:
            waiting += [unwrapped(child) for child in module._modules.values() if child is not None]


@functools.cache  # a model has many modules of few classes
def _asks_of(cls: type) -> tuple[str, ...]:
    return tuple(ask for ask in _ASKS if hasattr(cls, ask))


def _answer(module: nn.Module, ask: str) -> list[nn.Module]:
    try:
        said = getattr(module, ask)()
    except Exception:  # a base class whose subclass doesn't implement it
        return []
    heads = said if isinstance(said, (tuple, list)) else [said]
    return [unwrapped(head) for head in heads if isinstance(head, nn.Module) and any(leaves_of(head))]
