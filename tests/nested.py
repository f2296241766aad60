"""Nested containers of tensors and plain values, compared bit for bit."""

from __future__ import annotations

from typing import Any

import torch


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves, by their paths."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if items is None:
        return {prefix: value}
    return {name: leaf for key, item in items for name, leaf in flat(item, f"{prefix}.{key}").items()}


def identical(one: Any, other: Any) -> bool:
    """Whether two have the same leaves in the same places."""
    mine, its = flat(one), flat(other)
    return mine.keys() == its.keys() and all(
        torch.equal(value, its[key]) if isinstance(value, torch.Tensor) else value == its[key]
        for key, value in mine.items()
    )
