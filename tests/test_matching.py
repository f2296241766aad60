from __future__ import annotations

from typing import Any

import modelzoo as zoo
import pytest
from torch import nn

import lit_optim as lo

RUN = lo.Horizon(total_steps=100)


def planned(rules: dict[str, Any], model: nn.Module) -> lo.Plan:
    config = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.0}, "rules": rules}
    return lo.make_plan(model, lo.Recipe.from_config(config), RUN)


def refused(rules: dict[str, Any], model: nn.Module) -> list[str]:
    with pytest.raises(lo.PlanError) as error:
        planned(rules, model)
    return str(error.value).splitlines()


def test_a_tied_parameter_that_is_claimed_two_ways_is_refused() -> None:
    rules = {"embedding": {"match": "tokens", "lr": 0.2}, "head": {"match": "out", "lr": 0.3}}
    assert refused(rules, zoo.Gpt()) == [
        "rules.head.match: a tied parameter is claimed two ways: as tokens.weight by rules.embedding and as out.weight "
        "by rules.head",
        "    given:   rules.embedding.lr=0.2, rules.head.lr=0.3",
        "    fix:     exclude it from one of them, {…, not: out.weight}, or let both say the same",
    ]
    assert planned(rules, zoo.Gpt(tied=False)).group("head").hyperparameters["lr"] == 0.3


def test_a_tied_parameter_that_is_frozen_by_one_name_and_set_by_the_other_is_refused() -> None:
    rules = {"body": {"match": "tokens", "freeze": True}, "head": {"match": "out", "lr": 0.3, "weight_decay": 0.1}}
    assert refused(rules, zoo.Gpt()) == [
        "rules.head.match: a tied parameter is claimed two ways: as tokens.weight by rules.body and as out.weight by "
        "rules.head",
        "    given:   rules.body.freeze=True, rules.head.lr=0.3, rules.head.weight_decay=0.1",
        "    fix:     exclude it from one of them, {…, not: out.weight}, or let both say the same",
    ]
    both = {name: {**rule, "freeze": True} for name, rule in rules.items()}
    assert planned(both, zoo.Gpt()).frozen_by["tokens.weight"] == "head"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"multiply": {"lr": 0.5}}, {"multiply": {"lr": 0.1}}),
        ({"freeze": True}, {"freeze": False}),
        ({"freeze": True}, {"freeze_until": 10}),
        ({"freeze": True}, {"lr": 0.2}),
        ({"multiply": {"lr": 0.2}}, {"freeze": True}),
        ({"freeze": True}, {"clip_norm": 1.0}),
        ({"clip_norm": 0.5}, {"clip_norm": 1.0}),
        ({"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.3}}, {"lr": 0.2}),
        ({"schedule": {"lr": None}}, {"schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine"}}}),
        ({"lr": 0.1, "optimizer": {"_target_": "torch.optim.SGD"}}, {"optimizer": {"_target_": "torch.optim.Adam"}}),
    ],
)
def test_whatever_it_is_that_they_set(one: dict[str, Any], other: dict[str, Any]) -> None:
    rules = {
        "a": {"match": {"module": "embedding"}, **one},
        "b": {"match": {"module": "linear", "name": "out"}, **other},
    }
    assert refused(rules, zoo.Gpt())[0].startswith(
        "rules.b.match: a tied parameter is claimed two ways: as tokens.weight"
    )


