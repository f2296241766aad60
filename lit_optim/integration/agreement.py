"""One plan and one seed for every process of a run: they are compared before the first step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch.distributed
from torch import nn
from torch.nn.parameter import is_lazy

from lit_optim.errors import LitOptimError, Mistake, PlanError
from lit_optim.plan import Plan

__all__ = ["agreed", "check_same_model"]

_TOLD = 6  # differences of one process
_Part = TypeVar("_Part")
_SEED = "PL_GLOBAL_SEED"  # where `seed_everything` leaves it; a DistributedSampler of Lightning's shuffles by it


@dataclass(frozen=True)
class _Said:
    """What a process says of itself.

    Args:
        hash: Of its plan; None where it has none.
        seed: Of its generators, as far as it was seeded.
        refusal: Why it has no plan.
    """

    hash: str | None
    seed: str | None
    refusal: tuple[Mistake, ...] = ()


def agreed(make: Callable[[], Plan]) -> Plan:
    """The plan that every process of the run has made.

    To be called by all of them; where there is one process, it is what ``make`` returns.

    Args:
        make: Makes the plan of this process, without a word to the others.

    Raises:
        LitOptimError: What ``make`` raises.
        PlanError: Another process has made another plan, or none, or was seeded otherwise; raised in every one of them.
    """
    if not _has_others():
        return make()
    seed = os.environ.get(_SEED)
    try:
        plan = make()
    except LitOptimError as error:  # the others wait, and have to be told
        _gathered(_Said(None, seed, error.mistakes))
        raise
    said = _gathered(_Said(plan.hash, seed))
    for rank, one in enumerate(said):
        if one.refusal:
            raise PlanError(Mistake("plan", f"rank {rank} was refused, though this rank was not"), *one.refusal)
    mistakes: list[Mistake] = []
    remedy = "start every process with the same overrides and the same data"
    if len({one.hash for one in said}) > 1:
        plans = [Plan.from_json(text) for text in _gathered(plan.to_json())]
        problem = "the processes of this run made different plans"
        mistakes.append(Mistake("plan", problem, _in_words(plans), remedy=remedy))
    if len({one.seed for one in said}) > 1:
        problem, each = "the processes of this run were seeded differently", _by_rank([one.seed for one in said])
        remedy = "call seed_everything with the same seed in every process"
        mistakes.append(Mistake("seed", problem, each, remedy=remedy))
    if mistakes:
        raise PlanError(*mistakes)
    return plan


def check_same_model(model: nn.Module) -> None:
    """Refuse a model that the processes of the run have built differently, before a strategy wraps or shares it out.

    To be called by all of them.

    Raises:
        PlanError: A parameter or buffer is missing in one of them, or has another shape or type there, or is frozen
            there alone; raised in every one of them.
    """
    if not _has_others():
        return
    first, *others = _gathered(
        {name: _described(one) for name, one in chain(model.named_parameters(), model.named_buffers())}
    )
    told = []
    for rank, other in enumerate(others, 1):
        names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        changes = [f"{name} {first.get(name, 'absent')} → {other.get(name, 'absent')}" for name in names]
        told += [_from_rank_zero(rank, changes)] if changes else []
    if told:
        problem, remedy = "the processes of this run built different models", "build the same one in every process"
        raise PlanError(Mistake("model", problem, " | ".join(told), remedy=remedy))


def _described(tensor: torch.Tensor) -> str:
    shape = "uninitialized" if is_lazy(tensor) else str(tuple(tensor.shape))
    kind = "buffer" if not isinstance(tensor, nn.Parameter) else "" if tensor.requires_grad else "frozen"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')} {kind}".rstrip()


def _has_others() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _gathered(own: _Part) -> list[_Part]:
    parts: list[_Part] = [own] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts


def _in_words(plans: Sequence[Plan]) -> str:
    """How each plan differs from that of rank 0."""
    told = []
    for rank, plan in enumerate(plans):
        changes = plans[0].diff(plan)
        told += [_from_rank_zero(rank, changes)] if changes else []
    return " | ".join(told)


def _from_rank_zero(rank: int, changes: Sequence[str]) -> str:
    more = f"; and {len(changes) - _TOLD} more" if len(changes) > _TOLD else ""
    return f"from rank 0 to rank {rank}: {'; '.join(changes[:_TOLD])}{more}"


def _by_rank(values: Sequence[object]) -> str:
    return ", ".join(f"rank {rank}: {value}" for rank, value in enumerate(values))
