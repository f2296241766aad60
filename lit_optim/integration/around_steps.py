"""What is measured of each optimizer's step, at the moments before, inside and after it where it can be seen."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lit_optim.histograms import Histograms
from lit_optim.integration.group_names import group_names
from lit_optim.measurement import QUANTITIES, Measurement

__all__ = ["AroundSteps"]


class AroundSteps:
    """Stands before and behind the steps of some optimizers; measures the first step of each once it is asked to.

    Clipped gradients are there once the closure has returned, which is inside of the step; where there is no closure (a
    GradScaler), or it has been called before (SAM), they are there as the step begins.

    Args:
        optimizers: All of a module.
        world_size: The processes that train.

    Attributes:
        measurements: Of the steps so far.
        histograms: Of these, if they are due.
        lrs: Group → the learning rate that its step uses; one on another device stays there. NaN where it has none.
        built_with: Group → the learning rate that it was built with; NaN where that isn't known.
    """

    def __init__(self, optimizers: Sequence[Optimizer], world_size: int) -> None:
        self._optimizers = optimizers
        self._world_size = world_size
        self._due: Collection[str] = ()
        self.measurements: dict[Optimizer, Measurement] = {}
        self.histograms: dict[Optimizer, Histograms] = {}
        self.lrs: dict[str, float | Tensor] = {}
        self.built_with: dict[str, float] = {}
        self._handles = [one.register_step_pre_hook(self._before_step) for one in optimizers]
        self._handles += [one.register_step_post_hook(self._after_step) for one in optimizers]

    def remove(self) -> None:
        """Stand there no more."""
        for handle in self._handles:
            handle.remove()

    def begin(self, due: Collection[str]) -> None:
        """Forget the last steps, and measure these quantities (or ``histograms``) of the next."""
        self._due = due
        self.measurements, self.histograms = {}, {}

    def see_gradients(self, optimizer: Optimizer) -> None:
        """They are complete, and not yet clipped."""
        if not self._due or optimizer in self.measurements:
            return
        names = group_names(self._optimizers)
        if not self.measurements:
            groups = [group for one in self._optimizers for group in one.param_groups]
            self.lrs = {name: _kept(group.get("lr")) for name, group in zip(names, groups, strict=True)}
            built_with = (_number(group.get("initial_lr")) for group in groups)
            self.built_with = dict(zip(names, built_with, strict=True))
        before = self._optimizers[: self._optimizers.index(optimizer)]
        start = sum(len(one.param_groups) for one in before)
        own = names[start : start + len(optimizer.param_groups)]
        quantities = [name for name in self._due if name in QUANTITIES]
        measurement = self.measurements[optimizer] = Measurement(optimizer, own, quantities, self._world_size)
        measurement.before()
        if "histograms" in self._due:
            self.histograms[optimizer] = Histograms(optimizer, own, self._world_size)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """A step pre-hook of torch."""
        if optimizer in self.measurements:
            self._see_clipped(optimizer)
            return None
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            return None
        evaluate = functools.partial(self._evaluate, optimizer, closure)
        if len(args) > 1:
            return (args[0], evaluate, *args[2:]), kwargs
        return args, {**kwargs, "closure": evaluate}

    def _evaluate(self, optimizer: Optimizer, closure: Callable[[], Any]) -> Any:
        is_first = optimizer not in self.measurements
        result = closure()
        if is_first and optimizer in self.measurements:
            self._see_clipped(optimizer)
        return result

    def _see_clipped(self, optimizer: Optimizer) -> None:
        self.measurements[optimizer].clipped()
        if optimizer in self.histograms:
            self.histograms[optimizer].take()

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """A step post-hook of torch."""
        if optimizer in self.measurements:
            self.measurements[optimizer].after()


def _kept(lr: Any) -> float | Tensor:
    if isinstance(lr, Tensor) and lr.device.type != "cpu":
        return lr.detach().clone()  # the scheduler writes into it; reading it now would wait for the device
    return _number(lr)


def _number(lr: Any) -> float:
    is_far = isinstance(lr, Tensor) and lr.device.type != "cpu"
    return math.nan if lr is None or is_far else float(lr)
