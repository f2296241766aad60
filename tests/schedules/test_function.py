import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lit_optim.durations import Horizon, steps_of
from lit_optim.errors import ConfigError
from lit_optim.schedules import Schedule, schedule
from lit_optim.targets import instantiate


@schedule
def halving(step: int, start: float, every: int = 10) -> float:
    """Half of it every few steps."""
    return start * 0.5 ** (step // every)


@schedule
def triangle(step: int, start: float, horizon: Horizon, *, turn: str, at: Any = ()) -> float:
    up = steps_of(turn, horizon, "turn")
    return start * min(step / up, (horizon.total_steps - step) / (horizon.total_steps - up))


@schedule
def constant(step: int) -> float:
    return 0.25


RUN = Horizon(100)


def test_a_function_is_a_schedule() -> None:
    assert issubclass(halving, Schedule)
    assert halving.__doc__ == "Half of it every few steps."
    curve = halving().curve(2.0, RUN)
    assert [curve(step) for step in (0, 9, 10, 25)] == [2.0, 2.0, 1.0, 0.5]
    assert constant().curve(2.0, RUN)(7) == 0.25
    assert repr(halving(every=5)) == str(halving(every=5)) == "halving(every=5)"
    assert str(halving()) == "halving()"
    assert halving(every=5) == halving(every=5) != halving()


def test_it_asks_for_the_run_where_it_wants_to() -> None:
    curve = triangle(turn="25%").curve(2.0, RUN)
    assert [curve(step) for step in (0, 25, 100)] == [0.0, 2.0, 0.0]


@pytest.fixture
def my_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    text = """
from lit_optim.schedules import schedule


@schedule
def halving(step, start, every=10):
    return start * 0.5 ** (step // every)


def plain(step):
    return 1.0
"""
    (tmp_path / "my_curves.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_curves", raising=False)
    return "my_curves.halving"


def test_a_config_names_it(my_curves: str) -> None:
    node: dict[str, Any] = {"_target_": my_curves, "every": 20}
    made = instantiate(node, (Schedule,), "schedule.lr")
    assert made.curve(1.0, RUN)(20) == 0.5
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(ConfigError, match=r"schedule.lr.evry: .* has no argument 'evry'(.|\n)*nearest: every"):
        instantiate({"_target_": my_curves, "evry": 20}, (Schedule,), "schedule.lr")
    around = {"_target_": "lit_optim.schedules.Warmup", "schedule": node, "warmup": 10}
    assert instantiate(around, (Schedule,), "schedule.lr").curve(1.0, RUN)(30) == 0.5


def test_a_plain_function_is_told_how_to_become_one(my_curves: str) -> None:
    with pytest.raises(ConfigError, match=r"my_curves.plain is not a lit_optim Schedule") as refused:
        instantiate({"_target_": "my_curves.plain"}, (Schedule,), "schedule.lr")
    assert "put @lit_optim.schedules.schedule above it if it is a function of the step" in str(refused.value)


def test_what_a_config_has_to_give_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    triangles = ModuleType("triangles")
    triangles.triangle = triangle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triangles", triangles)
    with pytest.raises(ConfigError, match=r"schedule.lr.turn: .*triangle needs 'turn'"):
        instantiate({"_target_": "triangles.triangle"}, (Schedule,), "schedule.lr")


def test_a_list_may_be_a_default() -> None:
    @schedule
    def held(step: int, at: Sequence[int] = [3]) -> float:
        return float(sum(step >= one for one in at))

    assert held().curve(1.0, RUN)(3) == 1.0


@pytest.mark.parametrize(
    "function",
    [
        lambda step, curve: 1.0,
        lambda start: start,
        lambda step, *rest: 1.0,
        lambda step, **rest: 1.0,
        lambda step, /, start: 1.0,
    ],
)
def test_a_function_that_can_not_be_called_so_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"can't be a schedule: it needs a parameter 'step'"):
        schedule(function)
