"""What a module is: norm, embedding, linear, conv, or the output head, by identity and not by its attribute's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from lit_optim.structure import Block, children_of, leaves_of, repeated_in, unwrapped

__all__ = ["KINDS", "heads_of"]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_ASKS = ("get_output_embeddings", "get_classifier")
_CONV1D = "transformers.pytorch_utils.Conv1D"  # GPT-2's linear layer, its weight transposed


def _is_norm(module: nn.Module) -> bool:
    """torch's norms, and classes that say so and hold vectors alone: LlamaRMSNorm, T5LayerNorm, LayerNorm2d."""
    if isinstance(module, _NORMS):
        return True
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    return "norm" in type(module).__name__.lower() and bool(own) and not _holds_matrix(module)


def _is_embedding(module: nn.Module) -> bool:
    """torch's embeddings, and classes that say so and hold a table of their own: VocabParallelEmbedding."""
    if isinstance(module, _EMBEDDINGS):
        return True
    return "embedding" in type(module).__name__.lower() and _holds_matrix(module)


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
    ``get_classifier`` of timm); a linear layer that shares its weight with an embedding; and the last module that holds
    a matrix, as long as it stands behind the repeated blocks and not inside of one, and not inside of a model that has
    named its head.

    Args:
        model: Any module.
        leaves: Its modules with parameters, where they are known already.
    """
    model = unwrapped(model)
    leaves = list(leaves_of(model)) if leaves is None else leaves
    declared = list(_declared(model))
    heads = {id(leaf) for _, said in declared for head in said for _, leaf in leaves_of(head) if not _is_norm(leaf)}
    tables = {id(leaf._parameters.get("weight")) for _, leaf in leaves if _is_embedding(leaf)}
    if tables:
        heads |= {id(leaf) for _, leaf in leaves if id(leaf._parameters.get("weight")) in tables and _is_linear(leaf)}
    if declared or not heads:
        spoken_for = {id(leaf) for owner, _ in declared for _, leaf in leaves_of(owner)}
        last = next(((name, leaf) for name, leaf in reversed(leaves) if _holds_matrix(leaf)), None)
        if last is not None and id(last[1]) not in spoken_for and _makes_output(model, *last):
            heads.add(id(last[1]))
    return heads


def _makes_output(model: nn.Module, name: str, last: nn.Module) -> bool:
    """Whether the last module with a matrix is a layer of its own: no embedding, and no part of a block."""
    here = model
    for part in name.split(".") if name else ():
        inside = dict(children_of(here))[part]
        if isinstance(here, nn.MultiheadAttention) or part in dict(repeated_in(here)):
            return False
        here = inside
    return not _is_embedding(last) and not isinstance(last, (nn.RNNBase, nn.MultiheadAttention))


def _declared(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """The outermost modules that can say what their head is, each with what it says."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        said = [head for ask in _ASKS if hasattr(type(module), ask) for head in _answer(module, ask)]
        if said:
            yield module, said
        else:
            waiting += [child for _, child in children_of(module)]


def _answer(module: nn.Module, ask: str) -> list[nn.Module]:
    try:
        said = getattr(module, ask)()
    except Exception:  # a base class whose subclass doesn't implement it
        return []
    heads = said if isinstance(said, (tuple, list)) else [said]
    return [unwrapped(head) for head in heads if isinstance(head, nn.Module) and any(leaves_of(head))]


def _holds_matrix(module: nn.Module) -> bool:
    return any(
        parameter is not None and not is_lazy(parameter) and parameter.ndim >= 2
        for parameter in module._parameters.values()
    )
