"""A table of runs that can be read however many settings differ: beside the results, on their side, or folded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lit_optim.tables import ABSENT, NO_BREAK, shortened, table, wrapped

__all__ = ["Cells", "folded", "labelled", "laid_out"]

Cells = Mapping[str, Sequence[str]]
"""By heading, a text a row."""

_Column = tuple[str, Sequence[str]]

_LONGEST = 28  # characters of a heading or a cell
_FEW = 4  # runs that can be read from left to right
_TARGET = "._target_"
_RULES = "rules."
_THERE = "there"  # the cell of a rule that a row has


def laid_out(names: Sequence[str], results: Cells, settings: Cells, rest: Cells, width: int) -> str:
    """The table, as it reads best.

    The settings stand beside the results where that fits. Else, of a few runs, they have a table of their own with a
    line a setting; and of many, they go by the last parts of their keys, and where that isn't enough, those that come
    with a class or a rule are told below it, once (see `folded`). Columns that don't fit even so go on in further
    tables.

    Args:
        names: Of the rows.
        results: What stands first.
        settings: What differs, by config key.
        rest: What stands last, and may go on below.
        width: Characters a line.
    """
    first, last = [("run", names), *results.items()], [*rest.items()]
    beside = _short(settings)
    if not beside or _fits([*first, *beside], width):
        return _table([*first, *beside, *last], width)
    cells = zip(*(cells for _, cells in beside), strict=True)
    sideways = [("setting", [*_by_class(settings)]), *zip(names, cells, strict=True)]
    if len(names) <= _FEW and _fits(sideways, width):
        return f"{_table([*first, *last], width)}\n\n{_table(sideways, width)}"
    taken = [heading for heading, _ in (*first, *last)]
    by_leaf = _short(settings, taken)
    if _fits([*first, *by_leaf], width):
        return _table([*first, *by_leaf, *last], width)
    kept, notes = folded(settings)
    tables = [_table([*first, *columns, *last], width) for columns in (_short(kept), _short(kept, taken))]
    lines = [min(tables, key=_count), *([""] if notes else [])]
    return "\n".join([*lines, *(wrapped(note, width) for note in notes)])


def labelled(settings: Cells) -> list[str]:
    """In a few words what each row is: ``AdamW lr=0.1``; nothing where no setting differs."""
    columns, _ = folded(settings)
    said = {key: key for key in columns if not key.endswith(_TARGET) and f"{key}{_TARGET}" not in settings}
    said = dict(zip(said, _leaves([*said]), strict=True))
    texts = (
        [f"{said[key]}={cell}" for cell in cells] if key in said else _classes(cells) for key, cells in columns.items()
    )
    return [" ".join(of_row) for of_row in zip(*texts, strict=True)]


def folded(settings: Cells) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Fold what comes with something else into one column, and tell it in words.

    What stands beside a ``_target_`` comes with it as far as rows of the same class say the same; what stands in a rule
    that some rows lack comes with the rule as far as all rows that have it say the same.

    Returns:
        The columns that are left, and a line for each choice: ``with optimizer AdamW: betas [0.9, 0.999], eps 1e-08``.
    """
    node_of: dict[str, str] = {}
    variants: dict[str, Sequence[str]] = {}
    for node, variant in _nodes(settings):
        below = [key for key in settings if key.startswith(f"{node}.") and key not in node_of]
        members = [key for key in below if len({*zip(variant, settings[key], strict=True)}) == len({*variant})]
        if len(members) > 1:
            variants[node] = variant
            node_of |= dict.fromkeys(members, node)
    columns: dict[str, Sequence[str]] = {}
    for key, cells in settings.items():
        node = node_of.get(key, key)
        columns.setdefault(node, variants.get(node, cells))
    return columns, [note for node, variant in variants.items() for note in _notes(node, variant, settings, node_of)]


def _nodes(settings: Cells) -> Iterator[tuple[str, Sequence[str]]]:
    """What others may come with: rules, which some rows may lack, then classes; each with what it is in each row."""
    for rule in dict.fromkeys(".".join(key.split(".")[:2]) for key in settings if key.startswith(_RULES)):
        of_rule = [cells for key, cells in settings.items() if key.startswith(f"{rule}.")]
        is_there = [any(cell != ABSENT for cell in cells) for cells in zip(*of_rule, strict=True)]
        yield rule, [_THERE if there else ABSENT for there in is_there]
    for key, cells in settings.items():
        if key.endswith(_TARGET):
            yield key.removesuffix(_TARGET), _classes(cells)


def _notes(node: str, variant: Sequence[str], settings: Cells, node_of: Mapping[str, str]) -> Iterator[str]:
    for choice in dict.fromkeys(variant):
        row = variant.index(choice)
        said = {key.removeprefix(f"{node}."): settings[key][row] for key in node_of if node_of[key] == node}
        texts = [f"{key} {cell}".replace(" ", NO_BREAK) for key, cell in said.items() if cell != ABSENT]
        texts = [text for text in texts if not text.startswith(f"_target_{NO_BREAK}")]
        if texts:
            yield f"with {node}{'' if choice == _THERE else f' {choice}'}: {', '.join(texts)}"


def _short(settings: Cells, taken: Sequence[str] | None = None) -> list[_Column]:
    """Headings and cells that are not too long; with the headings that are ``taken``, by the last parts of the keys."""
    columns = _by_class(settings)
    headings = [*columns] if taken is None else _leaves([*columns], taken)
    cells = [shortened(of_column, _LONGEST) for of_column in columns.values()]
    return [*zip(shortened(headings, _LONGEST), cells, strict=True)]


def _leaves(keys: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """The last parts of keys, as far as no other heading is the same."""
    leaves = [key.rpartition(".")[2] for key in keys]
    others = [*leaves, *taken]
    return [leaf if others.count(leaf) == 1 else key for key, leaf in zip(keys, leaves, strict=True)]


def _by_class(settings: Cells) -> dict[str, Sequence[str]]:
    """A class by its name, under the name of what it is for."""
    columns: dict[str, Sequence[str]] = {}
    for key, cells in settings.items():
        node = key.removesuffix(_TARGET)
        columns[key if node in settings else node] = cells if node == key else _classes(cells)
    return columns


def _classes(cells: Sequence[str]) -> Sequence[str]:
    """Classes without their modules, if that leaves them different."""
    names = [cell.rpartition(".")[2] for cell in cells]
    return names if len({*names}) == len({*cells}) else cells


def _table(columns: Sequence[_Column], width: int) -> str:
    return table([heading for heading, _ in columns], zip(*(cells for _, cells in columns), strict=True), width)


def _fits(columns: Sequence[_Column], width: int) -> bool:
    """Whether it is one table, and none below."""
    return _count(_table(columns, width)) == 1


def _count(text: str) -> int:
    """Tables, one below the other."""
    return text.count("\n\n") + 1
