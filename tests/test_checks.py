"""Refusals that need the model: the text of each, and that all of a recipe's mistakes are told at once."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lit_optim as lo
from lit_optim.models import MLP
from lit_optim.plan import bind
from lit_optim.schedules import Schedule

RUN = lo.Horizon(total_steps=1000, steps_per_epoch=100)
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.0}
MUON = {"_target_": "torch.optim.Muon", "lr": 0.02}


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.hidden = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 7, bias=False)


def refused(config: dict[str, Any], model: nn.Module | None = None, horizon: lo.Horizon = RUN) -> list[str]:
    with pytest.raises(lo.PlanError) as error:
        lo.make_plan(Language() if model is None else model, lo.Recipe.from_config(config), horizon)
    return str(error.value).splitlines()


def of_rules(**rules: Any) -> dict[str, Any]:
    return {"optimizer": ADAMW, "rules": rules}


@pytest.mark.parametrize(
    ("config", "text"),
    [
        pytest.param(
            of_rules(muon={"match": {"module": "linear", "ndim": 2}, "optimizer": MUON}),
            [
                "rules.muon.optimizer: torch.optim.Muon is made for hidden matrices, and here it gets the output head",
                "    given:   out.weight",
                "    allowed: hidden matrices, the output head that the match of its rule names in full",
                "    fix:     exclude it from the match, not: {module: head}, or name it there: [out.weight, …]",
            ],
            id="Muon on the head",
        ),
        pytest.param(
            of_rules(muon={"match": {"ndim": 2, "not": {"module": "head"}}, "optimizer": MUON}),
            [
                "rules.muon.optimizer: torch.optim.Muon is made for hidden matrices, and here it gets an embedding",
                "    given:   embed.weight",
                "    allowed: hidden matrices, an embedding that the match of its rule names in full",
                "    fix:     exclude it from the match, not: {module: embedding}, or name it there: [embed.weight, …]",
            ],
            id="Muon on an embedding",
        ),
        pytest.param(
            of_rules(muon={"match": "hidden", "optimizer": MUON}),
            [
                "rules.muon.optimizer: torch.optim.Muon takes matrices alone, and here it gets hidden.0.bias, "
                "hidden.1.bias",
                "    given:   hidden.0.bias [8], hidden.1.bias [4]",
                "    allowed: parameters with ndim 2",
                "    fix:     choose it in a rule with match {module: linear, ndim: 2, not: {module: [embedding, "
                "head]}}, and another class, such as torch.optim.AdamW, under optimizer",
            ],
            id="Muon on vectors",
        ),
        pytest.param(
            {"rules": {"hidden": {"match": "hidden", "optimizer": ADAMW}}},
            [
                "optimizer: no optimizer holds embed.weight, norm.weight, norm.bias and 1 more",
                "    fix:     name a class under optimizer for the rest, give them a rule with an optimizer, or freeze "
                "them",
            ],
            id="unclaimed",
        ),
        pytest.param(
            of_rules(all={"match": "*", "freeze": True}),
            ["rules: nothing is left to train: the rules freeze it all", "    fix:     freeze less"],
            id="everything frozen",
        ),
        pytest.param(
            of_rules(all={"match": "*", "freeze_until": "20%"}),
            ["rules: nothing trains before step 200", "    fix:     freeze less, or for a shorter time"],
            id="everything frozen for a time",
        ),
        pytest.param(
            of_rules(a={"match": "embed", "freeze_until": "100%"}),
            [
                "rules.a.freeze_until: it would never train: this is the whole run",
                "    given:   '100%'",
                "    fix:     write freeze: true for the whole run, or a shorter time",
            ],
            id="frozen until the end",
        ),
        pytest.param(
            of_rules(a={"match": "embed", "freeze_until": "30epochs"}),
            [
                "rules.a.freeze_until: '30epochs' is 3000 steps, past the end of a run of 1000",
                "    given:   '30epochs'",
                "    allowed: 0% to 100%, 0 to 1000 steps",
                "    fix:     shorten it, write it as a percentage, or lengthen the run (trainer.max_epochs)",
            ],
            id="frozen past the end",
        ),
        pytest.param(
            of_rules(a={"match": "*", "layer_decay": {"rate": 0.5, "order": ["embed", "hidden.#", "out"]}}),
            [
                "rules.a.layer_decay.order: no glob of the order fits norm.weight, norm.bias",
                "    given:   ['embed', 'hidden.#', 'out']",
                "    fix:     add a glob for them where they stand between input and output, or narrow the match",
            ],
            id="an order with a gap",
        ),
        pytest.param(
            of_rules(a={"match": "*", "layer_decay": {"rate": 0.5, "order": ["embd", "*"]}}),
            [
                "rules.a.layer_decay.order.0: no parameter matches",
                "    given:   'embd'",
                "    allowed: embed, hidden.0, hidden.1, norm, out, embed.weight, hidden.0.weight, hidden.0.bias, "
                "hidden.1.weight, hidden.1.bias, norm.weight, norm.bias … (1 more)",
                "    nearest: embed",
                "    fix:     correct the name",
            ],
            id="an order with a wrong name",
        ),
    ],
)
def test_a_refusal_reads_like_this(config: dict[str, Any], text: list[str]) -> None:
    assert refused(config) == text


@pytest.mark.parametrize(
    "match",
    [
        ["hidden.0.weight", "hidden.1.weight", "out"],
        ["hidden.0.weight", "^out.weight"],
        {"any": ["hidden.0.weight", {"module": "head"}]},
        {"module": ["head", "embedding"]},
        {"name": ["embed", "hidden.0.weight"]},
    ],
)
def test_what_is_asked_for_by_name_is_given(match: Any) -> None:
    plan = lo.make_plan(Language(), lo.Recipe.from_config(of_rules(muon={"match": match, "optimizer": MUON})), RUN)
    assert plan.group("muon").optimizer == "torch.optim.Muon"
    assert any("has no partner for the" in warning for warning in plan.warnings)


def test_a_tied_head_is_an_embedding_as_well() -> None:
    model = Language()
    model.out.weight = model.embed.weight
    hidden = {"match": {"module": "linear", "ndim": 2, "not": {"module": "head"}}, "optimizer": MUON}
    plan = lo.make_plan(model, lo.Recipe.from_config(of_rules(hidden=hidden)), RUN)
    assert plan.group("hidden").parameters == ("hidden.0.weight", "hidden.1.weight")
    told = refused(of_rules(hidden={"match": {"module": "linear", "ndim": 2}, "optimizer": MUON}), model)
    assert [line for line in told if not line.startswith(" ")] == [
        "rules.hidden.optimizer: torch.optim.Muon is made for hidden matrices, and here it gets an embedding",
        "rules.hidden.optimizer: torch.optim.Muon is made for hidden matrices, and here it gets the output head",
    ]


def test_an_unknown_end_of_the_run_is_refused_where_freezing_depends_on_it() -> None:
    config = of_rules(a={"match": "embed", "freeze_until": "20%"})
    assert refused(config, horizon=lo.Horizon(-1)) == [
        "rules.a.freeze_until: '20%' can't be measured: nobody knows how long the run is",
        "    given:   '20%'",
        "    fix:     set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too",
    ]
    steps = of_rules(a={"match": "embed", "freeze_until": 20})
    assert lo.make_plan(Language(), lo.Recipe.from_config(steps), lo.Horizon(-1)).group("a").freeze_until == 20


def test_a_recipe_without_a_default_class_is_planned_where_rules_choose_for_all() -> None:
    rules = {"all": {"match": "*", "optimizer": ADAMW}, "hidden": {"match": "hidden.0.weight", "optimizer": MUON}}
    plan = lo.make_plan(Language(), lo.Recipe.from_config({"rules": rules}), RUN)
    assert [(group.name, group.optimizer) for group in plan.groups] == [
        ("all", "torch.optim.AdamW"),
        ("all.hidden", "torch.optim.Muon"),
    ]


def test_everything_is_told_at_once_also_behind_a_class_that_is_misspelled() -> None:
    config = {
        "optimizer": {"_target_": "torch.optim.AdmaW", "lr": -1.0, "wieght_decay": 0.1},
        "rules": {
            "typo": {"match": "hiden", "lr": 0.1},
            "frozen_too_long": {"match": "embed", "freeze_until": "300%"},
            "factor": {"match": "norm", "multiply": {"lrr": 0.1}},
            "muon": {"match": {"module": "linear"}, "optimizer": {"_target_": "torch.optim.Moun"}},
        },
        "schedule": {
            "lr": {"_target_": "lit_optim.schedules.Cosin"},
            "eps": {"_target_": "lit_optim.schedules.Linear", "duration": "200%"},
        },
    }
    keys = [line.partition(": ")[0] for line in refused(config) if not line.startswith(" ")]
    assert sorted(keys) == sorted(
        [
            "optimizer._target_",
            "optimizer.lr",
            "optimizer.wieght_decay",
            "rules.typo.match",
            "rules.frozen_too_long.freeze_until",
            "rules.factor.multiply.lrr",
            "rules.muon.optimizer._target_",
            "rules.muon.optimizer",  # Muon, which stands in for Moun, gets vectors
            "schedule.lr._target_",
            "schedule.eps.duration",
        ]
    )


def test_what_a_rule_freezes_is_planned_alike_before_and_after_it_is_frozen() -> None:
    config = of_rules(
        no_decay={"match": {"ndim": "<=1"}, "weight_decay": 0.5},
        embed={"match": "embed", "freeze": True},
        norm={"match": "norm", "freeze": True},
    )
    model = Language()
    recipe = lo.Recipe.from_config(config)
    plan = lo.make_plan(model, recipe, RUN)
    assert plan.frozen == ("embed.weight", "norm.weight", "norm.bias")
    assert plan.frozen_by == {"embed.weight": "embed", "norm.weight": "norm", "norm.bias": "norm"}
    assert plan.rules["embed"] == ("frozen",)
    assert plan.rules["no_decay"] == ("no_decay",)
    lo.build(model, plan)
    assert not model.norm.weight.requires_grad
    assert lo.make_plan(model, recipe, RUN).to_json() == plan.to_json()


def test_a_recipe_of_one_rule_mixes_two_classes() -> None:
    hidden = {"match": {"module": "linear", "ndim": 2, "not": {"module": "head"}}, "optimizer": MUON}
    model = MLP(4, (3, 3), 2)
    plan = lo.make_plan(model, lo.Recipe.from_config(of_rules(hidden=hidden)), RUN)
    assert [(group.name, group.optimizer.rpartition(".")[2], group.parameters) for group in plan.groups] == [
        ("hidden", "Muon", ("layer.0.weight", "layer.2.weight")),
        ("default", "AdamW", ("layer.0.bias", "layer.2.bias", "layer.4.weight", "layer.4.bias")),
    ]
    optimizer, scheduler = lo.build(model, plan)
    assert type(optimizer).__name__ == "CompositeOptimizer"
    assert [group["name"] for group in optimizer.param_groups] == ["hidden", "default"]
    assert scheduler.optimizer is optimizer


def test_a_schedule_that_is_nowhere_in_force_is_checked_all_the_same() -> None:
    wrong = {"_target_": "lit_optim.schedules.Cosine", "duration": "300%"}
    rules = {
        "still": {"match": "embed", "freeze": True, "schedule": {"lr": wrong}},
        "overridden": {"match": "norm", "schedule": {"lr": wrong}},
        "last": {"match": "norm", "schedule": {"lr": None}},
    }
    keys = [line.partition(": ")[0] for line in refused(of_rules(**rules)) if not line.startswith(" ")]
    assert keys == ["rules.still.schedule.lr.duration", "rules.overridden.schedule.lr.duration"]


def test_a_rule_for_another_class_does_not_ask_for_muon() -> None:
    spared = {"match": {"module": ["embedding", "head"]}, "optimizer": ADAMW}
    told = refused(of_rules(spared=spared, hidden={"match": {"ndim": 2}, "optimizer": MUON}))
    assert {line.rpartition("gets ")[2] for line in told if not line.startswith(" ")} == {
        "an embedding",
        "the output head",
    }


def test_each_rule_s_own_order_is_held_against_its_own_parameters() -> None:
    decay = {"rate": 0.5, "order": ["hidden.0", "hidden.1"]}
    rules = {"a": {"match": "hidden", "layer_decay": decay}, "b": {"match": "out", "layer_decay": decay}}
    assert refused(of_rules(**rules))[0] == "rules.b.layer_decay.order: no glob of the order fits out.weight"


@pytest.mark.parametrize(
    "rule",
    [
        {"match": {"regex": "a{99999999999999}"}, "lr": 0.1},
        {"match": "embed", "lr": 10**400},
        {"match": "embed", "freeze_until": 10**400},
    ],
)
def test_numbers_beyond_all_measure_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(lo.LitOptimError):
        lo.make_plan(Language(), lo.Recipe.from_config(of_rules(a=rule)), RUN)


def test_a_class_by_its_public_name() -> None:
    rule = {"match": {"module": "torch.nn.LayerNorm"}, "lr": 0.5}
    plan = lo.make_plan(Language(), lo.Recipe.from_config(of_rules(a=rule)), RUN)
    assert plan.group("a").parameters == ("norm.weight", "norm.bias")


def test_a_name_at_the_root_is_not_ambiguous_with_what_is_inside_of_it() -> None:
    model = nn.ModuleDict({"head": nn.ModuleDict({"head": nn.Linear(2, 2), "norm": nn.LayerNorm(2)})})
    plan = lo.make_plan(model, lo.Recipe.from_config(of_rules(a={"match": "head", "lr": 0.5})), RUN)
    assert len(plan.group("a").parameters) == 4


# --- curves of a user's own ---


@dataclass(frozen=True)
class Gives(Schedule):
    """Something else from a step on."""

    value: Any = None
    kind: str = ""
    at: int = 0

    def curve(self, start: float, horizon: lo.Horizon) -> Any:
        value = {"": self.value, "float32": np.float32(0.5), "int64": np.int64(2), "array": np.array(0.5)}.get(
            self.kind, torch.tensor(0.5)
        )
        return lambda step: value if step >= self.at else start


def moved_by(**node: Any) -> Any:
    schedule = {"lr": {"_target_": f"{__name__}.Gives", **node}}
    return of_rules(a={"match": "embed", "schedule": schedule})


@pytest.mark.parametrize(
    ("node", "number"), [({"value": 2}, 2.0), ({"kind": "float32"}, 0.5), ({"kind": "int64"}, 2.0)]
)
def test_whatever_real_number_a_curve_gives_is_a_float_in_the_plan_and_in_the_run(
    node: dict[str, Any], number: float
) -> None:
    model = Language()
    plan = lo.make_plan(model, lo.Recipe.from_config(moved_by(at=1, **node)), RUN)
    assert plan.spans(plan.group("a"))["lr"].end == number
    optimizer, scheduler = lo.build(model, plan)
    optimizer.step()
    scheduler.step()
    [value] = [group["lr"] for group in optimizer.param_groups if group["name"] == "a"]
    assert (type(value), value) == (float, number)


@pytest.mark.parametrize(
    ("node", "given"),
    [
        ({"value": "0.1"}, "'0.1'"),
        ({"value": None}, "None"),
        ({"value": True}, "True"),
        ({"value": math.nan}, "nan"),
        ({"value": math.inf}, "inf"),
        ({"kind": "tensor"}, "tensor(0.5000)"),
        ({"kind": "array"}, "array(0.5)"),
    ],
)
@pytest.mark.parametrize("at", [0, 57])
def test_what_is_no_finite_number_is_refused_with_the_step(node: dict[str, Any], given: str, at: int) -> None:
    assert refused(moved_by(at=at, **node)) == [
        f"rules.a.schedule.lr._target_: {__name__}.Gives gives no finite number at step {at}",
        f"    given:   {given}",
        "    fix:     let its curve() return a function from the step to a float",
    ]


def test_a_curve_that_fails_where_no_plan_has_looked_ends_the_run_there() -> None:
    long = lo.Horizon(10**6)
    curve = bind(Gives(value=math.nan, at=123_457), 0.1, long, "schedule.lr._target_")
    assert curve(123_456) == 0.1
    with pytest.raises(lo.PlanError, match=r"schedule\.lr\._target_: .*no finite number at step 123,457"):
        curve(123_457)
