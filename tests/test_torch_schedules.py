from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import lit_optim as lo
from lit_optim.errors import ConfigError
from lit_optim.schedules.plateau import Plateau
from lit_optim.simulation import TorchSchedule
from lit_optim.targets import allowing
from lit_optim.torch_schedules import TorchPlateau, schedulers_in, torch_schedule

RUN = lo.Horizon(100, 10)
NO_FUNCTION = (
    "    fix:     name a Schedule of your own, a dataclass with a method curve(start, horizon); or let the project's "
    "pyproject.toml allow what makes the function, and write {}: {{_target_: my_package.that}}"
)


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"torch.optim.lr_scheduler.{name}", **arguments}


def read(what: dict[str, Any]) -> Any:
    return torch_schedule(what, "schedule.lr")


def refused(what: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        read(what)
    return {mistake.key: mistake.problem for mistake in error.value.mistakes}


def test_it_is_stepped_with_the_optimizer_unless_said_otherwise() -> None:
    step = node("StepLR", step_size=3)
    assert read(step) == TorchSchedule(step, "step", 1)
    assert read({**step, "interval": "epoch", "frequency": 2}) == TorchSchedule(step, "epoch", 2)


def test_reduce_on_plateau_becomes_one_of_ours() -> None:
    what = node("ReduceLROnPlateau", monitor="val/acc", mode="max", patience=3, min_lr=1e-5)
    assert read(what) == TorchPlateau("val/acc", mode="max", patience=3, min_lr=1e-5)
    assert read({**what, "interval": "epoch", "frequency": 1}) == read(what)
    defaults = vars(TorchPlateau("m"))
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
    of_theirs = {name: value for name, value in vars(theirs).items() if name in defaults}
    assert of_theirs == {name: defaults[name] for name in of_theirs}
    assert len(of_theirs) >= 6
    assert isinstance(read(what), Plateau)


@pytest.mark.parametrize(
    ("what", "problems"),
    [
        (node("StepLR"), {".step_size": "torch.optim.lr_scheduler.StepLR needs 'step_size'"}),
        (
            node("StepLR", step_size=1, gama=0.1),
            {".gama": "torch.optim.lr_scheduler.StepLR has no argument 'gama'"},
        ),
        (node("StepLR", step_size=1, interval="batch"), {".interval": "no such interval"}),
        (node("StepLR", step_size=1, interval=None), {".interval": "no such interval"}),
        (
            node("StepLR", step_size=1, frequency=0),
            {".frequency": "a whole number of steps or epochs is needed, at least 1"},
        ),
        (
            node("StepLR", step_size=1, frequency=True),
            {".frequency": "a whole number of steps or epochs is needed, at least 1"},
        ),
        (node("StepLR", step_size=1, monitor="val/loss"), {".monitor": "StepLR looks at no metric"}),
        (
            node("ReduceLROnPlateau"),
            {".monitor": "ReduceLROnPlateau needs the name of the metric that it looks at"},
        ),
        (
            node("ReduceLROnPlateau", monitor="m", interval="step", frequency=2),
            dict.fromkeys(
                (".interval", ".frequency"),
                "ReduceLROnPlateau looks each time its metric is logged anew, and counts nothing else",
            ),
        ),
        (
            node("ReduceLROnPlateau", monitor="m", min_lr=[0.1, 0.2], warmup=3),
            {
                ".min_lr": "a list goes by the order of the groups, which a rule changes without a word",
                ".warmup": "torch.optim.lr_scheduler.ReduceLROnPlateau has no argument 'warmup'",
            },
        ),
        (
            {"_target_": "schedulers.Milder", "monitor": "m"},
            {"._target_": "Milder may decide otherwise than its base does"},
        ),
        (
            node("StepLR", step_size=1, optimizer="mine", last_epoch=3),
            {
                ".optimizer": "this is not for a config to say: the plan gives it one",
                ".last_epoch": "this is not for a config to say: the optimizer step tells where it stands",
            },
        ),
        (
            {"_target_": "schedulers.OtherName", "wrapped": 3},
            {".wrapped": "this is not for a config to say: the plan gives it one"},
        ),
        (
            node("OneCycleLR", max_lr=[0.1, 0.2], total_steps=10),
            {".max_lr": "a list goes by the order of the groups, which a rule changes without a word"},
        ),
        (
            node("SequentialLR", milestones=[3], schedulers=[node("StepLR", step_size=1, interval="epoch"), 3]),
            {
                ".schedulers.0.interval": "a scheduler inside of another is stepped by that",
            },
        ),
        (
            node("ChainedScheduler", schedulers=[node("ReduceLROnPlateau"), node("LinearLR", total=3)]),
            {
                ".schedulers.0._target_": "ReduceLROnPlateau can't stand inside of another",
                ".schedulers.1.total": "torch.optim.lr_scheduler.LinearLR has no argument 'total'",
            },
        ),
        (
            node("ChainedScheduler", schedulers=[{"_target_": "lit_optim.schedules.Cosine"}]),
            {
                ".schedulers.0._target_": "lit_optim.schedules.Cosine is not a torch LRScheduler, so a config may not "
                "call it"
            },
        ),
    ],
    ids=str,
)
def test_what_a_config_may_not_say(what: dict[str, Any], problems: dict[str, str]) -> None:
    assert refused(what) == {f"schedule.lr{key}": problem for key, problem in problems.items()}


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        (
            node("LambdaLR"),
            [
                "schedule.lr.lr_lambda: LambdaLR moves by a function, which no config can hold",
                NO_FUNCTION.format("lr_lambda"),
            ],
        ),
        (
            node("MultiplicativeLR", lr_lambda="lambda step: 0.9"),
            [
                "schedule.lr.lr_lambda: MultiplicativeLR moves by a function, which no config can hold",
                "    given:   'lambda step: 0.9'",
                NO_FUNCTION.format("lr_lambda"),
            ],
        ),
        (
            node("CyclicLR", base_lr=0.1, max_lr=0.2, scale_fn="x"),
            [
                "schedule.lr.scale_fn: CyclicLR moves by a function, which no config can hold",
                "    given:   'x'",
                NO_FUNCTION.format("scale_fn"),
            ],
        ),
        (
            node("StepLR", step_size=1, monitor="val/loss"),
            [
                "schedule.lr.monitor: StepLR looks at no metric",
                "    given:   'val/loss'",
                "    fix:     remove it; lit_optim.schedules.Plateau and torch.optim.lr_scheduler.ReduceLROnPlateau "
                "look at one",
            ],
        ),
        (
            node("ReduceLROnPlateau"),
            [
                "schedule.lr.monitor: ReduceLROnPlateau needs the name of the metric that it looks at",
                "    fix:     for example schedule.lr.monitor=val/loss",
            ],
        ),
    ],
    ids=str,
)
def test_a_refusal_reads_like_this(what: dict[str, Any], lines: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        read(what)
    assert str(error.value).splitlines() == lines


def test_a_function_comes_from_a_factory_that_the_project_allows() -> None:
    what = node("LambdaLR", lr_lambda={"_target_": "schedulers.falling_factor", "rate": 0.5})
    assert refused(what) == {
        "schedule.lr.lr_lambda._target_": "schedulers.falling_factor is not a lit_optim Schedule or torch LRScheduler, "
        "so a config may not call it"
    }
    with allowing("schedulers.falling_factor"):
        assert read(what).curve(1.0, RUN)(3) == 0.125
        assert refused(node("LambdaLR", lr_lambda={"_target_": "os.system", "command": "true"}))


@pytest.mark.parametrize("name", ["weight_decay", "momentum"])
@pytest.mark.parametrize("what", [node("StepLR", step_size=30), node("ReduceLROnPlateau", monitor="val/loss")])
def test_they_move_lr_alone(name: str, what: dict[str, Any]) -> None:
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "momentum": 0.9}, "schedule": {name: what}}
    with pytest.raises(lo.PlanError) as error:
        lo.make_plan(nn.Linear(1, 1), recipe, RUN)
    assert str(error.value).splitlines() == [
        f"schedule.{name}._target_: torch's schedulers move lr, and not {name}",
        f"    given:   {what['_target_']}",
        "    fix:     use one of lit_optim.schedules: they move any number",
    ]


