"""Whether optimizers take, over parameters that are shared out, the steps that they take over whole ones: tried out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from lit_optim.builder import build
from lit_optim.errors import Mistake, PlanError
from lit_optim.needs import has_modes, undisturbed
from lit_optim.plan import Plan
from lit_optim.selection import entries_of

__all__ = ["check_steps"]

_STEPS = 8  # the first makes the state of most classes; some do something else every few
_LR = 0.01  # a warm-up may begin with one that moves nothing
_APART = 0.1  # of how far a parameter has moved: bfloat16 in Muon is rounded by less, half of a norm is more


def check_steps(model: nn.Module, plan: Plan) -> None:
    """Refuse classes that can't step the parameters of a model as FSDP2 has shared them out.

    torch reckons with shared-out tensors as with whole ones, a matrix product or a norm as well, or raises. Many a
    class mixes them with others, or writes into one what has another layout; one that takes its part for the whole
    would train something else. So each class of the plan takes a few steps over small parameters of every sort that it
    has, whole and shared out in the same way.

    Args:
        model: Every process of the run calls this with it; where nothing is shared out, there is nothing to try.
        plan: Of the model.

    Raises:
        PlanError: A step fails, or is another than over whole parameters.
    """
    parameters = {entry.name: entry.parameter for entry in entries_of(model)}
    if not any(isinstance(one, DTensor) for one in parameters.values()):
        return
    mistakes = []
    for cls in dict.fromkeys(group.optimizer for group in plan.groups):
        groups = []
        for group in (one for one in plan.groups if one.optimizer == cls):
            names = {_sort(parameters[name]): name for name in group.parameters}.values()
            groups.append(replace(group, parameters=tuple(names), freeze_until=0))
        sorts = {name: parameters[name] for group in groups for name in group.parameters}
        why = _difference(replace(plan, groups=tuple(groups), frozen=()), sorts)
        if why is not None:
            problem = f"{cls} can't step parameters that FSDP2 has shared out: {why}"
            remedy = "use trainer=ddp, which leaves them whole, or another optimizer"
            mistakes.append(Mistake("trainer.strategy", problem, remedy=remedy))
    if mistakes:
        raise PlanError(*mistakes)


def _difference(plan: Plan, sorts: dict[str, nn.Parameter]) -> str | None:
    """Why the steps of a class are others; None where they aren't, or can't be taken over whole parameters either."""
    with undisturbed():
        try:
            start, whole = _stepped(plan, sorts, lambda tensor, _: tensor)
            _, again = _stepped(plan, sorts, lambda tensor, _: tensor)
        except Exception:  # it wants something of the model; training tells
            return None
        try:
            _, shared = _stepped(plan, sorts, _laid_out)
        except Exception as error:
            return str(error).partition("\n")[0] or type(error).__name__
    is_random = _are_apart(start, whole, again)  # and then no two runs of it can be compared
    return "its steps are others than over whole ones" if _are_apart(start, whole, shared) and not is_random else None


def _are_apart(start: list[Tensor], ones: list[Tensor], others: list[Tensor]) -> bool:
    distances = (
        ((one - old).norm(), (one - other).norm()) for old, one, other in zip(start, ones, others, strict=True)
    )
    return any(moved.isfinite() and not apart <= _APART * moved for moved, apart in distances)


def _stepped(
    plan: Plan, sorts: dict[str, nn.Parameter], lay_out: Callable[[Tensor, Tensor], Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Small parameters before and after some steps, as whole tensors."""
    generator = torch.Generator().manual_seed(0)

    def numbers(like: nn.Parameter) -> Tensor:
        drawn = torch.randn(_small(like), generator=generator, dtype=torch.float64)
        return lay_out(drawn.to(like.device, like.dtype), like)

    model = nn.Module()
    made = [_put(model, name, nn.Parameter(numbers(like))) for name, like in sorts.items()]
    start = [_whole(one) for one in made]
    optimizer, _ = build(model, plan)
    for group in optimizer.param_groups:
        if "lr" in group:
            group["lr"] = torch.full_like(group["lr"], _LR) if isinstance(group["lr"], Tensor) else _LR
    if has_modes(optimizer):
        optimizer.train()
    for _ in range(_STEPS):
        for one, like in zip(made, sorts.values(), strict=True):
            one.grad = numbers(like)
        optimizer.step(lambda: 1.0)
    return start, [_whole(one) for one in made]


def _put(model: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    *path, last = name.split(".")
    for part in path:
        if part not in model._modules:
            model.add_module(part, nn.Module())
        model = model.get_submodule(part)
    model.register_parameter(last, parameter)
    return parameter


def _sort(parameter: nn.Parameter) -> Any:
    """By which the steps of parameters of one group may go one way or the other."""
    layout = (parameter.device_mesh, parameter.placements) if isinstance(parameter, DTensor) else ()
    return _small(parameter), parameter.dtype, layout


def _small(parameter: nn.Parameter) -> tuple[int, ...]:
    """A shape with lengths in the same order, of which the processes get as even shares."""
    processes = parameter.device_mesh.size() if isinstance(parameter, DTensor) else 1
    lengths = sorted({*parameter.shape})
    return tuple(min(one, (2 + lengths.index(one)) * processes + one % processes) for one in parameter.shape)


def _laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)  # all have the same numbers


def _whole(tensor: Tensor) -> Tensor:
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().double().clone()
