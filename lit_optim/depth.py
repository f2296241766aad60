"""The order of a model's layers, from its input to its output, as layer-wise learning-rate decay needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from lit_optim.kinds import KINDS, heads_of
from lit_optim.matches import compiled_glob
from lit_optim.structure import (
    Block,
    blocks_of,
    children_of,
    holds_matrix,
    leaves_of,
    parameters_of,
    unwrapped,
)

__all__ = ["Depths", "inferred_depths", "listed_depths"]

Depths = dict[str, int]
"""The layer of each parameter by qualified name, 0 for the one nearest to the input; no number is left out."""

_is_norm = KINDS["norm"]


def inferred_depths(model: nn.Module) -> Depths:
    """Tell the layers from what the model says of itself, or from its structure.

    A model with timm's ``group_matcher`` (https://timm.fast.ai) has the layers that timm gives it; parameters defined
    around it go before its first and behind its last layer.

    A model with repeated blocks has the layers *stem*, one for each block, *head*. What stands between two blocks goes
    with the block behind it (a ResNet stage's downsampling); norms by themselves, there and right behind the last
    block, go with the block before. The head is what follows: it begins with a module that holds a matrix.

    Any other model has a layer for each module that holds a matrix; norms and other vectors go with the layer before,
    and all that makes the output is one layer.

    This is the order of BEiT (https://arxiv.org/abs/2106.08254, appendix).
    """
    model = unwrapped(model)
    said = _said_by_model(model)
    if said is not None:
        return _dense(said)
    blocks = blocks_of(model)
    return _dense(_by_blocks(model, blocks) if blocks else _by_matrices(model))


def _said_by_model(model: nn.Module) -> Depths | None:
    """The layers of a timm model, wherever in ``model`` it stands; None where there is none, or several."""
    speakers = [*_outermost_with(model, "group_matcher")]
    if len(speakers) != 1:
        return None
    try:
        from timm.models import group_parameters  # the model is timm's, so it is there
    except ImportError:
        return None
    [speaker] = speakers
    inside = group_parameters(speaker, speaker.group_matcher(coarse=False), reverse=True)  # type: ignore[operator]  # timm's
    layers = {id(parameter): inside[name] for name, parameter in speaker.named_parameters() if name in inside}
    depths: Depths = {}
    next_outside = -1
    for name, leaf in leaves_of(model):
        for parameter_name, parameter in _named(name, leaf):
            own = layers.get(id(parameter))
            depths[parameter_name] = next_outside if own is None else own
            next_outside = next_outside if own is None else max(inside.values()) + 1
    return depths


def _outermost_with(model: nn.Module, method: str) -> Iterator[nn.Module]:
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            if callable(getattr(type(module), method, None)):
                yield module
            else:
                waiting += [child for _, child in children_of(module)]


def _by_blocks(model: nn.Module, blocks: Sequence[Block]) -> Depths:
    of_block = {id(leaf): number for number, (_, block) in enumerate(blocks, 1) for _, leaf in leaves_of(block)}
    leaves = [*leaves_of(model)]
    places = [of_block.get(id(leaf)) for _, leaf in leaves]
    last = max(position for position, place in enumerate(places) if place is not None)
    depths: Depths = {}
    reached, begun = 0, False  # begun: whether, since the last block, something stood that goes with what follows
    for position, ((name, leaf), place) in enumerate(zip(leaves, places, strict=True)):
        if place is not None:
            reached, begun = place, False
        elif reached and not begun:
            end = next((p for p in range(position, last) if places[p] is not None), None)
            begun = not _is_norm(leaf) or _leads_to_matrix(name, leaves[position:end], blocks)
        depths |= dict.fromkeys((known for known, _ in _named(name, leaf)), reached + begun)
    return depths


def _leads_to_matrix(norm: str, behind: Sequence[Block], blocks: Sequence[Block]) -> bool:
    """Whether a norm shares its module, one without blocks, with something else than norms behind it."""
    home = norm.rpartition(".")[0] + "."
    if home == "." or any(name.startswith(home) for name, _ in blocks):
        return False
    return any(name.startswith(home) and not _is_norm(leaf) for name, leaf in behind)


def _by_matrices(model: nn.Module) -> Depths:
    heads = heads_of(model)
    depths: Depths = {}
    depth, in_head = -1, False
    for name, leaf in leaves_of(model):
        if holds_matrix(leaf) and not _is_norm(leaf):
            depth += not (in_head and id(leaf) in heads)
            in_head = id(leaf) in heads
        depths |= dict.fromkeys((known for known, _ in _named(name, leaf)), max(depth, 0))
    return depths


def _named(name: str, leaf: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    before = f"{name}." if name else ""
    return ((before + own, parameter) for own, parameter in parameters_of(leaf))


def listed_depths(order: Sequence[str], names: Sequence[str]) -> Depths:
    """The layers that a list of globs describes, from the input to the output; the first that fits counts.

    Args:
        order: The globs; ``#`` in one stands for a number, and makes a layer of each number that occurs.
        names: Qualified names of parameters.

    Returns:
        The layers of the names that some glob fits.
    """
    globs = [compiled_glob(glob) for glob in order]
    found: dict[str, tuple[int, ...]] = {}
    for name in names:
        for position, glob in enumerate(globs):
            match = glob.fullmatch(name)
            if match is not None:
                numbers = [int(number) for group, number in match.groupdict().items() if group != "prefix"]
                found[name] = (position, *numbers)
                break
    return _dense(found)


def _dense(keys: dict[str, tuple[int, ...]] | Depths) -> Depths:
    """The same order counted 0, 1, 2, …"""
    ranks = {key: rank for rank, key in enumerate(sorted({*keys.values()}))}
    return {name: ranks[key] for name, key in keys.items()}
