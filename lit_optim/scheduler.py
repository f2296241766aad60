"""Writes each scheduled hyperparameter into its groups, once per optimizer step."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any, SupportsFloat

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_optim.moves import moves_of
from lit_optim.needs import Needs
from lit_optim.plan import Group, Plan
from lit_optim.reductions import Reductions
from lit_optim.state import StateByName
from lit_optim.step_hooks import Clipping, StepHook, Thaw, places_of
from lit_optim.traits import EXECUTION

__all__ = ["PlanScheduler"]

_STEPPED = "_opt_called"  # torch's LRScheduler has each step of its optimizer set this


class PlanScheduler(LRScheduler):
    """A torch scheduler that follows a plan: before step ``t`` every scheduled hyperparameter is ``curve(t)``.

    Nothing accumulates: a value depends on the step alone, so that resuming needs no more than the step, and the
    preview and the run can't disagree. Where a schedule follows a metric, its curve is scaled by what was seen (`see`).

    Args:
        optimizer: Built from the plan; its groups are the plan's, in order.
        plan: The plan.
        needs: The optimizer's.
        own: By class, the hyperparameters that it moves itself; where nothing schedules them, a loaded value stays.

    Attributes:
        plan: What runs.
        needs: What the loop has to do for the optimizer.
        thaw: Keeps groups still that are frozen for a time.
        clipping: Clips the gradients of groups that have a norm of their own.
        step_hook: What stands before each step.
        follows_steps: Whether ``step()`` waits for the optimizer to have stepped since the last one, so that a step
            which a GradScaler skipped takes nothing off the curves; for a loop that calls it wherever a step was due.
        state_by_name: Stands before a state is loaded, and knows afterwards what didn't fit.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        plan: Plan,
        needs: Needs | None = None,
        own: Mapping[str, Container[str]] | None = None,
    ) -> None:
        self.follows_steps = False
        self.plan = plan
        self.needs = needs or Needs()
        self.state_by_name = StateByName(plan)
        self.thaw = Thaw(optimizer, plan, self)
        self.clipping = Clipping(optimizer, plan)
        work = {self.thaw.drop_gradients: self.thaw.has_work, self.clipping.clip: self.clipping.has_work}
        self.step_hook = StepHook(self.needs, [action for action, has_work in work.items() if has_work])
        places = places_of(optimizer, plan)
        self._start = {  # a class that makes its groups itself may have given some other values than the plan's
            index: {
                name: value
                for name, value in optimizer.param_groups[index].items()
                if name in EXECUTION
                or (name in group.hyperparameters and not _is_own(name, group, (own or {}).get(group.optimizer, ())))
            }
            for own_places, group in zip(places, plan.groups, strict=True)
            for index in own_places
        }
        self._names = [group.get("name") for group in optimizer.param_groups]
        self._reductions = Reductions(plan)
        self._moves = moves_of(plan, places, self._reductions)
        bare = [group for group in optimizer.param_groups if "lr" not in group]  # A2Grad has none; torch wants one
        for group in bare:
            group["lr"] = math.nan
        super().__init__(optimizer)
        for group in bare:
            del group["lr"], group["initial_lr"]

    def step(self, epoch: int | None = None) -> None:
        """Go to the next optimizer step, or to step number ``epoch``."""
        if epoch is None and self.follows_steps:
            if not getattr(self.optimizer, _STEPPED, False):
                return
            setattr(self.optimizer, _STEPPED, False)
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._write()

    def see(self, metrics: Mapping[str, SupportsFloat]) -> None:
        """Show fresh values to the schedules that follow a metric; each call is one look at every metric in it.

        For a loop of one's own, after each validation: ``scheduler.see({"val/loss": loss})``. What is reduced is so
        from the next optimizer step on. Every process has to see the same values.

        Args:
            metrics: By the names that the recipe monitors; others are passed over.
        """
        if self._reductions.see(metrics, self.last_epoch):
            self._write()

    @property
    def monitors(self) -> tuple[str, ...]:
        """The names of the metrics that its schedules follow."""
        return self._reductions.monitors

    def _write(self) -> None:
        groups = self.optimizer.param_groups
        for move in self._moves:
            for (index, name, item), value in zip(move.places, move.values(self.last_epoch), strict=True):
                group = groups[index]
                held = group[name]
                if type(held) is float:
                    group[name] = value
                elif item is not None and type(held) is tuple and type(held[item]) is float:
                    items = [*held]
                    items[item] = value
                    group[name] = tuple(items)
                else:
                    _assign(group, name, item, value)

    def get_last_lr(self) -> list[float | torch.Tensor]:
        """The learning rate of each group, as the next optimizer step will use it; NaN where its class has none."""
        return [group.get("lr", math.nan) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float | torch.Tensor]:
        """The same as `get_last_lr`: the values are already written."""
        return self.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The step, and what was seen of the metrics that schedules follow, if any do; there is no more to know."""
        reductions = self._reductions.state()
        return {"last_epoch": self.last_epoch} | ({"reductions": reductions} if reductions else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the step that was saved, and put the plan's values in force where a loaded optimizer brought others."""
        for index, group in enumerate(self.optimizer.param_groups):
            group["name"] = self._names[index]
            for name, value in self._start[index].items():
                _restore(group, name, value)
        setattr(self.optimizer, _STEPPED, False)  # whatever stepped before belongs to what is left behind
        self._reductions.load(state_dict.get("reductions", ()))
        self.step(state_dict["last_epoch"])


def _is_own(name: str, group: Group, own: Container[str]) -> bool:
    """Whether the class moves a hyperparameter that nothing schedules."""
    return name in own and not any(place == name or place.startswith(f"{name}.") for place in group.schedules)


def _restore(group: dict[str, Any], name: str, value: Any) -> None:
    """Set a hyperparameter, number by number where some of its numbers are tensors."""
    if isinstance(value, (list, tuple)) and any(isinstance(held, torch.Tensor) for held in group.get(name, ())):
        for item, number in enumerate(value):
            _assign(group, name, item, number)
    elif name in group:
        _assign(group, name, None, value)
    else:
        group[name] = value


def _assign(group: dict[str, Any], name: str, item: int | None, value: Any) -> None:
    """Set a number; one that is a tensor is filled, since others may hold the same tensor."""
    whole = group[name]
    held = whole if item is None else whole[item]
    if isinstance(held, torch.Tensor):
        held.fill_(value)
    elif item is None:
        group[name] = value
    else:
        group[name] = type(whole)([*whole[:item], value, *whole[item + 1 :]])
