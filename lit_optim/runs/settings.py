"""Configs as flat settings: ``{"optimizer.lr": 0.1, "seed": 1}``, and which of them differ between runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import yaml

from lit_optim.plan import canonical

__all__ = ["AS_SEED", "compared", "differing", "flat", "identity", "load_mapping", "load_strings", "value_text"]

AS_SEED = "= seed"
"""Stands for a further seed, such as that of the data, which follows the run's own."""

_ASIDE = ("name", "optimized_metric", "resume.on_change")  # where a run goes, and who looks at it
_PLACES = ("dirpath", "save_dir", "default_root_dir", "log_dir", "output_dir", "run_dir")  # the last names of keys
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_KEY_AT_MARGIN = re.compile(r"^(?=[A-Za-z_])", re.MULTILINE)
_LIKE_NO_STRING = re.compile(r"|~|null|true|false|[-+]?[.\d][\d_.]*([eE][-+]?\d+)?", re.IGNORECASE)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Hydra reads it: 1e-3 is a number, 2026-11-25 a string. By libyaml, eight times faster, if it is there."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != _TIMESTAMP]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), [*"-+0123456789"]
)


def load_mapping(text: str) -> dict[str, Any]:
    """Read YAML that holds a mapping.

    The runs of a sweep share most sections word for word, so each is parsed once; what can't be parsed by sections
    (anchors, brackets and quotes across lines at the margin) is parsed whole.

    Raises:
        ValueError: It holds something else.
    """
    whole: dict[str, Any] = {}
    try:
        for section in _KEY_AT_MARGIN.split(text):
            whole |= _section(section)
        return whole
    except ValueError:
        return _mapping(text)


@lru_cache(maxsize=10_000)
def _section(text: str) -> dict[str, Any]:
    return _mapping(text) if text.strip() else {}


def load_strings(text: str) -> list[str]:
    """Read YAML that holds a list of strings; a number among them is its text.

    Raises:
        ValueError: It holds something else.
    """
    content = _loaded(text)
    if not isinstance(content, list) or not all(isinstance(one, (str, int, float)) for one in content):
        raise ValueError("a list of texts is needed")
    return [str(one) for one in content]


def _mapping(text: str) -> dict[str, Any]:
    content = _loaded(text)
    if not isinstance(content, dict):
        raise ValueError("a mapping is needed")
    return content


def _loaded(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """A dotted name for every leaf; lists are leaves."""
    if isinstance(node, Mapping):
        return {name: leaf for key, item in node.items() for name, leaf in flat(item, f"{prefix}{key}.").items()}
    return {prefix[:-1]: node}


def compared(config: Mapping[str, Any], folders: Iterable[str], overridden: Iterable[str]) -> dict[str, Any]:
    """The settings that two runs may be compared by.

    Left out is where a run writes; `AS_SEED` stands for a further seed that is the run's own.

    Args:
        config: A run's config, flat.
        folders: Where the run lies and lay.
        overridden: The keys that were set on the command line: two seeds that are equal there are two settings.
    """
    places = tuple(f"{folder}{os.sep}" for folder in folders)
    kept = {}
    for key, value in config.items():
        last = key.rpartition(".")[2]
        is_place = last in _PLACES or (isinstance(value, str) and f"{value}{os.sep}".startswith(places))
        if key not in _ASIDE and key.partition(".")[0] != "logger" and not is_place:
            follows = last == "seed" != key and value == config.get("seed") and key not in overridden
            kept[key] = AS_SEED if follows else value
    return kept


def differing(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of which the runs hold different values, or which one holds and another lacks, in their order."""
    each = list(settings)
    keys = dict.fromkeys(key for one in each for key in one)
    return [key for key in keys if len({identity(one[key]) if key in one else None for one in each}) > 1]


def identity(value: Any) -> str:
    """The same text for the same setting: 1 and 1.0 are one, 1 and true are not."""
    return _identity(value) if isinstance(value, (str, int, float)) else _identity.__wrapped__(value)


@lru_cache(maxsize=100_000, typed=True)
def _identity(value: Any) -> str:
    try:
        exact = isinstance(value, int) and abs(value) > 2**53  # which floats would make alike
        return repr(value if exact else canonical(value))
    except OverflowError:
        return repr(value)


def value_text(value: Any) -> str:
    """A setting as a config would say it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {value_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and (_LIKE_NO_STRING.fullmatch(value) or not value.isprintable()):
        return repr(value)
    return str(value)
