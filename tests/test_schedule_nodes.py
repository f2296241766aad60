from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from torch import nn

import lit_optim as lo
from lit_optim.errors import ConfigError
from lit_optim.names import dotted_name
from lit_optim.schedule_nodes import schedule_of
from lit_optim.schedules import Cosine, Curve, Schedule
from lit_optim.schedules.plateau import Plateau
from lit_optim.simulation import TorchSchedule
from lit_optim.targets import allowing


@dataclass(frozen=True)
class Around(Schedule):
    """A schedule around others."""

    inner: Any

    def curve(self, start: float, horizon: lo.Horizon) -> Curve:
        return lambda step: start


def half() -> Schedule:
    return Cosine(final_factor=0.5)


def test_a_node_stands_for_a_schedule_of_ours_or_of_torchs() -> None:
    assert schedule_of({"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.5}, "k") == half()
    step = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2}
    assert schedule_of(step, "k") == TorchSchedule(step)
    assert schedule_of({"_target_": "schedulers.Halving"}, "k") == TorchSchedule({"_target_": "schedulers.Halving"})


def test_a_factory_that_the_project_allows_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import schedulers

    monkeypatch.setattr(schedulers, "half", half, raising=False)
    with pytest.raises(
        ConfigError, match=r"^k\._target_: schedulers\.half is not a lit_optim Schedule or torch LRSched"
    ):
        schedule_of({"_target_": "schedulers.half"}, "k")
    with allowing("schedulers.half"):
        assert schedule_of({"_target_": "schedulers.half"}, "k") == half()


@pytest.mark.parametrize(
    ("target", "nearest"),
    [("lit_optim.schedules.Cosin", "Cosine"), ("torch.optim.lr_scheduler.StepLr", "StepLR")],
)
def test_a_misspelled_name_is_answered_with_the_nearest(target: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as refused:
        schedule_of({"_target_": target}, "k")
    assert nearest in refused.value.mistakes[0].nearest


@pytest.mark.parametrize("target", [None, 3, "", "a b"])
def test_what_is_no_name_is_refused(target: object) -> None:
    with pytest.raises(ConfigError, match=r"^k\._target_: the dotted name of a class is needed"):
        schedule_of({"_target_": target}, "k")


@pytest.mark.parametrize("several", [False, True])
def test_a_plateau_inside_of_another_is_refused(monkeypatch: pytest.MonkeyPatch, several: bool) -> None:
    import schedulers

    monkeypatch.setattr(schedulers, "Around", Around, raising=False)
    plateau = {"_target_": dotted_name(Plateau), "monitor": "val/loss"}
    node = {"_target_": "schedulers.Around", "inner": [plateau] if several else plateau}
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "schedule": {"lr": node}}
    with pytest.raises(lo.PlanError) as refused:
        lo.make_plan(nn.Linear(1, 1), recipe, lo.Horizon(10))
    assert str(refused.value).splitlines() == [
        "schedule.lr.inner: a schedule that follows a metric can't be a part of another",
        "    fix:     let it stand by itself; it has a warmup of its own",
    ]


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("StepLR", "use lit_optim.schedules.Exponential with staircase: true, or join torch's in a "),
        ("CyclicLR", "join torch's in a "),
        ("ReduceLROnPlateau", "use lit_optim.schedules.Plateau by itself; it has a warmup of its own"),
    ],
)
def test_a_scheduler_of_torchs_inside_of_ours_is_refused_with_what_to_do_instead(name: str, fix: str) -> None:
    inner = {"_target_": f"torch.optim.lr_scheduler.{name}"}
    sequence = "torch.optim.lr_scheduler.SequentialLR, with a LinearLR for a warm-up"
    for node, place in (
        ({"_target_": "lit_optim.schedules.Warmup", "schedule": inner}, "k.schedule"),
        ({"_target_": "lit_optim.schedules.Joined", "schedules": [inner], "at": []}, "k.schedules.0"),
    ):
        with pytest.raises(ConfigError) as refused:
            schedule_of(node, "k")
        assert str(refused.value).splitlines() == [
            f"{place}._target_: a scheduler of torch's can't be a part of this schedule",
            f"    given:   torch.optim.lr_scheduler.{name}",
            f"    fix:     {fix}{sequence if fix.endswith(' ') else ''}",
        ]


def test_what_is_named_instead_exists() -> None:
    from lit_optim import schedules
    from lit_optim.schedule_nodes import _SAME

    assert all(hasattr(schedules, own.partition(" ")[0]) for own in _SAME.values())
