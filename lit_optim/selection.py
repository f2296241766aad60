"""Which parameters a ``match`` selects."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from lit_optim.errors import Mistake, nearest
from lit_optim.kinds import KINDS, heads_of
from lit_optim.matches import COMPARISON, compiled_glob
from lit_optim.structure import Block, holders_of, parameters_of

__all__ = ["Entry", "ParameterIndex", "entries_of"]

_COMPARE: dict[str | None, Callable[[int, int], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    None: operator.eq,
}
_MANY = 2_000  # names; comparing a word with more of them takes seconds
_WILD = re.compile(r"[*?#\[\]]")


@dataclass(frozen=True)
class Entry:
    """A distinct parameter of a model, with what a ``match`` may ask of it.

    Args:
        position: Its place among the model's parameters.
        parameter: The tensor itself.
        names: Its qualified names without wrapper prefixes, the first first; several where it is tied.
        owners: The modules that hold it, one a name.
    """

    position: int
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

    @property
    def numel(self) -> int:
        """Its size; 0 while that is unknown."""
        return 0 if self.is_lazy else self.parameter.numel()


def entries_of(model: nn.Module) -> list[Entry]:
    """The model's distinct parameters, in its own order; wrappers leave no trace in the names."""
    return _entries(holders_of(model))


def _entries(holders: Iterable[Block]) -> list[Entry]:
    found: dict[int, tuple[nn.Parameter, list[str], list[nn.Module]]] = {}
    for path, module in holders:
        prefix = f"{path}." if path else ""
        for name, parameter in parameters_of(module):
            one = found.get(id(parameter))
            if one is None:
                found[id(parameter)] = (parameter, [prefix + name], [module])
            else:
                one[1].append(prefix + name)
                one[2].append(module)
    return [
        Entry(position, parameter, tuple(names), tuple(owners))
        for position, (parameter, names, owners) in enumerate(found.values())
    ]


