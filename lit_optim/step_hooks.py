"""What happens around an optimizer step beside the step itself: closures, freezing for a time, per-group clipping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_optim.needs import Needs
from lit_optim.plan import Plan

__all__ = ["Clipping", "StepHook", "Thaw", "places_of"]


def places_of(optimizer: Optimizer, plan: Plan) -> list[list[int]]:
    """For each group of a plan, where it stands in the optimizer: one place, or all where the class makes its own."""
    count = len(optimizer.param_groups)
    return [[*range(count)]] if len(plan.groups) == 1 else [[index] for index in range(count)]


class Thaw:
    """Keeps groups still until their first step, by dropping their gradients: no update, no state, no weight decay.

    ``requires_grad`` stays as it is. Switched on after DistributedDataParallel has wrapped a model it would leave the
    gradient unsynchronised; switched off before, DDP would wait for it. So these gradients are computed, averaged over
    the devices, and dropped, and from the first step on they are used.

    Args:
        optimizer: Built from the plan.
        plan: The plan.
        scheduler: Its step is the one that comes next.
    """

    def __init__(self, optimizer: Optimizer, plan: Plan, scheduler: LRScheduler) -> None:
        self._scheduler = scheduler
        places = zip(places_of(optimizer, plan), plan.groups, strict=True)
        self._frozen = [(index, group.freeze_until) for own, group in places for index in own if group.freeze_until]
        self._over = max((until for _, until in self._frozen), default=0)

    @property
    def has_work(self) -> bool:
        """Whether any group is frozen for a time at all."""
        return bool(self._frozen)

    def drop_gradients(self) -> None:
        """Drop the gradients of the groups that the coming step may not move."""
        step = self._scheduler.last_epoch
        if step >= self._over:
            return
        groups = self._scheduler.optimizer.param_groups
        for index, until in self._frozen:
            if step < until:
                for parameter in groups[index]["params"]:
                    parameter.grad = None


class Clipping:
    """Scales the gradients of a group down to its ``clip_norm`` where their norm, over the whole group, is above it.

    Args:
        optimizer: Built from the plan.
        plan: The plan.

    Attributes:
        optimizer: The same.
    """

    def __init__(self, optimizer: Optimizer, plan: Plan) -> None:
        self.optimizer = optimizer
        places = zip(places_of(optimizer, plan), plan.groups, strict=True)
        self._norms = [(own, group.clip_norm) for own, group in places if group.clip_norm]

    @property
    def has_work(self) -> bool:
        """Whether any group is clipped at all."""
        return bool(self._norms)

    def clip(self) -> None:
        """Clip the gradients that are there."""
        groups = self.optimizer.param_groups
        for places, norm in self._norms:
            clip_grad_norm_([parameter for place in places for parameter in groups[place]["params"]], norm)


class StepHook:
    """Stands before every step: hands the optimizer a closure as it needs it, and looks after each one's gradients.

    Args:
        needs: The optimizer's.
        on_gradients: What is done with the gradients before they are used, in order; after every evaluation of a
            closure, or before the step where there is none.

    Attributes:
        on_gradients: The same; a loop that does one of these itself takes it out.
        before_next: Called before every evaluation but the first of a step; puts in place the gradients that the
            closure adds to.
        finish_loss: What is made of the loss of each evaluation before the optimizer gets to see it.
    """

    def __init__(self, needs: Needs, on_gradients: Sequence[Callable[[], None]] = ()) -> None:
        self._needs = needs
        self.on_gradients = list(on_gradients)
        self.before_next: Callable[[], None] | None = None
        self.finish_loss: Callable[[Any], Any] | None = None

    @property
    def has_work(self) -> bool:
        """Whether a step needs it."""
        return self._needs.closure or self._needs.evaluates or bool(self.on_gradients)

    def __call__(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A step pre-hook of ``torch.optim.Optimizer``; the first of ``args`` is the optimizer."""
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._look_after_gradients()
            return None
        evaluate = self._wrapped(closure)
        if self._needs.gradients_first:
            evaluate()
        if len(args) > 1:
            return (args[0], evaluate, *args[2:]), kwargs
        return args, {**kwargs, "closure": evaluate}

    def _wrapped(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        evaluations = 0

        @torch.enable_grad()
        def evaluate() -> Any:
            nonlocal evaluations
            if evaluations and self.before_next is not None:
                self.before_next()
            evaluations += 1
            loss = closure()
            self._look_after_gradients()
            return loss if self.finish_loss is None else self.finish_loss(loss)

        return evaluate

    def _look_after_gradients(self) -> None:
        for action in self.on_gradients:
            action()
