"""Which parameters a ``match`` selects."""

from __future__ import annotations

import functools
import heapq
import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from lit_optim.errors import Mistake, nearest
from lit_optim.kinds import KINDS, heads_of
from lit_optim.matches import COMPARISON, compiled_glob
from lit_optim.names import dotted_name
from lit_optim.structure import Holder, holders_of, shape_of

__all__ = ["Entry", "ParameterIndex", "entries_of"]

_COMPARE: dict[str | None, Callable[[int, int], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    None: operator.eq,
}
_NUMBER = re.compile(r"\d+")
_MANY = 2_000  # names; comparing a word with more of them takes seconds
_WILD = re.compile(r"[*?#\[\]]")


class Entry(NamedTuple):  # made four times faster than a frozen dataclass, and a model may have 100,000
    """A distinct parameter of a model, with what a ``match`` may ask of it.

    Args:
        position: Its place among the model's parameters.
        parameter: The tensor itself.
        name: Its qualified name without wrapper prefixes, under which it is planned; the first where it is tied.
        names: All of them.
        owners: The modules that hold it, one a name.
        shape: Of the whole parameter, also where FSDP leaves a flat piece here; None while it is unknown.
    """

    position: int
    parameter: nn.Parameter
    name: str
    names: tuple[str, ...]
    owners: tuple[nn.Module, ...]
    shape: tuple[int, ...] | None

    @property
    def is_lazy(self) -> bool:
        """Whether its shape is still unknown."""
        return self.shape is None

    @property
    def numel(self) -> int:
        """Its size; 0 while that is unknown."""
        return 0 if self.shape is None else math.prod(self.shape)


def entries_of(model: nn.Module) -> list[Entry]:
    """The model's distinct parameters, in its own order; wrappers leave no trace in the names."""
    return _entries(holders_of(model))


def _entries(holders: Iterable[Holder]) -> list[Entry]:
    found: dict[int, tuple[nn.Parameter, list[str], list[nn.Module]]] = {}
    for path, module, own in holders:
        prefix = f"{path}." if path else ""
        for name, parameter in own:
            one = found.get(id(parameter))
            if one is None:
                found[id(parameter)] = (parameter, [prefix + name], [module])
            else:
                one[1].append(prefix + name)
                one[2].append(module)
    return [
        Entry(position, parameter, names[0], tuple(names), tuple(owners), shape_of(parameter))
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
        leaves = {id(module): (path, module) for path, module, _ in reversed(self._holders)}  # the first of its names
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
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, name in enumerate(self.names):
            parts = name.split(".")
            for part in parts if len(parts) == 1 else {*parts}:
                places[part].append(place)
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
        return set().union(*(places for number, places in self._numbers[name].items() if compare(number, bound)))

    @functools.cached_property
    def _numbers(self) -> Mapping[str, Mapping[int, Sequence[int]]]:
        """The places by number of dimensions and by size, as far as these are known."""
        numbers: dict[str, defaultdict[int, list[int]]] = {"ndim": defaultdict(list), "numel": defaultdict(list)}
        for place, position in enumerate(self.entry_of):
            shape = self.entries[position].shape
            if shape is not None:
                numbers["ndim"][len(shape)].append(place)
                numbers["numel"][math.prod(shape)].append(place)
        return numbers

    def _no_such_name(self, given: str, key: str, remedy: str = "correct the name") -> Mistake:
        modules = [name.rpartition(".")[0] for name in self.names if "." in name]
        allowed = tuple(dict.fromkeys([*modules, *self.names]))
        paths = [name.split(".") for name in dict.fromkeys(modules)]
        above = [".".join(path[:end]) for path in paths for end in range(1, len(path))]
        text = given.lstrip("^*.")
        known = _worth_comparing(text, dict.fromkeys([*allowed, *above]))
        near = nearest(text, known) or nearest(text.rpartition(".")[2], known)
        return Mistake(key, "no parameter matches", repr(given), allowed, near, remedy)


def _worth_comparing(text: str, names: Mapping[str, None]) -> Iterable[str]:
    """What a misspelled name is compared with: all names, or of very many those that are enough to tell it by.

    One stands for all that differ in numbers alone, if there is one the one with the numbers of the text; where these
    are many still, those of about its length are looked at.
    """
    if len(names) <= _MANY:
        return names
    numbers = _NUMBER.findall(text)
    forms: dict[str, str] = {}
    for name in names:
        forms.setdefault(_NUMBER.sub("#", name), name)
    likely = (name for form, first in forms.items() for name in (_filled(form, numbers), first) if name in names)
    return heapq.nsmallest(_MANY, dict.fromkeys(likely), key=lambda name: abs(len(name) - len(text)))


def _filled(form: str, numbers: Sequence[str]) -> str:
    left = iter(numbers)
    return re.sub("#", lambda _: next(left, "#"), form)


def _class_names(cls: type) -> set[str]:
    """The names that a class and its bases may be called by."""
    whole = (f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__)
    return {*whole, *(base.__name__ for base in cls.__mro__), *map(dotted_name, cls.__mro__)}
