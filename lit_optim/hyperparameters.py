"""The numbers among hyperparameters, by name: ``lr``, and ``betas.0`` for the first of ``betas``."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, TypeGuard

__all__ = ["divided", "is_number", "numbers_in", "place_of", "replaced", "value_at"]

_Values = Mapping[str, Any]


def place_of(name: str, values: _Values) -> str | None:
    """The name under which a number is found among ``values``, or None where there is none of that name.

    Args:
        name: ``"lr"``, ``"betas.0"``; ``"momentum"`` is ``"betas.0"`` where there is no momentum, since the first of
            the betas is what smooths the gradient.
        values: Hyperparameters by name.
    """
    if name in values:
        return name
    if name == "momentum":
        return place_of("betas.0", values)
    whole, _, index = name.rpartition(".")
    if index.isdecimal() and _is_list(values.get(whole)) and int(index) < len(values[whole]):
        return f"{whole}.{int(index)}"
    return None


def value_at(place: str, values: _Values) -> Any:
    """The value at a place that `place_of` found."""
    if place in values:
        return values[place]
    whole, _, index = place.rpartition(".")
    return values[whole][int(index)]


def replaced(place: str, values: _Values, value: Any) -> tuple[str, Any]:
    """The hyperparameter that holds a place, and what it is once another value stands there."""
    if place in values:
        return place, value
    whole, _, index = place.rpartition(".")
    items = [value if number == int(index) else item for number, item in enumerate(values[whole])]
    return whole, type(values[whole])(items)


def divided(values: _Values, names: Container[str]) -> dict[str, Any]:
    """The same values, the lists among ``names`` with a name for each item: ``betas.0`` and ``betas.1``."""
    return {
        place: value_at(place, values)
        for name, value in values.items()
        for place in (_places(name, value) if name in names else [name])
    }


def numbers_in(values: _Values) -> list[str]:
    """The places of all numbers among ``values``, in their order."""
    places = (place for name, value in values.items() for place in _places(name, value))
    return [place for place in places if is_number(value_at(place, values))]


def _places(name: str, value: object) -> list[str]:
    return [f"{name}.{index}" for index in range(len(value))] if _is_list(value) else [name]


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is an integer or a float, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
