from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import lit_optim as lo

RUN = lo.Horizon(total_steps=1000, steps_per_epoch=100)


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"torch.optim.lr_scheduler.{name}", **arguments}


def plan(what: dict[str, Any], horizon: lo.Horizon = RUN, **rules: Any) -> lo.Plan:
    recipe = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
        "rules": rules,
        "schedule": {"lr": what},
    }
    return lo.make_plan(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), recipe, horizon)


def refused(what: dict[str, Any], **rules: Any) -> list[str]:
    with pytest.raises(lo.PlanError) as error:
        plan(what, **rules)
    return str(error.value).splitlines()


def warned(what: dict[str, Any], horizon: lo.Horizon = RUN) -> list[str]:
    return [warning for warning in plan(what, horizon).warnings if "is 0 from step" not in warning]


HEAD = {"match": "1", "lr": 0.01}
SAME = {"match": "1", "weight_decay": 0.5}
ONE_CYCLE = node("OneCycleLR", max_lr=0.5, total_steps=1000, cycle_momentum=False)
CYCLIC = node("CyclicLR", base_lr=0.01, max_lr=0.5, step_size_up=500, cycle_momentum=False)
RATIOS = (
    "    fix:     use lit_optim.schedules.OneCycle, whose factors are of each group's own lr, or give each rule a "
    "schedule of its own (rules.NAME.schedule.lr)"
)


def test_one_peak_for_groups_that_differ_is_refused() -> None:
    assert refused(ONE_CYCLE, head=HEAD) == [
        "schedule.lr.max_lr: OneCycleLR gives every group the same lr, and theirs differ: 0.1, 0.01",
        "    given:   0.5",
        RATIOS,
    ]
    assert refused(CYCLIC, head=HEAD) == [
        "schedule.lr.max_lr: CyclicLR gives every group the same lr, and theirs differ: 0.1, 0.01",
        "    given:   0.5",
        RATIOS,
        "schedule.lr.base_lr: CyclicLR gives every group the same lr, and theirs differ: 0.1, 0.01",
        "    given:   0.01",
        RATIOS,
    ]
    inside = node("SequentialLR", schedulers=[node("ConstantLR"), ONE_CYCLE], milestones=[5])
    assert refused(inside, head=HEAD)[0].startswith("schedule.lr.schedulers.1.max_lr: OneCycleLR gives every group")
    many = {f"r{depth}": {"match": "1" if depth else "0", "lr": 0.1 / 2**depth} for depth in range(2)}
    assert "differ: 0.1, 0.05" in refused(ONE_CYCLE, **many)[0]


