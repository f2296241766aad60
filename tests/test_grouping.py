from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import lit_optim as lo
from lit_optim.grouping import _unique, few
from lit_optim.models import MLP
from lit_optim.selection import entries_of


def planned(rules: dict[str, Any], model: nn.Module | None = None) -> lo.Plan:
    config = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 1.0, "weight_decay": 0.0}, "rules": rules}
    return lo.make_plan(model or MLP(2, (2, 2), 2), lo.Recipe.from_config(config), lo.Horizon(10))


def test_groups_of_a_class_stand_together_in_the_order_of_their_first_parameters() -> None:
    muon = {"_target_": "torch.optim.Muon"}
    rules = {"matrix": {"match": "layer.2.weight", "optimizer": muon}, "last": {"match": "layer.4", "lr": 0.5}}
    assert [(group.name, group.optimizer.rpartition(".")[2]) for group in planned(rules).groups] == [
        ("default", "AdamW"),
        ("last", "AdamW"),
        ("matrix", "Muon"),
    ]


def test_time_frozen_and_free_are_not_merged() -> None:
    plan = planned({"a": {"match": "layer.0", "freeze_until": 3}, "b": {"match": "layer.2", "freeze_until": "30%"}})
    assert [(group.name, group.freeze_until, len(group.parameters)) for group in plan.groups] == [
        ("a.b", 3, 4),
        ("default", 0, 2),
    ]


def test_layers_that_end_alike_share_a_group_without_a_layer_in_its_name() -> None:
    plan = planned({"layers": {"match": "*", "layer_decay": {"rate": 0.5, "min_factor": 0.5}}})
    assert [(group.name, group.hyperparameters["lr"]) for group in plan.groups] == [
        ("layers", 0.5),
        ("layers.depth2", 1.0),
    ]


@pytest.mark.parametrize(("taken", "name"), [([], "a"), (["a"], "a.2"), (["a", "a.2"], "a.3"), (["a.2"], "a")])
def test_a_name_that_is_taken_gets_the_first_free_number(taken: list[str], name: str) -> None:
    assert _unique("a", taken) == name


def test_a_few_names_stand_for_many() -> None:
    entries = entries_of(MLP(2, (2, 2), 2))
    assert few(entries[:2]) == "layer.0.weight, layer.0.bias"
    assert few(entries) == "layer.0.weight, layer.0.bias, layer.2.weight and 3 more"


def test_the_last_layer_is_named_as_the_others_unless_it_holds_what_no_rule_shapes() -> None:
    assert planned({"layers": {"match": "*", "layer_decay": 0.5}}).groups[-1].name == "layers.depth2"
    assert planned({"layers": {"match": ["layer.2", "layer.4.bias"], "layer_decay": 0.5}}).groups[0].name == "default"