class ParameterIndex:
    """Every parameter of a model under every one of its names, ready to be matched.

    A match is asked of *places*: a place is one name of one parameter, in the module of that name. A tied parameter has
    several, so that it is known which of its names a rule meant. What ``not`` excludes is the parameter, by whatever
    name.

    Args:
        model: Any module; wrappers are looked through.

    Attributes:
        entries: The distinct parameters.
        names: The name of each place.
        owners: The module of each place.
        entry_of: The position in ``entries`` of each place's parameter.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._holders = holders_of(model)
        self.entries = _entries(self._holders)
        self.names = [name for entry in self.entries for name in entry.names]
        self.owners = [owner for entry in self.entries for owner in entry.owners]
        self._of_kind: dict[str, tuple[frozenset[int], frozenset[int]]] = {}  # by kind: places, entries
        self.entry_of = [position for position, entry in enumerate(self.entries) for _ in entry.names]

    def select(self, match: Any, key: str, mistakes: list[Mistake]) -> set[int]:
        """The places that a match selects.

        Args:
            match: A glob; a mapping, whose keys are ANDed; or a list, whose items are ORed. Its structure is sound.
            key: The config key of the match, for messages.
            mistakes: Gets what is wrong: a name that fits nothing, or in several places; a class that nothing has.
        """
        if isinstance(match, str):
            return self._by_name(match, key, mistakes)
        if isinstance(match, Sequence):
            parts = [self.select(item, f"{key}.{index}", mistakes) for index, item in enumerate(match)]
            return set().union(*parts)
        chosen = [self._by_key(name, value, f"{key}.{name}", mistakes) for name, value in match.items()]
        return set.intersection(*chosen)

    def entries_at(self, places: Iterable[int]) -> set[int]:
        """The positions in ``entries`` of the parameters at these places."""
        return {self.entry_of[place] for place in places}

    @functools.cached_property
    def heads(self) -> frozenset[int]:
        """The ids of the modules that make the output."""
        leaves = {id(module): (path, module) for path, module in reversed(self._holders)}  # the first of its names
        return frozenset(heads_of(self.model, list(leaves.values())[::-1]))

    def is_kind(self, entry: Entry, kind: str) -> bool:
        """Whether a module of this kind (``norm``, ``embedding``, …, ``head``) holds the parameter."""
        return entry.position in self._places_of_kind(kind)[1]

    def names_it(self, match: Any, entry: Entry) -> bool:
        """Whether a match asks for this very parameter: by its name or its module's in full, or by what it is."""
        if isinstance(match, str):
            glob = match.removeprefix("^")
            known = {*entry.names, *(name.rpartition(".")[0] for name in entry.names)}
            return any(name == glob or name.endswith(f".{glob}") for name in known)
        if isinstance(match, Sequence):
            return any(self.names_it(item, entry) for item in match)
        kinds = match.get("module", ())
        kinds = [kinds] if isinstance(kinds, str) else kinds
        asked = any(kind in kinds and self.is_kind(entry, kind) for kind in ("embedding", "head"))
        return asked or any(self.names_it(match[key], entry) for key in ("name", "any") if key in match)

    def _places_of_kind(self, kind: str) -> tuple[frozenset[int], frozenset[int]]:
        """The places in modules of a kind, and the entries that are there; looked for once."""
        if kind not in self._of_kind:
            owners = {id(owner): owner for owner in self.owners}
            fitting = self.heads if kind == "head" else {key for key, owner in owners.items() if KINDS[kind](owner)}
            places = frozenset(place for place, owner in enumerate(self.owners) if id(owner) in fitting)
            self._of_kind[kind] = places, frozenset(self.entries_at(places))
        return self._of_kind[kind]

    def _by_key(self, name: str, value: Any, key: str, mistakes: list[Mistake]) -> set[int]:
        if name in ("name", "any"):
            return self.select(value, key, mistakes)
        if name == "not":
            excluded = self.entries_at(self.select(value, key, mistakes))
            return {place for place, entry in enumerate(self.entry_of) if entry not in excluded}
        items = value if isinstance(value, (list, tuple)) else [value]
        if name == "regex":
            return set().union(*(self._by_regex(item, key, mistakes) for item in items))
        if name == "module":
            return set().union(*(self._by_module(item, key, mistakes) for item in items))
        return set().union(*(self._by_number(name, item) for item in items))

    def _by_name(self, glob: str, key: str, mistakes: list[Mistake]) -> set[int]:
        expression = compiled_glob(glob)
        chosen: set[int] = set()
        prefixes: dict[str, None] = {}
        for place in self._candidates(glob):
            found = expression.fullmatch(self.names[place])
            if found is not None:
                chosen.add(place)
                prefixes[found["prefix"]] = None
        if not chosen:
            mistakes.append(self._no_such_name(glob, key))
        elif len(prefixes) > 1 and not glob.startswith("*"):
            several = [f"^{prefix}{glob}" for prefix in sorted(prefixes)]
            problem = f"{glob!r} fits in {len(prefixes)} places"
            remedy = f"choose one of these, or write '*.{glob}' for all"
            mistakes.append(Mistake(key, problem, given=glob, allowed=tuple(several), remedy=remedy))
        return chosen

    def _candidates(self, glob: str) -> Iterable[int]:
        """The places worth a look: those that have the rarest of the glob's plain parts as a part of their name."""
        plain = [part for part in glob.lstrip("^").split(".") if not _WILD.search(part)]
        if not plain or re.search(r"\[[^]]*\.", glob):  # a dot that separates nothing
            return range(len(self.names))
        return min((self._by_part.get(part, ()) for part in plain), key=len)

    @functools.cached_property
    def _by_part(self) -> Mapping[str, Sequence[int]]:
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self.names):
            for part in {*name.split(".")}:
                places.setdefault(part, []).append(place)
        return places

    def _by_regex(self, expression: str, key: str, mistakes: list[Mistake]) -> set[int]:
        compiled = re.compile(expression)
        chosen = {place for place, name in enumerate(self.names) if compiled.fullmatch(name) is not None}
        if not chosen:
            mistakes.append(self._no_such_name(expression, key, "it has to match the whole name; correct it"))
        return chosen

    def _by_module(self, wanted: str, key: str, mistakes: list[Mistake]) -> set[int]:
        if wanted == "head" or wanted in KINDS:
            return {*self._places_of_kind(wanted)[0]}
        fitting = {cls for cls in {*map(type, self.owners)} if wanted in _class_names(cls)}
        if not fitting and not isinstance(getattr(nn, wanted, None), type):
            present = dict.fromkeys(cls.__name__ for cls in dict.fromkeys(map(type, self.owners)))
            allowed = (*present, "head", *KINDS)
            remedy = "name a class that holds parameters, or one of its bases"
            near = nearest(wanted, [*allowed, *(name for name in vars(nn) if name[:1].isupper())])
            problem = f"no module of this model is a {wanted}"
            mistakes.append(Mistake(key, problem, given=repr(wanted), allowed=allowed, nearest=near, remedy=remedy))
        return {place for place, owner in enumerate(self.owners) if type(owner) in fitting}

    def _by_number(self, name: str, comparison: int | str) -> set[int]:
        parts = COMPARISON.fullmatch(str(comparison))
        assert parts is not None  # the recipe has checked it
        compare, bound = _COMPARE[parts["sign"]], int(parts["bound"])
        fits = {number: compare(number, bound) for number in {*self._numbers[name]} if number is not None}
        return {place for place, number in enumerate(self._numbers[name]) if number is not None and fits[number]}

    @functools.cached_property
    def _numbers(self) -> Mapping[str, Sequence[int | None]]:
        """For each place the number of dimensions and the size; None where they are still unknown."""
        tensors = [None if entry.is_lazy else entry.parameter for entry in self.entries]
        ndim = [None if tensor is None else tensor.ndim for tensor in tensors]
        numel = [None if tensor is None else tensor.numel() for tensor in tensors]
        return {"ndim": [ndim[entry] for entry in self.entry_of], "numel": [numel[entry] for entry in self.entry_of]}

    def _no_such_name(self, given: str, key: str, remedy: str = "correct the name") -> Mistake:
        modules = [name.rpartition(".")[0] for name in self.names if "." in name]
        allowed = tuple(dict.fromkeys([*modules, *self.names]))
        text, known = given.lstrip("^*."), allowed
        if len(allowed) > _MANY:  # one of each block is enough to tell a typing error by
            known = tuple({re.sub(r"\d+", "0", name): name for name in reversed(allowed)}.values())
        near = nearest(text, known) or nearest(text.rpartition(".")[2], known)
        return Mistake(key, "no parameter matches", repr(given), allowed, near, remedy)


def _class_names(cls: type) -> set[str]:
    """The names that a class and its bases may be called by."""
    return {name for base in cls.__mro__ for name in (base.__name__, f"{base.__module__}.{base.__qualname__}")}
