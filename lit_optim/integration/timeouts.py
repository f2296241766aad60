"""How long a process waits for the others of its run, in seconds as a config says it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, StrategyRegistry

__all__ = ["named_strategy", "takes_timeout"]


def named_strategy(name: str, timeout: timedelta) -> Any:
    """What a Trainer's ``strategy`` should be so that its processes wait no longer than this.

    Args:
        name: As a Trainer takes it: ``ddp``, ``ddp_find_unused_parameters_true``, …
        timeout: Of every operation that several processes take part in, their first meeting included.

    Returns:
        The strategy; the name itself where it stands for no data parallelism of Lightning's own.
    """
    entry = dict(StrategyRegistry).get(name, {})  # its own `get` makes the strategy
    if entry.get("strategy") not in (DDPStrategy, FSDPStrategy):  # others may need packages that aren't there
        return name
    return entry["strategy"](**{"timeout": timeout, **entry["init_params"]})


def takes_timeout(strategy: Callable[..., Any]) -> bool:
    """Whether a class of strategies waits for others."""
    return "timeout" in inspect.signature(strategy).parameters
