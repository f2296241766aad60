"""Which parameters a ``match`` selects."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from lit_optim.errors import Mistake, PlanError

__all__ = ["Entry", "entries_of", "select"]

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "": operator.eq,
}


@dataclass(frozen=True)
class Entry:
    """A distinct parameter of a model, with what a ``match`` may ask of it.

    Args:
        parameter: The tensor itself.
        names: Its qualified names without wrapper prefixes, the first first; several where it is tied.
        owners: The modules that hold it, one a name.
    """

    parameter: nn.Parameter
    names: tuple[str, ...]
    owners: tuple[nn.Module, ...]

    @property
    def name(self) -> str:
        """The name that it is planned under."""
        return self.names[0]

    @property
    def is_lazy(self) -> bool:
        """Whether its shape is still unknown."""
        return is_lazy(self.parameter)


def entries_of(model: nn.Module) -> list[Entry]:
    """The model's distinct parameters, in its own order.

    Wrappers leave no trace in the names: what ``torch.compile``, DataParallel and DistributedDataParallel put around a
    module is looked through, by their class and not by their prefix.
    """
    found: dict[int, tuple[nn.Parameter, list[str], list[nn.Module]]] = {}
    for name, parameter, owner in _walk(model, ""):
        _, names, owners = found.setdefault(id(parameter), (parameter, [], []))
        names.append(name)
        owners.append(owner)
    return [Entry(parameter, tuple(names), tuple(owners)) for parameter, names, owners in found.values()]


def _walk(
    module: nn.Module, prefix: str, above: tuple[nn.Module, ...] = ()
) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    while isinstance(module, (OptimizedModule, DataParallel, DistributedDataParallel)):
        module = module._orig_mod if isinstance(module, OptimizedModule) else module.module
    if any(module is one for one in above):  # a module that holds itself
        return
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield prefix + name, parameter, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(child, f"{prefix}{name}.", (*above, module))


def select(match: Any, entries: Sequence[Entry], key: str) -> set[int]:
    """The positions in ``entries`` that a match selects.

    Args:
        match: A glob; a mapping, whose keys are ANDed; or a list, whose items are ORed. Its structure is the recipe's.
        entries: All parameters.
        key: The config key of the match, for the message.

    Raises:
        PlanError: A name that fits in several places.
    """
    if isinstance(match, str):
        return _by_name(match, entries, key)
    if isinstance(match, Sequence):
        return set().union(*(select(item, entries, f"{key}.{index}") for index, item in enumerate(match)))
    chosen = set(range(len(entries)))
    for name, value in match.items():
        chosen &= _by_key(name, value, entries, f"{key}.{name}")
    return chosen


def _by_key(name: str, value: Any, entries: Sequence[Entry], key: str) -> set[int]:
    if name in ("name", "any"):
        return select(value, entries, key)
    if name == "not":
        return set(range(len(entries))) - select(value, entries, key)
    tests = [_TESTS[name](item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    return {index for index, entry in enumerate(entries) if any(test(entry) for test in tests)}


def _by_name(pattern: str, entries: Sequence[Entry], key: str) -> set[int]:
    """A glob: ``^`` anchors it at the root, a leading ``*`` lets it start anywhere, else behind one prefix."""
    found = _pattern(pattern)
    chosen, prefixes = set(), set()
    for index, entry in enumerate(entries):
        for name in entry.names:
            match = found.fullmatch(name)
            if match is not None:
                chosen.add(index)
                prefixes.add(match["prefix"] or "")
    if len(prefixes) > 1 and not pattern.startswith("*"):
        raise PlanError(
            Mistake(
                key,
                f"{pattern!r} fits in {len(prefixes)} places",
                given=pattern,
                allowed=tuple(f"^{prefix}{pattern}" for prefix in sorted(prefixes)),
                remedy=f"choose one of these, or write '*.{pattern}' for all",
            )
        )
    return chosen


def _pattern(pattern: str) -> re.Pattern[str]:
    """The expression for a glob; the name of a module stands for all below it."""
    anchored = pattern.startswith("^")
    glob = fnmatch.translate(pattern[1:] if anchored else pattern.removeprefix("*."))
    body = glob[: glob.rindex(")") + 1]  # without the end anchor
    start = "" if anchored else r"(?:.*?\.)?"
    return re.compile(rf"(?P<prefix>{start}){body}(?:\..*)?")


def _class_is(wanted: str) -> Callable[[Entry], bool]:
    """A module's class or one of its bases, by name or by dotted name."""

    def test(entry: Entry) -> bool:
        classes = {cls for owner in entry.owners for cls in type(owner).__mro__}
        return any(wanted in (cls.__name__, f"{cls.__module__}.{cls.__qualname__}") for cls in classes)

    return test


def _full_match(expression: str) -> Callable[[Entry], bool]:
    compiled = re.compile(expression)
    return lambda entry: any(compiled.fullmatch(name) is not None for name in entry.names)


def _number(measure: Callable[[Entry], int]) -> Callable[[int | str], Callable[[Entry], bool]]:
    def make(comparison: int | str) -> Callable[[Entry], bool]:
        text = str(comparison).strip()
        sign = text.rstrip("0123456789 ")
        bound = int(text.removeprefix(sign))
        return lambda entry: not entry.is_lazy and _COMPARE[sign.strip()](measure(entry), bound)

    return make


_TESTS: Mapping[str, Callable[[Any], Callable[[Entry], bool]]] = {
    "regex": _full_match,
    "module": _class_is,
    "ndim": _number(lambda entry: entry.parameter.ndim),
    "numel": _number(lambda entry: entry.parameter.numel()),
}
