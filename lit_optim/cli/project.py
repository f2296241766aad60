"""What a project says in its ``pyproject.toml``: the factories that its configs may call."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from lit_optim.errors import ConfigError, Mistake, nearest
from lit_optim.names import is_dotted

__all__ = ["allowed_factories"]

_TABLE = ("tool", "lit-optim")
_KEYS = ("allow",)
_EXAMPLE = 'for example [tool.lit-optim] allow = ["timm.create_model"]'


def allowed_factories(folder: Path) -> tuple[str, ...]:
    """The names under ``allow`` of ``[tool.lit-optim]`` in the nearest ``pyproject.toml``.

    Args:
        folder: The file is looked for here, then in each folder above; the first one counts, whatever it holds.

    Returns:
        Dotted names, for `lit_optim.targets.allowing`; empty where nobody wrote any.

    Raises:
        ConfigError: A file that can't be read, or a table that holds something else.
    """
    files = (above / "pyproject.toml" for above in (folder, *folder.parents))
    path = next((file for file in files if file.is_file()), None)
    return () if path is None else _names(_read(path), path)


def _read(path: Path) -> Any:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a ValueError is what TOML and UTF-8 raise
        problem = f"it can't be read: {error}"
        raise ConfigError(Mistake("pyproject.toml", problem, given=str(path), remedy="mend the file")) from error


def _names(table: Any, path: Path) -> tuple[str, ...]:
    for depth, name in enumerate(_TABLE, 1):
        table = table.get(name, {})
        if not isinstance(table, dict):
            problem = f"a table is needed (in {path})"
            raise ConfigError(Mistake(".".join(_TABLE[:depth]), problem, given=repr(table), remedy=_EXAMPLE))
    key, fix = ".".join(_TABLE), "correct the name"
    mistakes = [
        Mistake(f"{key}.{name}", f"no such setting (in {path})", repr(value), _KEYS, nearest(name, _KEYS), fix)
        for name, value in table.items()
        if name not in _KEYS
    ]
    names = table.get("allow", [])
    if not isinstance(names, list):
        mistakes.append(Mistake(f"{key}.allow", f"a list is needed (in {path})", given=repr(names), remedy=_EXAMPLE))
        names = []
    mistakes += [
        Mistake(f"{key}.allow.{index}", f"this is no dotted name (in {path})", given=repr(name), remedy=_EXAMPLE)
        for index, name in enumerate(names)
        if not is_dotted(name)
    ]
    if mistakes:
        raise ConfigError(*mistakes)
    return tuple(names)