def test_for_groups_that_share_it_or_have_their_own_it_is_fine() -> None:
    assert len(plan(ONE_CYCLE, head=SAME).groups) == 2
    own = plan(ONE_CYCLE, head={**HEAD, "schedule": {"lr": {**ONE_CYCLE, "max_lr": 0.05}}})
    assert [max(own.curve(group.name, "lr")) for group in own.groups] == pytest.approx([0.5, 0.05], rel=1e-4)


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"])
def test_a_minimum_above_a_groups_own_lr_is_refused(name: str) -> None:
    length = {"T_max": 1000} if name == "CosineAnnealingLR" else {"T_0": 1000}
    what = node(name, eta_min=0.02, **length)
    assert refused(what, head=HEAD) == [
        "schedule.lr.eta_min: it would raise 1.weight, 1.bias from lr 0.01 to 0.02",
        "    given:   0.02",
        "    fix:     lower eta_min below every group's lr, or use lit_optim.schedules.Cosine, whose final_factor is "
        "of each group's own lr",
    ]
    assert len(plan({**what, "eta_min": 0.01}, head=HEAD).groups) == 2
    inside = node("SequentialLR", schedulers=[node("ConstantLR"), what], milestones=[5])
    assert refused(inside, head=HEAD)[0].startswith("schedule.lr.schedulers.1.eta_min: it would raise 1.weight")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (
            node("CosineAnnealingLR", T_max=10),
            "schedule.lr.T_max: 10 counts in steps, and the run has 1,000 of them (10 epochs), so the lr falls and "
            "rises again, through 50 waves; write interval: epoch, or count up to 1,000 steps",
        ),
        (
            node("CosineAnnealingLR", T_max=1000, interval="epoch"),
            "schedule.lr.T_max: 1000 counts in epochs, and the run has 10 of them (1,000 steps), so it gets no "
            "further than 1% of its way; write interval: step, or count up to 10 epochs",
        ),
        (
            node("CosineAnnealingLR", T_max=3, interval="epoch"),
            "schedule.lr.T_max: 3 counts in epochs, and the run has 10 of them (1,000 steps), so the lr falls and "
            "rises again, through 1.67 waves; count up to 10 epochs",
        ),
        (
            node("CosineAnnealingLR", T_max=5, frequency=100),
            "schedule.lr.T_max: 5 counts in stretches of 100 steps, and the run has 10 of them (1 stretches of 100 "
            "epochs), so the lr falls and rises again, through 1 waves; count up to 10 stretches of 100 steps",
        ),
        (
            node("StepLR", step_size=3),
            "schedule.lr.step_size: 3 counts in steps, and the run has 1,000 of them (10 epochs), so 0 of the lr is "
            "left; write interval: epoch, or count up to 1,000 steps",
        ),
        (
            node("StepLR", step_size=30, interval="epoch"),
            "schedule.lr.step_size: 30 counts in epochs, and the run has 10 of them (1,000 steps), so the lr never "
            "moves; count up to 10 epochs",
        ),
        (
            node("MultiStepLR", milestones=[4, 8]),
            "schedule.lr.milestones: [4, 8] counts in steps, and the run has 1,000 of them (10 epochs), so all of it "
            "is over after 0.8% of the run; write interval: epoch, or count up to 1,000 steps",
        ),
        (
            node("MultiStepLR", milestones=[4, 500], interval="epoch"),
            "schedule.lr.milestones: [4, 500] counts in epochs, and the run has 10 of them (1,000 steps), so 500 "
            "never comes; write interval: step, or count up to 10 epochs",
        ),
        (
            node("ExponentialLR", gamma=0.9),
            "schedule.lr.gamma: 0.9 counts in steps, and the run has 1,000 of them (10 epochs), so 2e-46 of the lr "
            "is left; write interval: epoch, or count up to 1,000 steps",
        ),
        (
            node("OneCycleLR", max_lr=1.0, total_steps=1000, cycle_momentum=False, interval="epoch"),
            "schedule.lr.total_steps: 1000 counts in epochs, and the run has 10 of them (1,000 steps), so it gets no "
            "further than 1% of its way; write interval: step, or count up to 10 epochs",
        ),
        (
            node("OneCycleLR", max_lr=1.0, epochs=10, steps_per_epoch=100, cycle_momentum=False, interval="epoch"),
            "schedule.lr.epochs: 1000 counts in epochs, and the run has 10 of them (1,000 steps), so it gets no "
            "further than 1% of its way; write interval: step, or count up to 10 epochs",
        ),
        (
            node("LinearLR"),
            "schedule.lr.total_iters: 5 counts in steps, and the run has 1,000 of them (10 epochs), so it is over "
            "after 0.5% of the run; write interval: epoch, or count up to 1,000 steps",
        ),
        (
            node("CosineAnnealingWarmRestarts", T_0=10),
            "schedule.lr.T_0: 10 counts in steps, and the run has 1,000 of them (10 epochs), so its first cycle is "
            "over after 1% of the run; write interval: epoch, or count up to 1,000 steps",
        ),
        (
            node("CyclicLR", base_lr=0.01, max_lr=0.1, cycle_momentum=False),
            "schedule.lr.step_size_up: 2000 counts in steps, and the run has 1,000 of them (10 epochs), so it gets "
            "no further than 50% of its way; count up to 1,000 steps",
        ),
        (
            node(
                "SequentialLR",
                schedulers=[node("LinearLR", total_iters=100), node("CosineAnnealingLR", T_max=300)],
                milestones=[100],
            ),
            "schedule.lr.schedulers.1.T_max: 300 counts in steps, and the run has 1,000 of them (10 epochs), so the "
            "lr falls and rises again, through 1.5 waves; count up to 1,000 steps",
        ),
        (
            node("ChainedScheduler", schedulers=[node("ExponentialLR", gamma=0.5), node("ConstantLR", total_iters=90)]),
            "schedule.lr.schedulers.0.gamma: 0.5 counts in steps, and the run has 1,000 of them (10 epochs), so "
            "9e-302 of the lr is left; write interval: epoch, or count up to 1,000 steps",
        ),
    ],
    ids=str,
)
def test_a_length_that_was_likely_meant_in_the_other_unit(what: dict[str, Any], told: str) -> None:
    assert warned(what) == [told]


@pytest.mark.parametrize(
    "what",
    [
        node("CosineAnnealingLR", T_max=1000),
        node("CosineAnnealingLR", T_max=999),
        node("CosineAnnealingLR", T_max=10, interval="epoch"),
        node("CosineAnnealingLR", T_max=1200),
        node("StepLR", step_size=300),
        node("StepLR", step_size=3, interval="epoch"),
        node("StepLR", step_size=30, gamma=0.9),
        node("MultiStepLR", milestones=[300, 900]),
        node("MultiStepLR", milestones=[3, 9], interval="epoch"),
        node("ExponentialLR", gamma=0.999),
        node("ExponentialLR", gamma=0.9, interval="epoch"),
        ONE_CYCLE,
        node("OneCycleLR", max_lr=1.0, total_steps=10, cycle_momentum=False, interval="epoch"),
        CYCLIC,
        node("LinearLR", total_iters=50),
        node("PolynomialLR", total_iters=1000),
        node("CosineAnnealingWarmRestarts", T_0=100, T_mult=2),
        node("CosineAnnealingWarmRestarts", T_0=5, interval="epoch"),
        node(
            "SequentialLR",
            schedulers=[node("LinearLR", total_iters=100), node("CosineAnnealingLR", T_max=900)],
            milestones=[100],
        ),
        node("ExponentialLR", gamma=2.0),
        node("StepLR", step_size=100, gamma=3.0),
        {"_target_": "schedulers.Halving", "interval": "epoch"},
        {"_target_": "schedulers.Tenfold", "every": 1},
    ],
    ids=str,
)
def test_sound_lengths_pass(what: dict[str, Any]) -> None:
    assert warned(what) == []


def test_without_epochs_steps_are_told_alone() -> None:
    assert warned(node("CosineAnnealingLR", T_max=10), lo.Horizon(1000)) == [
        "schedule.lr.T_max: 10 counts in steps, and the run has 1,000 of them, so the lr falls and rises again, "
        "through 50 waves; count up to 1,000 steps"
    ]
    assert warned(node("LinearLR"), lo.Horizon(1000)) == []
    assert warned(node("CosineAnnealingLR", T_max=10), lo.Horizon(-1, 100)) == []
