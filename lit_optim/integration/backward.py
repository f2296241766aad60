"""A backward pass that keeps its graph, for an optimizer that differentiates the gradients."""

from __future__ import annotations

import functools
import warnings
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

__all__ = ["keep_graph"]


def keep_graph(module: LightningModule, wanted: bool) -> None:
    """Have the module's ``backward`` keep the graph of the gradients, or have its class's own back.

    Args:
        module: Its class may define a ``backward`` of its own, which is called with ``create_graph=True``.
        wanted: Whether the optimizer needs it.
    """
    own = vars(module).get("backward")
    if wanted:  # an instance attribute and a partial, as in `lit_optim.attach`
        module.backward = functools.partial(_backward, module)  # type: ignore[method-assign]  # of this instance
    elif isinstance(own, functools.partial) and own.func is _backward:
        del module.backward


def _backward(module: LightningModule, loss: Tensor, *args: Any, **kwargs: Any) -> None:
    with warnings.catch_warnings():  # of a reference cycle, which zero_grad breaks before the next step
        warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
        type(module).backward(module, loss, *args, **{**kwargs, "create_graph": True})
