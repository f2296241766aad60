import math
from typing import Any

import pytest

from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Linear,
    OneCycle,
    Piecewise,
    Polynomial,
    Schedule,
    Warmup,
    WarmupCosine,
    WarmupStableDecay,
)


def _refused(schedule: Schedule) -> list[str]:
    with pytest.raises(PlanError) as refused:
        schedule.curve(1.0, Horizon(100, 10))
    return str(refused.value).splitlines()


@pytest.mark.parametrize(
    "kind", [Linear, Polynomial, Cosine, WarmupCosine, WarmupStableDecay, CosineRestarts, OneCycle]
)
def test_one_end_alone(kind: Any) -> None:
    assert _refused(kind(final_factor=1, final_value=0.1)) == [
        "final_value: final_factor and final_value both say where it ends",
        "    given:   final_factor=1, final_value=0.1",
        "    fix:     keep final_factor (of each group's own value) or final_value (the same for every group)",
    ]


@pytest.mark.parametrize(("where", "verb"), [("start", "starts"), ("peak", "turns")])
def test_one_start_and_one_peak_alone(where: str, verb: str) -> None:
    fields: dict[str, Any] = {f"{where}_factor": 1, f"{where}_value": 0.1}
    assert _refused(OneCycle(**fields))[0] == (
        f"{where}_value: {where}_factor and {where}_value both say where it {verb}"
    )


@pytest.mark.parametrize(
    ("schedule", "field", "value"),
    [
        (Constant(math.nan), "factor", "nan"),
        (Linear(final_value="x"), "final_value", "'x'"),  # type: ignore[arg-type]
        (Linear(start_factor=True), "start_factor", "True"),
        (Cosine(final_factor=math.inf), "final_factor", "inf"),
        (WarmupCosine(start_factor="0"), "start_factor", "'0'"),  # type: ignore[arg-type]
        (OneCycle(peak_value=math.inf), "peak_value", "inf"),
        (Warmup(Cosine(), start_factor=None), "start_factor", "None"),  # type: ignore[arg-type]
        (CosineRestarts(growth=None), "growth", "None"),  # type: ignore[arg-type]
    ],
)
def test_numbers_are_needed(schedule: Schedule, field: str, value: str) -> None:
    assert _refused(schedule) == [
        f"{field}: a finite number is needed",
        f"    given:   {value}",
        f"    fix:     set {field} to such a number",
    ]


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        (Polynomial(power=0), "power"),
        (Exponential(rate=0), "rate"),
        (CosineRestarts(peak_factor=0), "peak_factor"),
    ],
)
def test_some_are_above_0(schedule: Schedule, field: str) -> None:
    assert _refused(schedule) == [
        f"{field}: a finite number above 0 is needed",
        "    given:   0",
        f"    fix:     set {field} to such a number",
    ]


@pytest.mark.parametrize("cycles", [0, 1.5, True, "2"])
def test_cycles_are_whole(cycles: Any) -> None:
    assert _refused(CosineRestarts(cycles)) == [
        "cycles: a whole number of at least 1 is needed",
        f"    given:   {cycles!r}",
        "    fix:     set cycles to such a number",
    ]


@pytest.mark.parametrize("cls", [WarmupStableDecay, OneCycle, Piecewise])
def test_a_shape_is_one_of_three(cls: Any) -> None:
    points = {"at": [5], "factors": [1.0]} if cls is Piecewise else {}
    assert _refused(cls(shape="lineal", **points)) == [
        "shape: there is no such choice",
        "    given:   'lineal'",
        "    allowed: linear, cosine, sqrt",
        "    nearest: linear",
        "    fix:     set shape to one of these",
    ]


@pytest.mark.parametrize("value", ["no", "off", 0, None])
@pytest.mark.parametrize(("cls", "field"), [(OneCycle, "three_phase"), (Exponential, "staircase")])
def test_no_is_not_taken_for_true(cls: Any, field: str, value: Any) -> None:
    assert _refused(cls(**{field: value})) == [
        f"{field}: true or false is needed",
        f"    given:   {value!r}",
        f"    fix:     write {field}: true, or {field}: false",
    ]
