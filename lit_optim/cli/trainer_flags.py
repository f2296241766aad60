"""What a Trainer's flags may be: Lightning's own registries, and its annotations, tell."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from lit_optim.errors import Mistake, nearest
from lit_optim.hyperparameters import is_number

__all__ = ["flag_mistakes"]

_LONGEST = 1e9  # seconds, which is 32 years; a timedelta ends later
_DEVICES = re.compile(r"auto|-1|[1-9]\d*|(\d+ *, *)+\d*")  # "0," is a list of one


def flag_mistakes(node: Mapping[str, Any]) -> Iterator[Mistake]:
    """Flags that no Trainer of any machine could take; those left out, or given as nodes, are let be."""
    choices = {
        "accelerator": ("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())),
        "strategy": ("auto", *StrategyRegistry.available_strategies()),
        "precision": (*dict.fromkeys(_literals(inspect.signature(Trainer).parameters["precision"].annotation)),),
    }
    for name, allowed in choices.items():
        value = node.get(name)
        said = value.lower() if isinstance(value, str) and name == "strategy" else value
        if value is not None and not isinstance(value, Mapping) and (said not in allowed or isinstance(value, bool)):
            names = (*dict.fromkeys(map(str, allowed)),)
            near = nearest(str(value), names)
            yield Mistake(
                f"trainer.{name}", f"there is no such {name}", repr(value), names, near, "name one of these"
            )  # fmt: skip
    devices = node.get("devices", "auto")
    on_cpu = str(node.get("accelerator")) == "cpu"
    if not _are_devices(devices) or (on_cpu and not _is_one_number(devices)):
        allowed, remedy = ("a number above 0", "-1 for all", "auto", "a list of GPUs"), "for example trainer.devices=2"
        near, problem = nearest(str(devices), ["auto"]), "this is no number of devices"
        if on_cpu:
            problem, allowed = "this is no number of processes on the CPU", ("a number above 0", "auto")
        yield Mistake("trainer.devices", problem, repr(devices), allowed, near, remedy)
    norm = node.get("gradient_clip_val")
    if is_number(norm) and not norm >= 0:
        allowed, remedy = ("a number above 0", "0 or null for no clipping"), "for example trainer.gradient_clip_val=1.0"
        yield Mistake("trainer.gradient_clip_val", "this is no norm to clip to", repr(norm), allowed, remedy=remedy)
    seconds = node.get("timeout")
    if seconds is not None and (not is_number(seconds) or not 0 < seconds < _LONGEST):
        allowed, remedy = ("a number of seconds above 0",), "for example trainer.timeout=600"
        yield Mistake("trainer.timeout", "this is no time to wait", repr(seconds), allowed, remedy=remedy)


def _literals(annotation: Any) -> Iterator[Any]:
    """The values that an annotation allows, at any depth."""
    for one in get_args(annotation):
        if get_args(one):
            yield from _literals(one)
        elif isinstance(one, (str, int)):
            yield one


def _are_devices(value: object) -> bool:
    """Whether a Trainer may take it; of what is a number and not whole, another check tells."""
    if isinstance(value, list):
        return bool(value) and all(type(one) is int and one >= 0 for one in value)
    return isinstance(value, (bool, float)) or _DEVICES.fullmatch(str(value)) is not None


def _is_one_number(devices: object) -> bool:
    return isinstance(devices, (bool, float)) or str(devices) == "auto" or str(devices).isdecimal()
