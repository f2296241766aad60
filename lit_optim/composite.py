"""Several torch optimizers behind one ``torch.optim.Optimizer``, as automatic optimization wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, overload

import torch
from torch.optim import Optimizer

from lit_optim.errors import Mistake, PlanError, nearest
from lit_optim.traits import needs_closure

__all__ = ["CompositeOptimizer"]


class CompositeOptimizer(Optimizer):
    """Steps several optimizers as one.

    Its ``param_groups`` are the children's own dicts, in the order of the children, and its ``state`` is theirs: what a
    scheduler, a GradScaler, gradient clipping or a checkpoint sees and writes is what the children use. Its state dict
    is as flat as that of one optimizer.

    Args:
        optimizers: The children by name; each parameter is in one of them.

    Raises:
        PlanError: No child, a parameter in two of them, or a child that evaluates the closure itself (LBFGS): between
            its evaluations the others' parameters would have to stand still.

    >>> first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    >>> composite = CompositeOptimizer(
    ...     {"sgd": torch.optim.SGD(first.parameters(), 0.1), "adamw": torch.optim.AdamW(second.parameters())}
    ... )
    >>> [group["lr"] for group in composite.param_groups]
    [0.1, 0.001]
    """

    def __init__(self, optimizers: Mapping[str, Optimizer]) -> None:
        self.optimizers = dict(optimizers)
        _check(self.optimizers)
        groups = [group for child in self.optimizers.values() for group in child.param_groups]
        shared = set.intersection(*(set(child.defaults) for child in self.optimizers.values()))
        first = next(iter(self.optimizers.values()))
        self._routing = False  # the groups are the children's already
        super().__init__(groups, {name: value for name, value in first.defaults.items() if name in shared})
        self._routing = True
        self._link()

    def _link(self) -> None:
        """Make groups and state the children's again, after one of them has replaced its own."""
        children = self.optimizers.values()
        self.param_groups = [group for child in children for group in child.param_groups]
        for child in children:
            if child.state is not self.state:
                self.state.update(child.state)
                child.state = self.state

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Evaluate the closure once, then step every child."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for child in self.optimizers.values():
            child.step()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the child that its key ``"optimizer"`` names.

        Raises:
            PlanError: It names none.
        """
        if not self._routing:
            super().add_param_group(param_group)
            return
        group = dict(param_group)
        name = group.pop("optimizer", None)
        if name not in self.optimizers:
            known = tuple(self.optimizers)
            remedy = "say which of the optimizers takes the group: {'params': …, 'optimizer': 'adamw'}"
            near = nearest(str(name), known)
            raise PlanError(Mistake("optimizer", "no such optimizer in the composite", repr(name), known, near, remedy))
        held = {parameter for held_group in self.param_groups for parameter in held_group["params"]}
        parameters = group["params"]
        added = {parameters} if isinstance(parameters, torch.Tensor) else {*parameters}
        if held & added:
            raise PlanError(Mistake("params", "a parameter is in two param groups", remedy="give each to one group"))
        self.optimizers[name].add_param_group(group)
        self._link()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hand each child its part of a state dict that a composite of the same shape wrote.

        Raises:
            ValueError: Other numbers of groups, or of parameters in one.
        """
        state_dict = state_dict.copy()
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = before(self, state_dict) or state_dict
        saved = state_dict["param_groups"]
        sizes, saved_sizes = ([len(group["params"]) for group in groups] for groups in (self.param_groups, saved))
        if sizes != saved_sizes:
            raise ValueError(f"loaded state dict has groups of {saved_sizes} parameters, this optimizer of {sizes}")
        parts = iter(saved)
        self.state.clear()
        for child in self.optimizers.values():
            groups = [next(parts) for _ in child.param_groups]
            names = {*chain.from_iterable(group["params"] for group in groups)}
            state = {name: values for name, values in state_dict["state"].items() if name in names}
            child.state = type(self.state)(dict)
            child.load_state_dict({**state_dict, "state": state, "param_groups": groups})
        self._link()
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "optimizers": self.optimizers, "_routing": self._routing}


def _check(optimizers: Mapping[str, Optimizer]) -> None:
    if not optimizers:
        raise PlanError(Mistake("optimizers", "a composite of nothing", remedy="give it at least one optimizer"))
    for name, child in optimizers.items():
        if needs_closure(type(child)):
            problem = f"{type(child).__name__} evaluates the model several times a step, so it can't share a run"
            raise PlanError(Mistake(f"optimizers.{name}", problem, remedy=f"let {name} hold every parameter, or none"))
    held: dict[torch.Tensor, str] = {}
    for name, child in optimizers.items():
        for parameter in chain.from_iterable(group["params"] for group in child.param_groups):
            if parameter in held:
                problem = f"a parameter is held by {held[parameter]} and by {name}"
                raise PlanError(Mistake(f"optimizers.{name}", problem, remedy="give each parameter to one optimizer"))
            held[parameter] = name
