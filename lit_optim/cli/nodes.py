"""A node of the config → what it names, once all that can be said of it without a call is in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_optim.cli.whole_numbers import whole_number_mistakes
from lit_optim.errors import ConfigError, LitOptimError, Mistake
from lit_optim.targets import callee_of, instantiate, node_mistakes

__all__ = ["check_node", "instantiated", "node_of", "refuse"]


def instantiated(
    node: dict[str, Any], kinds: tuple[type, ...], key: str, nested: tuple[type, ...] | None = None, **more: Any
) -> Any:
    """Build what a node names, once its whole numbers are whole."""
    check_node(node, kinds, key, nested, **more)
    return instantiate(node, kinds, key, nested, **more)


def check_node(
    node: dict[str, Any], kinds: tuple[type, ...], key: str, nested: tuple[type, ...] | None = None, **more: Any
) -> None:
    """Refuse what a node names, its arguments and its whole numbers, as far as that can be said without a call."""
    mistakes = node_mistakes(node, kinds, key, nested, **more)
    with suppress(ConfigError):  # which is among them
        callee = callee_of(node, kinds, key, nested)
        halves = [*whole_number_mistakes(callee, node, key)]
        if halves and not mistakes and callee.__module__.startswith("lit_optim."):
            halves = _in_its_own_words(node, kinds, key, halves)
        mistakes += halves
    refuse(mistakes)


def _in_its_own_words(
    node: dict[str, Any], kinds: tuple[type, ...], key: str, mistakes: Sequence[Mistake]
) -> list[Mistake]:
    """The same mistakes where a class of this package says itself what it allows, and what else is wrong there."""
    try:
        instantiate(node, kinds, key)
    except LitOptimError as error:
        own = [mistake for mistake in error.mistakes if mistake.key != key]  # or a constructor that doesn't look
        return [*own, *(one for one in mistakes if one.key not in {mistake.key for mistake in own})]
    return [*mistakes]


def refuse(mistakes: Iterable[Mistake]) -> None:
    """Raise the mistakes, if there are any."""
    found = [*mistakes]
    if found:
        raise ConfigError(*found)


def node_of(config: DictConfig, key: str) -> dict[str, Any]:
    """A part of the config as plain containers."""
    node = OmegaConf.select(config, key)
    if node is None:
        return {}
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(plain, dict):
        raise ConfigError(Mistake(key, "a mapping is needed", repr(plain), remedy=f"choose one: {key}=NAME"))
    return {str(name): value for name, value in plain.items()}
