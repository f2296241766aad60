"""Weights of a compiled model for one that isn't, and the other way round."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from torch import nn

__all__ = ["accept_compiled"]

_known: WeakSet[nn.Module] = WeakSet()
_WRAPPER = "_orig_mod"  # what torch.compile puts into the names below it


def accept_compiled(module: nn.Module) -> None:
    """Let a module load a state dict whose names differ from its own by what ``torch.compile`` adds to them.

    Args:
        module: Parts of it may be compiled, or may have been when the state was saved.
    """
    if module not in _known:
        _known.add(module)
        module.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]


def _rename(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    own = {_plain(prefix + name): prefix + name for name in module.state_dict()}
    for name in [*state]:
        mine = own.get(_plain(name), name)
        if mine != name and mine not in state:
            state[mine] = state.pop(name)


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != _WRAPPER)
