"""Our schedules are torch's, transformers', timm's and optax's to 1e-12, at every step where both mean the same."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

for peer in ("jax", "optax", "transformers", "timm"):
    pytest.importorskip(peer, reason="the extra peers has an environment of its own")

pytestmark = pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # torch's own

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "schedule_equality.py"))


@pytest.mark.parametrize("row", BENCHMARK["EQUAL"], ids=lambda row: f"{row.peer} {row.name}")
def test_the_same_value_at_every_step(row: Any) -> None:
    steps, difference = row.difference()
    assert steps == 1001
    assert difference <= 1e-12


@pytest.mark.parametrize("row", BENCHMARK["DIFFERENT"], ids=lambda row: f"{row.peer} {row.name}")
def test_what_is_said_to_differ_does(row: Any) -> None:
    assert row.difference()[1] > 1e-9
    assert row.why


def test_a_small_difference_would_be_seen() -> None:
    row = BENCHMARK["Row"](BENCHMARK["Constant"](1 + 1e-11), "", "", lambda: [BENCHMARK["LR"]] * 3)
    assert row.difference() == (3, pytest.approx(3e-12, rel=0.1))