@pytest.mark.parametrize(
    "rules",
    [
        {"a": {"match": "tokens", "lr": 0.2}, "b": {"match": "out", "lr": 0.2}},
        {"a": {"match": "tokens", "lr": 0.2}, "b": {"match": "out", "betas": [0.8, 0.9]}},
        {"a": {"match": "tokens", "lr": 0.2}, "b": {"match": {"ndim": 2}, "lr": 0.3}},
        {"a": {"match": "tokens", "freeze_until": 5}, "b": {"match": "out", "lr": 0.3}},
        {"a": {"match": "tokens", "freeze": False}, "b": {"match": "out", "lr": 0.3}},
        {"a": {"match": ["tokens", "out"], "lr": 0.2}, "b": {"match": "out", "lr": 0.3}},
        {"a": {"match": "tokens", "lr": 0.2}, "b": {"match": {"module": "linear", "not": "tokens"}, "lr": 0.3}},
    ],
)
def test_and_not_where_both_agree_or_speak_of_both_names(rules: dict[str, Any]) -> None:
    plan = planned(rules, zoo.Gpt())
    assert plan.tied == {"out.weight": "tokens.weight"}
    assert sum("tokens.weight" in group.parameters for group in plan.groups) == 1


def test_of_several_tied_parameters_each_is_told_by_its_own_names() -> None:
    model = nn.ModuleDict({"a": zoo.Gpt(), "b": zoo.Gpt()})
    rules = {"embedding": {"match": "^b.tokens", "lr": 0.2}, "head": {"match": "^b.out", "lr": 0.3}}
    assert "as b.tokens.weight by rules.embedding and as b.out.weight by rules.head" in refused(rules, model)[0]


def test_what_not_excludes_is_the_parameter_by_whatever_name() -> None:
    plan = planned({"a": {"match": {"module": "linear", "not": {"module": "embedding"}}, "lr": 0.2}}, zoo.Gpt())
    assert "tokens.weight" not in plan.group("a").parameters


@pytest.mark.parametrize(
    ("match", "key", "given"),
    [
        ("nope", "", "'nope'"),
        (["fc1", "nope"], ".1", "'nope'"),
        ({"module": "linear", "not": "nope"}, ".not", "'nope'"),
        ({"any": ["fc1", {"name": ["nope"]}]}, ".any.1.name.0", "'nope'"),
        ({"regex": "fc"}, ".regex", "'fc'"),
        ({"module": ["linear", "LayerNrom"]}, ".module", "'LayerNrom'"),
        ({"module": "linear", "ndim": 4}, "", "{'module': 'linear', 'ndim': 4}"),
        ({"module": "embedding"}, "", "{'module': 'embedding'}"),
        ({"module": "RNN"}, "", "{'module': 'RNN'}"),
    ],
)
def test_a_name_that_fits_nothing_is_refused_wherever_it_stands(match: Any, key: str, given: str) -> None:
    lines = refused({"a": {"match": match, "lr": 0.2}}, zoo.LeNet())
    assert lines[0].startswith(f"rules.a.match{key}: no ")
    assert lines[1] == f"    given:   {given}"
    assert lines[-1].startswith("    fix:     ")
    assert len([line for line in lines if not line.startswith(" ")]) == 1


def test_a_class_that_nobody_knows_is_told_with_those_that_there_are() -> None:
    assert refused({"a": {"match": {"module": "BatchNrm2d"}, "lr": 0.2}}, zoo.LeNet()) == [
        "rules.a.match.module: no module of this model is a BatchNrm2d",
        "    given:   'BatchNrm2d'",
        "    allowed: Conv2d, BatchNorm2d, Linear, head, norm, embedding, linear, conv, depthwise_conv",
        "    nearest: BatchNorm2d, BatchNorm3d, BatchNorm1d",
        "    fix:     name a class that holds parameters, or one of its bases",
    ]


@pytest.mark.parametrize(
    "match",
    [
        {"module": ["linear", "embedding"]},
        {"module": "linear", "not": {"module": ["embedding", "LayerNorm"]}},
        [{"module": "linear"}, {"module": "RMSNorm"}],
    ],
)
def test_a_kind_that_this_model_lacks_is_fine_beside_others(match: Any) -> None:
    assert planned({"a": {"match": match, "lr": 0.2}}, zoo.LeNet()).group("a").parameters == (
        "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias",
    )  # fmt: skip
