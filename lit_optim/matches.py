"""What may stand under ``match``: its structure is checked here, before any model is known."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lit_optim.errors import Mistake, nearest

__all__ = ["COMPARISON", "MATCH_KEYS", "compiled_glob", "match_mistakes"]

MATCH_KEYS = ("name", "regex", "module", "ndim", "numel", "not", "any")
"""The keys of a match that is a mapping; they are ANDed, a list under one is ORed."""

COMPARISON = re.compile(r"\s*(?P<sign><=|>=|<|>|==)?\s*(?P<bound>[0-9]+)\s*")
"""How ``ndim`` and ``numel`` are compared: ``2``, ``"<=1"``, ``">1000"``."""

_FORMS = (
    "a glob such as head or layer.[02]",
    "a mapping such as {module: Linear, ndim: 2}",
    "a list of these",
)


def match_mistakes(match: Any, key: str) -> Iterator[Mistake]:
    """What is wrong with the structure of a match: a glob, a mapping of known keys, or a list of these.

    Args:
        match: As written, in plain containers.
        key: The config key that it stands under.
    """
    if isinstance(match, str) and match:
        return
    if isinstance(match, Sequence) and not isinstance(match, str) and match:
        for index, item in enumerate(match):
            yield from match_mistakes(item, f"{key}.{index}")
    elif isinstance(match, Mapping) and match:
        for name, value in match.items():
            yield from _of_key(str(name), value, f"{key}.{name}")
    else:
        yield Mistake(key, "this selects nothing", repr(match), _FORMS, remedy="write one of these")


def _of_key(name: str, value: Any, key: str) -> Iterator[Mistake]:
    if name not in MATCH_KEYS:
        near = nearest(name, MATCH_KEYS)
        remedy = "correct the name or remove it"
        yield Mistake(key, f"a match has no key {name!r}", repr(value), MATCH_KEYS, near, remedy)
    elif name in ("not", "any"):
        yield from match_mistakes(value, key)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            yield Mistake(key, "an empty list selects nothing", "[]", remedy="name something, or remove the key")
        for item in value:
            yield from _of_item(name, item, key)
    else:
        yield from _of_item(name, value, key)


def _of_item(name: str, item: Any, key: str) -> Iterator[Mistake]:
    if name in ("ndim", "numel"):
        is_whole = isinstance(item, int) and not isinstance(item, bool) and item >= 0
        if not is_whole and not (isinstance(item, str) and COMPARISON.fullmatch(item)):
            allowed = ("2", "'<=1'", "'>1000'")
            remedy = "write a number, or a comparison in quotes"
            yield Mistake(key, "a number or a comparison is needed", repr(item), allowed, remedy=remedy)
    elif not isinstance(item, str) or not item:
        yield Mistake(key, "a name is needed", given=repr(item), remedy="write a string")
    elif name == "regex":
        try:
            re.compile(item)
        except (re.error, OverflowError, RecursionError) as error:
            remedy = "mend it, or use a glob"
            yield Mistake(key, f"not a regular expression: {error}", given=repr(item), remedy=remedy)


def compiled_glob(glob: str) -> re.Pattern[str]:
    """The expression for a glob on a qualified name; the name of a module stands for all below it.

    ``^`` anchors it at the root, a leading ``*.`` lets it start anywhere, and a bare one may start behind a prefix,
    which the group ``prefix`` then holds. Each ``#`` stands for a number, in a group of its own.
    """
    is_anchored = glob.startswith("^")
    body = fnmatch.translate(glob[1:] if is_anchored else glob.removeprefix("*."))
    body = body[: body.rindex(")") + 1]  # without the end anchor
    numbers = iter(range(body.count("#")))
    body = re.sub(r"\\?#", lambda _: rf"(?P<number{next(numbers)}>\d+)", body)
    start = "" if is_anchored else r"(?:.*?\.)??"  # lazily: the root before a prefix
    return re.compile(rf"(?P<prefix>{start}){body}(?:\..*)?")
