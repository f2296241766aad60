"""Learning rates that are written for one batch size and scaled to that of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lit_optim.errors import Mistake, nearest

__all__ = ["SIZE", "WAY", "LrScaling", "read_scaling"]

SIZE = "lr_batch_size"
"""The config key of the batch size."""

WAY = "lr_batch_scaling"
"""The config key of the way of scaling."""

_POWERS = {"linear": 1.0, "sqrt": 0.5}


@dataclass(frozen=True)
class LrScaling:
    r"""Multiply every learning rate by :math:`(B / b)^p`.

    :math:`B` is the global batch of the run, in samples behind one optimizer step; :math:`b` the ``batch_size``;
    :math:`p` is 1 for ``linear`` and 0.5 for ``sqrt``.

    Args:
        batch_size: The global batch that the learning rates were written for, at least 1.
        way: ``linear`` or ``sqrt``.

    Sources: linear for SGD, Goyal et al., https://arxiv.org/abs/1706.02677; the square root for Adam and its kin,
    Malladi et al., https://arxiv.org/abs/2205.10287

    >>> LrScaling(256).factor(1024), LrScaling(256, "sqrt").factor(1024)
    (4.0, 2.0)
    """

    batch_size: int
    way: str = "linear"

    def factor(self, global_batch: int) -> float:
        """What every learning rate is multiplied by in a run of this global batch."""
        return float((global_batch / self.batch_size) ** _POWERS[self.way])

    def told(self, global_batch: int | None) -> str:
        """The factor and where it comes from, in words."""
        if global_batch is None:
            return f"× ?: {SIZE} {self.batch_size:,} ({self.way})"
        ratio = f"global batch {global_batch:,} / {SIZE} {self.batch_size:,} ({self.way})"
        return f"× {self.factor(global_batch):.6g}: {ratio}"


def read_scaling(recipe: Mapping[str, Any]) -> tuple[LrScaling | None, list[Mistake]]:
    """What a recipe says of batch sizes, as far as it is sound, and what is wrong with it.

    Args:
        recipe: With the two keys or without; null is as good as absent, except that a size of null may stand beside
            the default way (as it does in a config that lists both).
    """
    size, way = recipe.get(SIZE), recipe.get(WAY)
    mistakes = []
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        allowed = ("an integer of at least 1", "null to scale nothing")
        remedy = "write the global batch that the learning rates were written for, for example 256"
        mistakes.append(Mistake(SIZE, "this is no number of samples", repr(size), allowed, remedy=remedy))
    if way is not None and not (isinstance(way, str) and way in _POWERS):
        near = nearest(str(way), _POWERS)
        remedy = "linear suits SGD, sqrt suits Adam and its kin"
        mistakes.append(Mistake(WAY, "no such way of scaling", repr(way), tuple(_POWERS), near, remedy))
    elif size is None and way is not None and (way != "linear" or SIZE not in recipe):
        problem = "there is nothing to scale by: no batch size is given that the learning rates were written for"
        mistakes.append(Mistake(WAY, problem, repr(way), remedy=f"set {SIZE} as well, for example {SIZE}=256"))
    if size is None or mistakes:
        return None, mistakes
    return LrScaling(size, way or "linear"), []
