from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from lit_optim import simulation
from lit_optim.durations import Horizon
from lit_optim.errors import PlanError
from lit_optim.simulation import TorchSchedule, optimizer_argument

RUN = Horizon(total_steps=100, steps_per_epoch=10)
HALVING = {"_target_": "schedulers.Halving"}


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"torch.optim.lr_scheduler.{name}", **arguments}


def refused(schedule: TorchSchedule, horizon: Horizon = RUN) -> list[str]:
    with pytest.raises(PlanError) as error:
        schedule.curve(1.0, horizon)
    return str(error.value).splitlines()


def test_how_often_it_is_stepped() -> None:
    def stepped(interval: str, frequency: int, horizon: Horizon = RUN) -> list[int]:
        tick = TorchSchedule(HALVING, interval, frequency).ticks(horizon)
        return [tick(step) for step in (0, 1, 9, 10, 19, 20, 25, 26, 99)]

    uneven = Horizon(60, 9, None, ((0, 9), (2, 4)))
    assert stepped("step", 1) == [0, 1, 9, 10, 19, 20, 25, 26, 99]
    assert stepped("step", 3) == [0, 0, 3, 3, 6, 6, 8, 8, 33]
    assert stepped("epoch", 1) == [0, 0, 0, 1, 1, 2, 2, 2, 9]
    assert stepped("epoch", 2) == [0, 0, 0, 0, 0, 1, 1, 1, 4]
    assert stepped("epoch", 1, uneven) == [0, 0, 1, 1, 2, 2, 3, 4, 22]


def test_a_curve_needs_no_end_of_the_run() -> None:
    curve = TorchSchedule(HALVING).curve(1.0, Horizon(-1))
    assert curve(1000) == 2.0**-1000
    assert curve(3) == 0.125
    assert TorchSchedule(HALVING, "epoch").curve(1.0, Horizon(-1, 5))(14) == 0.25


def test_epochs_need_a_length() -> None:
    assert refused(TorchSchedule(HALVING, "epoch"), Horizon(100)) == [
        "interval: it can't be stepped by epochs: nobody knows how long an epoch is",
        "    given:   'epoch'",
        "    allowed: step, epoch",
        "    fix:     write interval: step, or set trainer.limit_train_batches to a number of batches",
    ]


def test_a_scheduler_that_ends_before_the_run_is_refused() -> None:
    one_cycle = node("OneCycleLR", max_lr=1.0, total_steps=99, cycle_momentum=False)
    told = refused(TorchSchedule(one_cycle))
    assert told[0].startswith("total_steps: OneCycleLR takes 99 steps and then raises ValueError: Tried to step 100")
    assert told[0].endswith("; this run has 100")
    assert told[1:] == ["    given:   99", "    fix:     write total_steps: 100, or interval: epoch"]
    whole = TorchSchedule({**one_cycle, "total_steps": 100}).curve(1.0, RUN)
    assert whole(99) < 1e-4
    assert TorchSchedule(one_cycle, "epoch").curve(1.0, RUN)(99) == TorchSchedule(one_cycle).curve(1.0, Horizon(9))(9)
    assert refused(TorchSchedule({"_target_": "schedulers.Ending"})) == [
        ": Ending takes 3 steps and then raises RuntimeError: the end; this run has 100",
        "    fix:     correct its arguments, or step it less often (interval, frequency)",
    ]


def test_past_the_last_step_that_it_takes_the_value_stays() -> None:
    curve = TorchSchedule({"_target_": "schedulers.Ending"}).curve(1.0, Horizon(3))
    assert [curve(step) for step in (2, 3, 4, 1000)] == [0.25, 0.125, 0.125, 0.125]


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_a_scheduler_that_moves_the_momentum_is_refused(name: str) -> None:
    lengths = {"OneCycleLR": {"total_steps": 100}, "CyclicLR": {"base_lr": 0.1}}
    what = node(name, max_lr=1.0, **lengths[name])
    for given in ({}, {"cycle_momentum": True}):
        assert refused(TorchSchedule({**what, **given})) == [
            f"cycle_momentum: {name} moves the momentum as well, and under lr nothing but lr moves",
            "    given:   True",
            "    fix:     write cycle_momentum: false; or use lit_optim.schedules.OneCycle, which moves the lr under "
            "schedule.lr and the momentum under schedule.momentum",
        ]
    TorchSchedule({**what, "cycle_momentum": False}).curve(1.0, RUN)


def test_so_is_one_of_a_users_own_that_moves_more() -> None:
    assert refused(TorchSchedule({"_target_": "schedulers.Decaying"})) == [
        ": Decaying moves weight_decay as well, and under lr nothing but lr moves",
        "    fix:     use a Schedule for each of them (see lit_optim.schedules)",
    ]


def test_what_a_constructor_refuses_is_told() -> None:
    assert refused(TorchSchedule(node("CosineAnnealingWarmRestarts", T_0=0))) == [
        ": torch.optim.lr_scheduler.CosineAnnealingWarmRestarts refused its arguments: ValueError: Expected positive "
        "integer T_0, but got 0",
        "    fix:     see its documentation for what it takes",
    ]


def test_no_warning_of_the_simulation_gets_out() -> None:
    two = [node("StepLR", step_size=3), node("ExponentialLR", gamma=0.9)]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        TorchSchedule(node("SequentialLR", schedulers=two, milestones=[7])).curve(0.123, RUN)(99)
    assert seen == []


def test_the_generators_stay_as_they_were() -> None:
    state = torch.get_rng_state()
    TorchSchedule(HALVING).curve(0.4567, RUN)(99)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_was_simulated_is_asked_for_once() -> None:
    before = simulation._simulated.cache_info().misses
    for _ in range(3):
        TorchSchedule({**HALVING, "floor": 0.0078}).curve(0.789, RUN)
    assert simulation._simulated.cache_info().misses == before + 1


def test_a_class_that_was_defined_anew_is_simulated_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    import schedulers

    assert TorchSchedule(HALVING).curve(1.0, RUN)(2) == 0.25
    monkeypatch.setattr(schedulers, "Halving", schedulers.Ending)
    assert TorchSchedule({**HALVING, "floor": 0.5}).curve(1.0, Horizon(3))(2) == 0.5
    assert TorchSchedule(HALVING).curve(1.0, Horizon(3))(9) == 0.125


def test_the_argument_that_takes_the_optimizer() -> None:
    import schedulers

    assert optimizer_argument(schedulers.Halving) == "optimizer"
    assert optimizer_argument(torch.optim.lr_scheduler.ChainedScheduler) == "optimizer"
    assert optimizer_argument(schedulers.OtherName) == "wrapped"


def test_it_says_how_its_curve_came_about() -> None:
    assert TorchSchedule(HALVING).label == "simulated, Halving is stepped every optimizer step"
    assert TorchSchedule(HALVING, "epoch").label == "simulated, Halving is stepped every epoch"
    assert TorchSchedule(HALVING, "epoch", 3).label == "simulated, Halving is stepped every 3 epochs"
    assert TorchSchedule(HALVING, "step", 2000).label == "simulated, Halving is stepped every 2,000 optimizer steps"
