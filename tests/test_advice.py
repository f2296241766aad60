"""What is legal but suspicious is a warning: where, what, and what to do."""

from typing import Any

import pytest
from torch import nn

import lit_optim as lo

RUN = lo.Horizon(total_steps=1000, steps_per_epoch=100)


def model() -> nn.Module:
    return nn.ModuleDict(
        {"embed": nn.Embedding(7, 4), "hidden": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "head": nn.Linear(4, 7)}
    )


def adamw(rules: dict[str, Any] | None = None, schedule: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    optimizer = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.0, **values}
    return {"optimizer": optimizer, "rules": rules or {}, "schedule": schedule or {}}


def scheduled(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"lit_optim.schedules.{name}", **arguments}


def warnings(config: dict[str, Any], horizon: lo.Horizon = RUN) -> tuple[str, ...]:
    return lo.make_plan(model(), lo.Recipe.from_config(config), horizon).warnings


MUON = {"_target_": "torch.optim.Muon", "lr": 0.02}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(adamw(), (), id="nothing"),
        pytest.param(
            adamw(weight_decay=0.1),
            (
                "optimizer.weight_decay: norms are decayed, norm.weight and 1 more; a rule with match {module: norm} "
                "and weight_decay 0, or rules=no_decay, spares them",
            ),
            id="decay on a norm",
        ),
        pytest.param(
            adamw({"no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0}}, weight_decay=0.1),
            (),
            id="norms spared",
        ),
        pytest.param(
            adamw(
                {"norm": {"match": "norm.bias", "weight_decay": 0.2}},
                {"weight_decay": scheduled("Linear", start_factor=0.0, final_factor=1.0)},
            ),
            (
                "rules.norm.weight_decay: norms are decayed, norm.bias; a rule with match {module: norm} and "
                "weight_decay 0, or rules=no_decay, spares them",
            ),
            id="decay on a norm that a rule sets and a schedule moves",
        ),
        pytest.param(
            {
                "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.0},
                "rules": {"hidden": {"match": ["embed", "hidden.weight"], "optimizer": MUON}},
            },
            (
                "rules.hidden.optimizer: torch.optim.Muon is made for hidden matrices and has no partner for the "
                "embedding embed.weight; give that to another class, such as torch.optim.AdamW",
            ),
            id="Muon without a partner for the embedding",
        ),
        pytest.param(
            {
                "optimizer": {"_target_": "torch.optim.SGD", "momentum": 0.9, "nesterov": True},
                "schedule": {"momentum": scheduled("Linear", duration="50%")},
            },
            (
                "schedule.momentum: the momentum of default is 0 with Nesterov, which looks ahead along nothing; raise "
                "it, or set nesterov to false",
            ),
            id="Nesterov with a momentum that falls to 0",
        ),
        pytest.param(
            adamw({"hidden": {"match": "hidden", "lr": 0.0001}}),
            (
                "rules.hidden.lr: hidden learns at 0.0001, 1% or less of every other group's rate (0.01 and up); raise "
                "it, or freeze these parameters",
            ),
            id="a hundredth of every other rate",
        ),
        pytest.param(
            adamw({"hidden": {"match": "hidden", "multiply": {"lr": 0.001}}}),
            (
                "optimizer.lr: hidden learns at 1e-05, 1% or less of every other group's rate (0.01 and up); raise it, "
                "or freeze these parameters",
            ),
            id="a thousandth by a factor",
        ),
        pytest.param(adamw({"hidden": {"match": "hidden", "lr": 0.0002}}), (), id="a fiftieth"),
        pytest.param(
            adamw({"a": {"match": "hidden", "lr": 0.0001}, "b": {"match": "norm", "lr": 0.001}}),
            (),
            id="a hundredth of one other rate",
        ),
        pytest.param(
            {
                "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-5, "weight_decay": 0.0},
                "rules": {"hidden": {"match": "hidden.weight", "optimizer": MUON}},
            },
            (),
            id="rates of two classes are not compared",
        ),
        pytest.param(
            adamw(schedule={"lr": scheduled("Linear", duration="60%")}),
            (
                "schedule.lr: lr is 0 from step 600 of 1,000 on, so the last 40% of the run train nothing; lengthen "
                "the schedule, or shorten the run",
            ),
            id="an early end",
        ),
        pytest.param(adamw(schedule={"lr": scheduled("Linear", duration="90%")}), (), id="an end at 90%"),
        pytest.param(adamw(schedule={"lr": scheduled("WarmupCosine", warmup="50%")}), (), id="zero at the start"),
        pytest.param(
            adamw(schedule={"lr": scheduled("Milestones", at=["40%", "95%"], values=[0.0, 0.0])}),
            (
                "schedule.lr: lr is 0 from step 400 of 1,000 on, so the last 60% of the run train nothing; lengthen "
                "the schedule, or shorten the run",
            ),
            id="milestones to zero",
        ),
        pytest.param(
            adamw(schedule={"lr": scheduled("Milestones", at=["40%", "60%"], values=[0.0, 0.1])}),
            (),
            id="zero in between",
        ),
        pytest.param(
            adamw({"all": {"match": "*", "freeze": True}, "head": {"match": "^head", "freeze": False}}),
            (),
            id="probing",
        ),
        pytest.param(
            adamw({"a": {"match": "hidden", "freeze": True}, "b": {"match": "hidden", "lr": 1.0}}),
            (
                "rules.b: it changes nothing, since all that it matches is frozen; remove it (rules.b=null), or move "
                "it down",
            ),
            id="a rule for the frozen",
        ),
    ],
)
def test_what_is_suspicious(config: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert warnings(config) == expected


def test_a_run_without_an_end_has_no_early_end() -> None:
    config = adamw(schedule={"lr": scheduled("Linear", duration=10)})
    assert warnings(config, lo.Horizon(-1)) == ()


def test_warnings_stand_outside_of_the_hash_and_read_as_key_what_and_way_out() -> None:
    config = adamw({"a": {"match": "hidden", "lr": 0.0}}, weight_decay=0.1)
    for warning in warnings(config):
        key, _, text = warning.partition(": ")
        assert key.split(".")[0] in ("optimizer", "rules", "schedule")
        assert "; " in text