def test_schedulers_are_found_at_any_depth() -> None:
    inner = node("ChainedScheduler", schedulers=[node("StepLR", step_size=1), node("ConstantLR")])
    what = node("SequentialLR", milestones=[3], schedulers=[inner, node("LinearLR")])
    assert [(cls.__name__, key) for cls, _, key in schedulers_in(what, "lr")] == [
        ("SequentialLR", "lr"),
        ("ChainedScheduler", "lr.schedulers.0"),
        ("StepLR", "lr.schedulers.0.schedulers.0"),
        ("ConstantLR", "lr.schedulers.0.schedulers.1"),
        ("LinearLR", "lr.schedulers.1"),
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "key"),
    [
        ("MultiStepLR", {"milestones": ["50%"]}, "milestones"),
        ("MultiStepLR", {"milestones": "abc"}, "milestones"),
        ("MultiStepLR", {"milestones": [-3, 5]}, "milestones"),
        ("StepLR", {"step_size": -1}, "step_size"),
        ("StepLR", {"step_size": 5, "gamma": "abc"}, "gamma"),
        ("StepLR", {"step_size": 5, "gamma": None}, "gamma"),
        ("ConstantLR", {"total_iters": "5"}, "total_iters"),
        ("CosineAnnealingLR", {"T_max": -5}, "T_max"),
        ("CosineAnnealingLR", {"T_max": "10epochs"}, "T_max"),
        ("ReduceLROnPlateau", {"monitor": "val/loss", "min_lr": "abc"}, "min_lr"),
        ("ReduceLROnPlateau", {"monitor": "val/loss", "min_lr": None}, "min_lr"),
        ("ReduceLROnPlateau", {"monitor": "val/loss", "eps": "x"}, "eps"),
    ],
)
def test_numbers_that_torch_does_not_look_at_are_refused_before_it_reckons(
    name: str, arguments: dict[str, Any], key: str
) -> None:
    node = {"_target_": f"torch.optim.lr_scheduler.{name}", **arguments}
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "schedule": {"lr": node}}
    with pytest.raises(lo.LitOptimError) as refused:
        lo.make_plan(torch.nn.Linear(2, 2), recipe, lo.Horizon(100, 10))
    assert [mistake.key for mistake in refused.value.mistakes] == [f"schedule.lr.{key}"]


def test_the_rate_of_weight_averaging_does_not_flatten_the_groups() -> None:
    node = {"_target_": "torch.optim.swa_utils.SWALR", "swa_lr": 0.05}
    rules = {"bias": {"match": "bias", "lr": 0.2}}
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "rules": rules, "schedule": {"lr": node}}
    with pytest.raises(lo.PlanError, match=r"schedule.lr.swa_lr: SWALR gives every group the same lr"):
        lo.make_plan(torch.nn.Linear(2, 2), recipe, lo.Horizon(100, 10))
