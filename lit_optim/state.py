"""Optimizer state by parameter name: a state finds its parameter again wherever that stands now."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from lit_optim.errors import Mistake, RunError
from lit_optim.plan import Plan

__all__ = ["StateByName", "named"]

_CLASS = "optimizer"  # of a saved group: the dotted name of its class
_Group = Mapping[str, Any]


def named(state: Mapping[str, Any], plan: Plan | None = None) -> dict[str, Any] | None:
    """An optimizer's state dict with names in place of positions, as torch's distributed checkpoints have them too.

    Args:
        state: From ``state_dict()``; its groups carry ``param_names``, or names under ``params`` already.
        plan: What its groups were built from; each then says its class as well.

    Returns:
        The same with other keys; None where the groups know no names, where there are none, or where another
        optimizer's state is a part of this one (Lookahead).
    """
    if any(_groups_in(part) for part in _parts(state)):
        return None
    groups: Sequence[_Group] = state.get("param_groups", ())
    names: dict[Any, str] = {}
    for group in groups:
        own = _names(group)
        if own is None:
            return None
        names.update(zip(group["params"], own, strict=True))
    if not groups:
        return None
    classes = {} if plan is None else {group.name: group.optimizer for group in plan.groups}
    return {
        **state,
        "state": {names.get(key, key): value for key, value in state["state"].items()},
        "param_groups": [
            {**group, "params": [names[key] for key in group["params"]]}
            | ({_CLASS: classes[group["name"]]} if group.get("name") in classes else {})
            for group in groups
        ],
    }


class StateByName:
    """Stands before ``load_state_dict``: hands each parameter the state that was saved under its name.

    Groups may come in another order, hold other parameters or have other names: what belongs to a parameter follows it,
    and what belongs to a group (its hyperparameters, a count of steps) comes from the group that most of its parameters
    were in. A parameter that changed its class starts anew. The few optimizers whose state can't be told by name (those
    that make their groups themselves, or keep another's state inside of their own) take one of the same groups only.

    Args:
        plan: What the optimizer was built from.

    Attributes:
        lost: What the last state that was loaded didn't have for this optimizer, or has and isn't wanted; in words.
    """

    def __init__(self, plan: Plan) -> None:
        self._classes = {group.name: group.optimizer for group in plan.groups}
        self._needed = {group.name: {*group.hyperparameters} for group in plan.groups}
        self.lost: list[str] = []

    def stand_before(self, optimizer: Optimizer) -> None:
        """See the class. A hook would come too late: a class may read the state once more behind torch's own code."""
        load = functools.partial(self._load, optimizer)
        optimizer.load_state_dict = load  # type: ignore[method-assign]

    def refusal(self, optimizer: Optimizer, state_dict: Mapping[str, Any]) -> str | None:
        """Why a state can't be loaded, or None where it can: by position it would be a guess."""
        own = optimizer.state_dict()
        if named(own) is not None:
            told = named(state_dict) is not None
            return None if told else "its optimizer state doesn't say which parameters it belongs to"
        if _layout(own) != _layout(state_dict):
            return (
                "the state of this optimizer goes by position, and class or groups are not those that it was saved for"
            )
        return None

    def _load(self, optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
        why = self.refusal(optimizer, state_dict)
        if why is not None:
            remedy = "load a state that was saved by an optimizer of this plan, or start from the weights alone"
            raise RunError(Mistake("optimizer_states", why, remedy=remedy))
        saved = named(state_dict)
        loadable = state_dict if saved is None else self._by_position(optimizer, saved)
        tensors = [
            {name: value for name, value in group.items() if isinstance(value, torch.Tensor)}
            for group in optimizer.param_groups
        ]
        type(optimizer).load_state_dict(optimizer, dict(loadable))
        for group, held in zip(optimizer.param_groups, tensors, strict=True):
            for name, tensor in held.items():  # a compiled step, say, holds the same one
                group[name] = tensor.copy_(torch.as_tensor(group[name]))

    def _by_position(self, optimizer: Optimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
        """A state dict as this optimizer would have written it, with what was saved under its parameters' names."""
        groups = optimizer.param_groups
        homes = {name: group for group in saved["param_groups"] for name in group["params"]}
        numbers = iter(range(sum(len(group["params"]) for group in groups)))
        state: dict[Any, Any] = {}
        loaded: list[dict[str, Any]] = []
        self.lost = []
        for group in groups:
            own = list(_names(group) or ())
            parameters = dict(zip(own, group["params"], strict=True))
            known = {name for name in own if name in homes and self._is_same_class(group, homes[name])}
            positions = [next(numbers) for _ in own]
            state |= {
                position: _shared_out(saved["state"][name], parameters[name])
                for position, name in zip(positions, own, strict=True)
                if name in known and name in saved["state"]
            }
            source = _most(homes[name] for name in own if name in known)
            loaded.append({**_own(group), **_own(source), **_identity(group), "params": positions})
            self.lost += self._told(group, own, homes)
        wanted = set(chain.from_iterable(_names(group) or () for group in groups))
        extra = [name for name in homes if name not in wanted]
        if extra:
            self.lost.append(f"{_few(extra)}: the state is dropped, since no optimizer holds this now")
        beside = {key: value for key, value in saved["state"].items() if key not in homes}  # belongs to no parameter
        return {**saved, "state": {**state, **beside}, "param_groups": loaded}

    def _is_same_class(self, group: _Group, saved: _Group) -> bool:
        name, its = str(group.get("name")), saved.get(_CLASS)
        if its is None:  # a bare state dict doesn't say, but its groups carry what their class needs
            return self._needed.get(name, set()).issubset(saved)
        return bool(self._classes.get(name, its) == its)

    def _told(self, group: _Group, own: Sequence[str], homes: Mapping[str, _Group]) -> Iterator[str]:
        missing = [name for name in own if name not in homes]
        if missing:
            yield f"{_few(missing)}: no state was saved, so this starts anew"
        changed = [name for name in own if name in homes and not self._is_same_class(group, homes[name])]
        if changed:
            mine, its = self._classes.get(str(group.get("name"))), homes[changed[0]].get(_CLASS, "another class")
            yield f"{_few(changed)}: the state is {its}'s and not {mine}'s, so this starts anew"


def _shared_out(state: Any, parameter: torch.Tensor) -> Any:
    """The state of a parameter that FSDP2 has shared out: of what has its shape, this process keeps its own share.

    torch's own loader finds the layout by a step over zeros, and fails where that leaves a parameter without state, as
    one that is frozen for a time, or where the checkpoint has none for it.
    """
    if not isinstance(parameter, DTensor):
        return state

    def share(value: torch.Tensor) -> torch.Tensor:
        if isinstance(value, DTensor) or value.dim() == 0:
            return value
        everywhere = [Replicate()] * parameter.device_mesh.ndim
        layout = parameter.placements if value.shape == parameter.shape else everywhere
        return distribute_tensor(value, parameter.device_mesh, layout, src_data_rank=None)

    return tree_map_only(torch.Tensor, share, state)


def _names(group: _Group) -> Sequence[str] | None:
    """The names of a group's parameters, in the order of the parameters."""
    params, names = group["params"], group.get("param_names")
    if params and all(isinstance(one, str) for one in params):
        return list(params)
    return names if names is not None and len(names) == len(params) else None


def _parts(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a state dict has beside its own state and groups, as far as it may hold groups in turn."""
    items = (part for name, part in state.items() if name not in ("state", "param_groups"))
    return (part for part in items if isinstance(part, Mapping))


def _groups_in(state: Mapping[str, Any]) -> Sequence[_Group]:
    """The param groups of a state dict, or those of an optimizer inside of it."""
    own: Sequence[_Group] = state.get("param_groups", ())
    return own or next((groups for groups in map(_groups_in, _parts(state)) if groups), ())


def _layout(state: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two states that go by position have to share: their parts, and each group's parameters."""
    return {*state}, [list(_names(group) or (group.get("name"),)) for group in _groups_in(state)]


def _most(groups: Iterator[_Group]) -> _Group:
    """The group that comes most often; an empty one where there is none."""
    by_id = {}
    counts: Counter[int] = Counter()
    for group in groups:
        by_id[id(group)] = group
        counts[id(group)] += 1
    return by_id[counts.most_common(1)[0][0]] if counts else {}


def _own(group: _Group) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names", _CLASS)}


def _identity(group: _Group) -> dict[str, Any]:
    return {key: group[key] for key in ("name", "param_names") if key in group}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
