"""What happens around an optimizer step beside the step itself: gradients of what doesn't move yet are dropped."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_optim.plan import Plan

__all__ = ["Thaw"]


class Thaw:
    """Keeps groups still until their first step, by dropping their gradients: no update, no state, no weight decay.

    ``requires_grad`` stays as it is. Switched on after DistributedDataParallel has wrapped a model it would leave the
    gradient unsynchronised; switched off before, DDP would wait for it. So these gradients are computed, averaged over
    the devices, and dropped, and from the first step on they are used.

    Args:
        scheduler: Of the optimizer whose groups are the plan's, in order; its step is the one that comes next.
        plan: The plan.
    """

    def __init__(self, scheduler: LRScheduler, plan: Plan) -> None:
        self._scheduler = scheduler
        self._frozen = [(index, group.freeze_until) for index, group in enumerate(plan.groups) if group.freeze_until]
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

    def register(self) -> None:
        """Drop them before every step of the optimizer, also where a closure computes them within it."""
        self._scheduler.optimizer.register_step_pre_hook(self._before_step)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")  # the first argument is the optimizer
        if closure is None:
            self.drop_gradients()
            return None

        def dropping() -> Any:
            loss = closure()
            self.drop_gradients()
            return loss

        if len(args) > 1:
            return (args[0], dropping, *args[2:]), kwargs
        return args, {**kwargs, "closure": dropping}
