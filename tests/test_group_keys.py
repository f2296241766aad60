"""What a class asks of its groups is noted while it is constructed and stepped."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_optimizer
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

import lit_optim as lo
from lit_optim.group_keys import first_group, optional_keys
from lit_optim.needs import small


class Switched(Optimizer):
    """Two switches; what is in a group depends on the first."""

    def __init__(self, params: Any) -> None:
        for group in params:
            if "fast" not in group:
                raise ValueError("say fast")
            if "deep" not in group:
                raise ValueError("say deep")
            group.setdefault("rate" if group["fast"] else "momentum", 0.5)
        super().__init__(params, {"lr": 0.1})


class Refuses(Optimizer):
    def __init__(self, params: Any) -> None:
        raise ValueError(f"never, with {len(params)}")


def test_switches_are_found_and_the_keys_of_both_sides() -> None:
    group, asked = first_group(lambda group: Switched([group]))
    assert asked == ("fast", "deep")
    assert {name: group[name] for name in ("fast", "deep", "rate", "momentum", "lr")} == {
        "fast": False, "deep": False, "rate": 0.5, "momentum": 0.5, "lr": 0.1,
    }  # fmt: skip


def test_a_class_without_switches_is_asked_once() -> None:
    group, asked = first_group(lambda group: SGD([group], 0.3))
    assert (asked, group["lr"]) == ((), 0.3)
    with pytest.raises(ValueError, match="never, with 1"):
        first_group(lambda group: Refuses([group]))


@pytest.mark.parametrize(
    ("cls", "keys"),
    [
        (SGD, set()),
        (AdamW, set()),
        (pytorch_optimizer.GaLore, {"rank", "update_proj_gap", "scale", "projection_type"}),
        (pytorch_optimizer.Lion, {"cautious", "use_gc", "adanorm", "adanorm_r"}),
    ],
)
def test_options_that_a_step_looks_for(cls: Any, keys: set[str]) -> None:
    assert optional_keys(lambda: cls([small(2)])) == keys


GALORE = {"_target_": "pytorch_optimizer.GaLore", "lr": 0.1}
RANK = {"rank": 2, "update_proj_gap": 5, "scale": 0.5, "projection_type": "std"}


def planned(optimizer: dict[str, Any], **rule: Any) -> lo.Plan:
    rules = {"matrices": {"match": {"ndim": 2}, **rule}} if rule else {}
    return lo.make_plan(nn.Linear(6, 4), lo.Recipe.from_config({"optimizer": optimizer, "rules": rules}), lo.Horizon(9))


def test_a_recipe_may_set_them() -> None:
    plan = planned(GALORE, **RANK)
    assert {name: plan.group("matrices").hyperparameters[name] for name in RANK} == RANK
    assert not {*RANK} & plan.group("default").hyperparameters.keys()
    model = nn.Linear(6, 4)
    optimizer, _ = lo.build(model, plan)
    model.weight.square().sum().backward()
    optimizer.step()
    assert "projector" in optimizer.state[model.weight]


def test_those_that_belong_together_are_asked_for() -> None:
    with pytest.raises(lo.PlanError, match="can't step weight: it wants 'update_proj_gap' as well"):
        planned(GALORE, rank=2)


def test_a_misspelled_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(lo.PlanError) as refused:
        planned({"_target_": "pytorch_optimizer.Lion", "cautios": True})
    [mistake] = refused.value.mistakes
    assert mistake.nearest == ("cautious",)
    assert (
        planned({"_target_": "pytorch_optimizer.Lion", "cautious": True}).groups[0].hyperparameters["cautious"] is True
    )
