"""The keys at the top of a config: the package's own, and a user's that something interpolates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_optim.cli.suggestions import homes_of
from lit_optim.errors import ConfigError, Mistake, nearest

__all__ = ["check_top_level"]

_EXPERIMENT = "experiment"
_WORD = re.compile(r"(?<![\w.])\.*([\w-]+)")  # the first part of each dotted name; dots in front make it relative


def check_top_level(config: DictConfig, hydras: DictConfig) -> list[str]:
    """Refuse a key that the command line adds (``+max_epochs=5``) and nothing reads, and an experiment without effect.

    What reads a key is the package, or an interpolation in the rest of the config. Another key in a file of the user's
    is let be, with a warning: an override may have replaced the one interpolation that read it.

    Args:
        config: As Hydra composed it, interpolations unresolved.
        hydras: Hydra's own settings, which may interpolate a key as well (``hydra.run.dir=runs/${tag}``).

    Returns:
        The warnings.

    Raises:
        ConfigError: With every such key.
    """
    known = _own_keys()
    nodes = {str(key): node for key, node in _plain(config).items()}
    settings = _plain(hydras)["hydra"]
    overrides = settings.pop("overrides")["task"]
    settings["job"].pop("override_dirname")  # the overrides again, in which everything that is typed stands
    for text in ("help", "hydra_help"):  # which hold words of any kind beside an interpolation
        settings.pop(text)
    unread = [
        _unread(key, nodes, known)
        for key in nodes
        if key not in known
        and key not in {word for other in nodes if other != key for word in _interpolated(nodes[other])}
        and key not in {*_interpolated(settings)}
    ]
    typed = {re.split(r"[.@=]", one.lstrip("+"))[0] for one in overrides if one.startswith("+")}
    mistakes = [mistake for mistake in unread if mistake.key in {*typed, _EXPERIMENT}]
    if mistakes:
        raise ConfigError(*mistakes)
    return [str(mistake) for mistake in unread]


def _own_keys() -> tuple[str, ...]:
    """What stands in the package's config, and its config groups but ``experiment``, whose choices stand at the top."""
    config = OmegaConf.create(files("lit_optim.conf").joinpath("config.yaml").read_text(encoding="utf-8"))
    groups = [str(key) for choice in config.defaults if OmegaConf.is_dict(choice) for key in choice]
    others = ("defaults", "hydra", _EXPERIMENT)
    return tuple(key for key in (*map(str, config), *groups) if key not in others and "override" not in key)


def _unread(key: str, nodes: Mapping[str, Any], known: tuple[str, ...]) -> Mistake:
    problem = f"nothing reads this: it is no key of the config, and nothing interpolates it (${{{key}}})"
    if key == _EXPERIMENT:
        remedy = "begin the file with the line `# @package _global_`, so that its keys stand at the top of the config"
        return Mistake(key, problem, remedy=remedy)
    below: dict[str, list[str]] = {name: [name] for name in known}
    for part in known:
        for name in nodes[part] if isinstance(nodes.get(part), Mapping) else ():
            below.setdefault(str(name), []).append(f"{part}.{name}")
    near = (full for name in nearest(key, below) for full in below[name])
    likely = tuple(dict.fromkeys([*homes_of(key, {part: nodes.get(part) for part in known}), *near]))
    return Mistake(key, problem, repr(nodes[key]), known, likely, "correct the name or remove it")


def _interpolated(node: Any) -> Iterator[str]:
    """The first part of every name that an interpolation in the node may stand for."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _interpolated(item)
    elif isinstance(node, str) and "${" in node:
        yield from _WORD.findall(node)


def _plain(config: DictConfig) -> dict[Any, Any]:
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return plain
