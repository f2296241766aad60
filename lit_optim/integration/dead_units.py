"""Units of ReLU modules that are 0 for every sample, seen by forward hooks that stand only while they look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.hooks import RemovableHandle

from lit_optim.findings import Dead
from lit_optim.structure import is_compiled

__all__ = ["DeadUnits"]

_RELUS = (nn.ReLU, nn.ReLU6)
_CONVOLUTIONS = (nn.Conv1d, nn.ConvTranspose1d)


class DeadUnits:
    """Watches the ReLU modules of a model; ``torch.nn.functional.relu`` is no module and can't be seen.

    A unit is a channel after a convolution (outputs of 4 or 5 dimensions, or of 3 where a 1-D convolution comes before
    it), else a place in the last dimension. A module that is called several times in a forward pass has units of its
    own for each call. What ``torch.compile`` runs is left alone: hooks on it would break its graph or be ignored.

    Args:
        model: Looked through once.

    Attributes:
        outputs: The names of those that no module with parameters follows, in the order of the model's modules.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules: dict[str, nn.Module] = {}
        self.outputs: set[str] = set()
        self._channels_first: set[str] = set()
        last: nn.Module | None = None
        for name, module in _eager(model):
            if isinstance(module, _RELUS):
                if module in self._modules.values():  # one module in several places: the first names it
                    name = next(known for known, one in self._modules.items() if one is module)
                self._modules[name] = module
                self.outputs.add(name)
                if isinstance(last, _CONVOLUTIONS):
                    self._channels_first.add(name)
            elif next(module.parameters(recurse=False), None) is not None:
                self.outputs.clear()
                last = last if isinstance(module, nn.modules.batchnorm._BatchNorm) else module
        self._handles: list[RemovableHandle] = []
        self._totals: dict[str, list[Tensor | None]] = {}  # for each call, each unit's sum: 0 where all outputs were
        self._layout: dict[str, list[int]] = {}  # for each call, how many units
        self._is_agreed = False
        self._calls: dict[str, int] = {}
        self.looks = False

    def __bool__(self) -> bool:
        return bool(self._modules)

    def begin_forward(self) -> None:
        """Look at what is computed from here on, which is one more forward pass."""
        self._calls.clear()
        self.looks = True
        if not self._handles:
            for name, module in self._modules.items():
                self._handles.append(module.register_forward_hook(_Hook(self, name)))

    def end_forward(self) -> None:
        """Look at nothing until `begin_forward`."""
        self.looks = False

    def take(self, world_size: int = 1) -> list[Tensor]:
        """One vector for each call of each module, 1 where a unit was not 0; then begin anew.

        Their sum over all processes can be read on each of them: with several, what the first window saw on any of them
        is what is looked for from then on.

        Args:
            world_size: How many processes call this together.
        """
        calls = {name: [*calls] for name, calls in self._totals.items()}
        self.close()
        if world_size == 1 or not self._is_agreed:
            own = {name: [0 if one is None else len(one) for one in calls[name]] for name in calls}
            self._layout = own if world_size == 1 else _agreed(own, world_size)
            self._is_agreed = world_size > 1
        taken = []
        for name, sizes in self._layout.items():
            for call, size in enumerate(sizes):
                total = calls[name][call] if call < len(calls.get(name, ())) else None
                fits = total is not None and len(total) == size
                taken.append((total != 0).float() if total is not None and fits else torch.zeros(size))
        return taken

    def state(self) -> dict[str, list[list[float] | None]]:
        """What was seen since the last time, in plain containers."""
        return {
            name: [None if total is None else total.tolist() for total in calls] for name, calls in self._totals.items()
        }

    def restore(self, state: Mapping[str, Sequence[Sequence[float] | None]]) -> None:
        """Go on from a state that `state` gave."""
        self._totals = {
            name: [None if total is None else torch.tensor(total) for total in calls] for name, calls in state.items()
        }

    def read(self, values: Sequence[float]) -> dict[str, Dead]:
        """What the vectors of `take` say, one behind the other; 0 in all of them is a dead unit."""
        found = {}
        start = 0
        for name, sizes in self._layout.items():
            units = values[start : start + sum(sizes)]
            start += sum(sizes)
            if units:
                found[name] = Dead(len(units), sum(alive == 0 for alive in units), name in self.outputs)
        return found

    def close(self) -> None:
        """Remove the hooks."""
        self.looks = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._totals = {}

    @torch.no_grad()
    def see(self, name: str, output: Tensor) -> None:
        """Add the outputs of one call of a module."""
        call = self._calls[name] = self._calls.get(name, -1) + 1
        channels = output.ndim > 3 or (output.ndim == 3 and name in self._channels_first)
        unit_dim = 1 if channels else output.ndim - 1
        others = [dim for dim in range(output.ndim) if dim != unit_dim]
        total = output.detach().sum(others) if others else output.detach().clone()
        calls = self._totals.setdefault(name, [])
        if call == len(calls):
            calls.append(total)
            return
        before = calls[call]
        fits = before is not None and before.shape == total.shape
        calls[call] = total.add_(before.to(total)) if before is not None and fits else None  # none: no fixed units


class _Hook:
    """A forward hook that changes nothing, and that does nothing where a compiler traces it."""

    def __init__(self, units: DeadUnits, name: str) -> None:
        self._units = units
        self._name = name

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or not self._units.looks:
            return
        if isinstance(output, Tensor) and _is_plain(output) and output.ndim > 0 and output.numel() > 0:
            self._units.see(self._name, output)


def _agreed(own: dict[str, list[int]], world_size: int) -> dict[str, list[int]]:
    """Modules and calls of all processes; a call whose units differ between them has none."""
    layouts: list[dict[str, list[int]]] = [{}] * world_size
    torch.distributed.all_gather_object(layouts, own)
    agreed: dict[str, list[int]] = {}
    for layout in layouts:
        for name, sizes in layout.items():
            known = agreed.setdefault(name, [])
            for call, size in enumerate(sizes):
                if call == len(known):
                    known.append(size)
                elif known[call] != size:
                    known[call] = 0
    return agreed


def _is_plain(output: Tensor) -> bool:
    """Whether it holds whole units of its own, which may be kept: no shard, nothing from within ``torch.func``."""
    return not isinstance(output, DTensor) and not torch._C._functorch.is_functorch_wrapped_tensor(output)


def _eager(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that no compiler runs, with their names."""
    if is_compiled(module):
        return
    yield name, module
    for child_name, child in module.named_children():
        yield from _eager(child, f"{name}.{child_name}" if name else child_name)
