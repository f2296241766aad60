"""Several torch optimizers behind one ``torch.optim.Optimizer``, as automatic optimization wants it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, cast, overload

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from lit_optim.errors import Mistake, PlanError, nearest
from lit_optim.needs import has_modes, needs_of, stand_in, wraps

__all__ = ["CompositeOptimizer"]


def _between_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step between the hooks that stand on the optimizer.

    torch would do the same, inside of a range for the profiler, as it does for each child; on small tensors that alone
    is a twentieth of the step.
    """

    @functools.wraps(step)
    def between(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        args = (self, *args)
        for before in chain(_global_optimizer_pre_hooks.values(), self._optimizer_step_pre_hooks.values()):
            args, kwargs = before(self, args, kwargs) or (args, kwargs)
        result = step(*args, **kwargs)
        for after in chain(self._optimizer_step_post_hooks.values(), _global_optimizer_post_hooks.values()):
            after(self, args, kwargs)
        return result

    between.hooked = True  # type: ignore[attr-defined]  # by which torch knows
    return between


class CompositeOptimizer(Optimizer):
    """Steps several optimizers as one.

    Its ``param_groups`` are the children's own dicts, in the order of the children, and its ``state`` is theirs: what a
    scheduler, a GradScaler, gradient clipping or a checkpoint sees and writes is what the children use. Its state dict
    is as flat as that of one optimizer. Hooks around a step may stand on it or on a child; those around saving and
    loading belong on it.

    Args:
        optimizers: The children by name; each parameter is in one of them. They are the composite's from then on.

    Raises:
        PlanError: No child, a parameter in two of them, a group without parameters, or a child that can't be one: a
            composite, an optimizer that steps another one inside of it (Lookahead), or one that evaluates the closure
            at other weights (LBFGS, SAM), while the others' parameters would have to stand still.

    >>> first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    >>> composite = CompositeOptimizer(
    ...     {"sgd": torch.optim.SGD(first.parameters(), 0.1), "adamw": torch.optim.AdamW(second.parameters())}
    ... )
    >>> [group["lr"] for group in composite.param_groups]
    [0.1, 0.001]
    """

    def __init__(self, optimizers: Mapping[str, Optimizer]) -> None:
        if not isinstance(optimizers, Mapping):
            remedy = 'for example {"muon": first, "adamw": second}'
            raise PlanError(Mistake("optimizers", "optimizers by name are needed", repr(optimizers), remedy=remedy))
        self.optimizers = dict(optimizers)
        _check(self.optimizers)
        self._wants_loss = _check_needs(self.optimizers)
        children = self.optimizers.values()
        shared = set.intersection(*(set(child.defaults) for child in children))
        first = next(iter(children))
        super().__init__(
            [group for child in children for group in child.param_groups],
            {name: value for name, value in first.defaults.items() if name in shared},
        )
        self._share_state()

    def _share_state(self) -> None:
        """Gather the children's states into one that is theirs again."""
        for child in self.optimizers.values():
            self.state.update(child.state)
            child.state = self.state

    def _positions(self, child: Optimizer) -> list[int]:
        """Where the groups of a child stand among all groups."""
        places = {id(group): position for position, group in enumerate(self.param_groups)}
        return [places[id(group)] for group in child.param_groups]

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @_between_hooks
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Evaluate the closure once, then step every child; one that needs the loss (AliG) is handed it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for name, child in self.optimizers.items():
            if name in self._wants_loss and closure is not None:
                child.step(lambda: cast(float, loss))
            else:
                child.step()
        return loss

    def train(self) -> None:
        """Put the children that have modes (schedule-free) into the one for training."""
        for child in self.optimizers.values():
            if has_modes(child):
                child.train()

    def eval(self) -> None:
        """Put the children that have modes (schedule-free) into the one for evaluation and for checkpoints."""
        for child in self.optimizers.values():
            if has_modes(child):
                child.eval()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, as the last one, to the child that its key ``"optimizer"`` names.

        Raises:
            PlanError: It names none, or a parameter of the group has a group already, or the group has no parameter.
        """
        held = {id(group) for child in self.optimizers.values() for group in child.param_groups}
        if id(param_group) in held - {id(group) for group in self.param_groups}:  # only the constructor asks for these
            self.param_groups.append(param_group)
            return
        group = dict(param_group)
        name = group.pop("optimizer", None)
        if name not in self.optimizers:
            known = tuple(self.optimizers)
            remedy = "say which of the optimizers takes the group: {'params': …, 'optimizer': 'adamw'}"
            near = nearest(str(name), known)
            raise PlanError(Mistake("optimizer", "no such optimizer in the composite", repr(name), known, near, remedy))
        groups = self.optimizers[name].param_groups
        self.optimizers[name].add_param_group(group)
        try:
            _check(self.optimizers)
        except PlanError:
            groups.pop()
            raise
        self.param_groups.append(groups[-1])

    def state_dict(self) -> dict[str, Any]:
        """One optimizer's state dict; what a child's own has beside groups and state stands under its name."""
        whole = super().state_dict()
        beside = {name: _beside(child, self._own_state(child)) for name, child in self.optimizers.items()}
        more = {name: of_child for name, of_child in beside.items() if of_child}
        return {**whole, "optimizers": more} if more else whole

    def _own_state(self, child: Optimizer) -> Any:
        """The part of the state that belongs to a child's parameters."""
        held = chain.from_iterable(group["params"] for group in child.param_groups)
        return type(self.state)(dict, {one: self.state[one] for one in held if one in self.state})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hand each child its part of a state dict that a composite of the same shape wrote.

        Whatever is raised, groups and state stay as they were.

        Raises:
            ValueError: Other numbers of groups, or of parameters in one.
        """
        state_dict = state_dict.copy()
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = before(self, state_dict) or state_dict
        saved, state = state_dict["param_groups"], dict(state_dict["state"])
        beside = state_dict.pop("optimizers", {})
        sizes, saved_sizes = ([len(group["params"]) for group in groups] for groups in (self.param_groups, saved))
        if sizes != saved_sizes:
            raise ValueError(f"loaded state dict has groups of {saved_sizes} parameters, this optimizer of {sizes}")
        old = [(child, child.param_groups, self._positions(child)) for child in self.optimizers.values()]
        try:
            for name, (child, _, positions) in zip(self.optimizers, old, strict=True):
                groups = [saved[position] for position in positions]
                numbers = chain.from_iterable(group["params"] for group in groups)
                own = {number: state.pop(number) for number in numbers if number in state}
                more = beside.get(name, {})
                child.load_state_dict({**state_dict, **more, "state": own, "param_groups": groups})
        except BaseException:
            for child, groups, _ in old:
                child.param_groups, child.state = groups, self.state
            raise
        for child, _, positions in old:
            for position, group in zip(positions, child.param_groups, strict=True):
                self.param_groups[position] = group
        self.state = type(self.state)(dict, state)  # what belongs to no parameter
        self._share_state()
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        children = {}
        for name, child in self.optimizers.items():
            state = {**_own_attributes(child), **child.__getstate__(), "state": self._own_state(child)}
            children[name] = (type(child), state)
        return {**super().__getstate__(), "optimizers": children, "_wants_loss": self._wants_loss}

    def __setstate__(self, state: dict[str, Any]) -> None:
        children = state["optimizers"]
        super().__setstate__({**state, "optimizers": {}})
        for name, (optimizer_class, of_child) in children.items():
            child = optimizer_class.__new__(optimizer_class)
            child.__setstate__(of_child)  # with no other's state: Adagrad looks through all that it finds
            self.optimizers[name] = child
        self._share_state()


def _beside(child: Optimizer, own_state: Any) -> dict[str, Any]:
    """What a class with a ``state_dict`` of its own adds to it (StableSPAM's count of steps)."""
    if type(child).state_dict is Optimizer.state_dict:
        return {}
    shared, child.state = child.state, own_state  # it knows no parameters but its own
    try:
        return {key: value for key, value in child.state_dict().items() if key not in ("state", "param_groups")}
    finally:
        child.state = shared


def _own_attributes(child: Optimizer) -> dict[str, Any]:
    """What a class keeps on itself beside what torch copies of an optimizer, without hooks and schedulers' wrappers."""
    return {name: value for name, value in vars(child).items() if name != "step" and not name.endswith("_hooks")}


def _check(optimizers: Mapping[str, Optimizer]) -> None:
    if not optimizers:
        raise PlanError(Mistake("optimizers", "a composite of nothing", remedy="give it at least one optimizer"))
    held: dict[torch.Tensor, str] = {}
    for name, child in optimizers.items():
        key = f"optimizers.{name}"
        if not isinstance(child, Optimizer):
            raise PlanError(Mistake(key, "this is no optimizer", repr(child), remedy="give one, made already"))
        if isinstance(child, CompositeOptimizer):
            problem = "a composite can't be part of another"
            raise PlanError(Mistake(key, problem, remedy=f"put the optimizers of {name} in its place"))
        if not all(group["params"] for group in child.param_groups):
            problem = "a param group holds no parameter, so it has no place in a distributed checkpoint"
            raise PlanError(Mistake(key, problem, remedy="leave the group out"))
        for parameter in chain.from_iterable(group["params"] for group in child.param_groups):
            if parameter in held:
                problem = f"a parameter is held by {held[parameter]} and by {name}"
                raise PlanError(Mistake(key, problem, remedy="give each parameter to one optimizer"))
            held[parameter] = name


def _check_needs(optimizers: Mapping[str, Optimizer]) -> frozenset[str]:
    """Refuse children that can't step beside others; returns those that can't step without the loss."""
    wanting = set()
    for name, child in optimizers.items():
        needs = needs_of(functools.partial(stand_in, child))
        why = "evaluates the model several times a step" if needs.evaluates else None
        if wraps(child) is not None:
            why = "steps an optimizer inside of it"
        if why is not None:
            problem = f"{type(child).__name__} {why}, so it can't share a run"
            remedy = f"let {name} hold every parameter, or none"
            raise PlanError(Mistake(f"optimizers.{name}", problem, remedy=remedy))
        if needs.closure:
            wanting.add(name)
    return frozenset(wanting)
