import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lit_optim as lo
from lit_optim.plan import Span, span
from lit_optim.schedules import Cosine, Milestones

SGD = {"lr": 0.1, "momentum": 0.9, "nesterov": False}
COSINE = {"_target_": "lit_optim.schedules.Cosine"}
RUN = lo.Horizon(total_steps=40, steps_per_epoch=10)


def group(name: str, parameters: tuple[str, ...], **changes: Any) -> lo.Group:
    values: dict[str, Any] = {
        "optimizer": "torch.optim.SGD",
        "hyperparameters": SGD,
        "schedules": {},
        "numel": 3 * len(parameters),
        "rules": (),
    }
    return lo.Group(name=name, parameters=parameters, **{**values, **changes})


PLAN = lo.Plan(
    groups=(
        group("default", ("a", "b")),
        group("head", ("h",), hyperparameters={**SGD, "lr": 0.2}, schedules={"lr": COSINE}, rules=("top",)),
        group("head.no_decay", ("h.bias",), schedules={"momentum": COSINE}, rules=("top", "no_decay")),
    ),
    horizon=RUN,
    frozen=("f",),
    frozen_numel=7,
    tied={"t": "a"},
    rules={"top": ("head", "head.no_decay"), "no_decay": ("head.no_decay",)},
    warnings=("mind the gap",),
    arguments={"torch.optim.SGD": {"k": (1, 2)}},
    execution={"torch.optim.SGD": {"fused": False}},
)


def test_a_group_is_found_by_its_name_or_by_a_rule_that_has_one() -> None:
    assert PLAN.group("head") is PLAN.groups[1]
    assert PLAN.group("no_decay") is PLAN.groups[2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "top",
            ["top: the rule has several groups", "    allowed: head, head.no_decay", "    fix:     name one of them"],
        ),
        (
            "hed",
            [
                "hed: no such group or rule",
                "    allowed: default, head, head.no_decay, top, no_decay",
                "    nearest: head",
                "    fix:     name one of these",
            ],
        ),
    ],
)
def test_no_one_group_of_that_name_is_refused(name: str, text: list[str]) -> None:
    with pytest.raises(lo.PlanError) as refused:
        PLAN.curve(name, "lr")
    assert str(refused.value).splitlines() == text


def test_a_curve_by_group_and_by_rule() -> None:
    expected = [Cosine().curve(0.2, RUN)(step) for step in range(40)]
    lr = PLAN.curve("head", "lr")
    assert (lr.shape, lr.dtype) == ((40,), np.float64)
    assert lr.tolist() == expected
    assert PLAN.curve("no_decay", "momentum").tolist() == PLAN.curve("head.no_decay", "momentum").tolist()
    assert PLAN.curve("no_decay", "momentum")[0] == 0.9
    assert PLAN.curve("default", "lr").tolist() == [0.1] * 40


def test_a_curve_is_of_a_number() -> None:
    with pytest.raises(lo.PlanError) as refused:
        PLAN.curve("head", "lrr")
    assert str(refused.value).splitlines() == [
        "lrr: group 'head' has no number 'lrr'",
        "    allowed: lr, momentum",
        "    nearest: lr",
        "    fix:     name one of these",
    ]
    with pytest.raises(lo.PlanError, match="has no number 'nesterov'"):
        PLAN.curve("head", "nesterov")


@pytest.mark.parametrize("unknown", [-1, math.inf])
def test_a_run_without_an_end_has_no_whole_curve(unknown: float) -> None:
    with pytest.raises(lo.PlanError) as refused:
        replace(PLAN, horizon=lo.Horizon(unknown)).curve("default", "lr")
    assert str(refused.value).splitlines() == [
        "horizon.total_steps: a run without an end has no whole curve",
        "    fix:     set trainer.max_steps",
    ]


def test_spans_are_of_what_moves() -> None:
    spans = PLAN.spans(PLAN.groups[1])
    assert spans == {"lr": Span(0.2, spans["lr"].end, 0.2, Cosine().curve(0.2, RUN)(39))}
    assert PLAN.spans(PLAN.groups[0]) == {}


def test_numbers_that_are_trained() -> None:
    assert PLAN.numel == 12


# --- JSON ---


def test_the_json_form_is_plain() -> None:
    data = json.loads(PLAN.to_json())
    assert data["format"] == 3
    assert data["hash"] == PLAN.hash
    assert [*data][2:] == [
        "groups", "horizon", "frozen", "frozen_numel", "frozen_by", "tied", "rules", "warnings", "arguments",
        "execution",
    ]  # fmt: skip
    assert data["groups"][1] == {
        "name": "head",
        "optimizer": "torch.optim.SGD",
        "hyperparameters": {"lr": 0.2, "momentum": 0.9, "nesterov": False},
        "schedules": {"lr": COSINE},
        "parameters": ["h"],
        "numel": 3,
        "rules": ["top"],
        "freeze_until": 0,
        "clip_norm": None,
    }
    assert data["horizon"] == {"total_steps": 40, "steps_per_epoch": 10, "global_batch": None}
    assert PLAN.to_json().endswith("}\n")


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        replace(PLAN, horizon=lo.Horizon(-1)),
        replace(PLAN, horizon=lo.Horizon(math.inf, 3, 128)),
        replace(PLAN, groups=(group("x", ("a",), hyperparameters={"betas": (0.9, 0.999), "foreach": None}),)),
        replace(PLAN, groups=(group("x", ("a",), schedules={"lr": {"_target_": "S", "at": (1, "5%")}}),)),
    ],
)
def test_it_comes_back_equal(plan: lo.Plan) -> None:
    again = lo.Plan.from_json(plan.to_json())
    assert again == plan
    assert (again.hash, again.to_json()) == (plan.hash, plan.to_json())
    assert plan.diff(again) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("{}", "KeyError: 'format'"),
        ("[]", "TypeError: list indices must be integers or slices, not str"),
        ('{"format": 2}', "ValueError: format 2, this version reads 3"),
        ('{"format": 3}', "KeyError: 'groups'"),
        ('{"format": 3, "groups": [3]}', None),
        ('{"format": 3, "groups": [{"nme": 3}]}', None),
    ],
)
def test_what_is_no_plan_is_refused(text: str, reason: str | None) -> None:
    with pytest.raises(lo.PlanError) as refused:
        lo.Plan.from_json(text)
    problem, remedy = str(refused.value).splitlines()
    assert problem.startswith("plan.json: this is not a plan: " + (reason or "TypeError: "))
    assert reason is None or problem.endswith(reason)
    assert remedy == "    fix:     make it anew with `lit-optim plan --json`"


# --- hash and differences ---

CHANGES: list[tuple[lo.Plan, list[str]]] = [
    (replace(PLAN, horizon=replace(RUN, total_steps=50)), ["horizon: total_steps 40 → 50"]),
    (
        replace(PLAN, horizon=lo.Horizon(40, None, 64)),
        ["horizon: steps_per_epoch 10 → none", "horizon: global_batch none → 64"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], hyperparameters={**SGD, "lr": 0.3}), *PLAN.groups[1:])),
        ["default: lr 0.1 → 0.3"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], optimizer="torch.optim.ASGD"), *PLAN.groups[1:])),
        ["default: optimizer torch.optim.SGD → torch.optim.ASGD"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], schedules={"lr": COSINE}), *PLAN.groups[1:])),
        ["default: schedule of lr none → Cosine()"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], numel=8), *PLAN.groups[1:])),
        ["default: parameters 6 → 8"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], rules=("all",)), *PLAN.groups[1:])),
        ["default: shaped by none → all"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], parameters=("a", "b", "c")), *PLAN.groups[1:])),
        ["1 tensor moved from (absent) to default"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], parameters=("b", "a")), *PLAN.groups[1:])),
        ["parameters: the same, in another order"],
    ),
    (
        replace(PLAN, groups=(PLAN.groups[1], PLAN.groups[0], PLAN.groups[2])),
        ["parameters: the same, in another order"],
    ),
    (
        replace(PLAN, groups=(replace(PLAN.groups[0], name="other"), *PLAN.groups[1:])),
        ["default: group removed", "other: group added, SGD, lr 0.1", "2 tensors moved from default to other"],
    ),
    (replace(PLAN, frozen=("f", "g")), ["1 tensor moved from (absent) to frozen"]),
    (replace(PLAN, frozen_numel=8), ["frozen: parameters 7 → 8"]),
    (replace(PLAN, tied={}), ["t: another name of a → none"]),
    (
        replace(PLAN, rules={"top": ("head",)}),
        ["rules.top: shapes head, head.no_decay → head", "rules.no_decay: shapes head.no_decay → none"],
    ),
]


@pytest.mark.parametrize(("other", "lines"), CHANGES)
def test_a_difference_is_told_in_words_and_changes_the_hash(other: lo.Plan, lines: list[str]) -> None:
    assert PLAN.diff(other) == lines
    assert PLAN.hash != other.hash
    assert other.diff(PLAN) != []


def test_warnings_and_execution_stand_outside_of_hash_and_difference() -> None:
    other = replace(PLAN, warnings=(), execution={"torch.optim.SGD": {"fused": True}}, shard_units=("net", ""))
    assert lo.Plan.from_json(other.to_json()) == other
    assert other != PLAN
    assert other.hash == PLAN.hash
    assert PLAN.diff(other) == []


def test_the_order_of_settings_does_not_matter() -> None:
    turned = dict(reversed(SGD.items()))
    assert replace(PLAN, groups=(replace(PLAN.groups[0], hyperparameters=turned), *PLAN.groups[1:])).hash == PLAN.hash


def test_the_hash_is_pinned() -> None:
    """Run folders written by other versions carry it."""
    assert PLAN.hash == "239457cfdd83"


PLANNED = """
import lit_optim as lo
from lit_optim.models import MLP
recipe = lo.Recipe.from_config({
    "optimizer": {"_target_": "torch.optim.AdamW"},
    "rules": {
        "zeta": {"match": {"module": ["Linear", "Conv2d"], "ndim": 1}, "weight_decay": 0.0},
        "alpha": {"match": ["layer.0", "layer.2"], "multiply": {"lr": 0.1, "eps": 10.0}},
        "mid": {"match": "layer.2", "lr": 0.5},
    },
    "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine"}},
})
text = lo.make_plan(MLP(4, (3, 3), 2), recipe, lo.Horizon(100)).to_json()
"""


def test_a_plan_is_the_same_in_every_process() -> None:
    here: dict[str, str] = {}
    exec(PLANNED, here)
    there = subprocess.run(
        [sys.executable, "-c", PLANNED + "print(text, end='')"],
        env={"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == here["text"]
    assert [group.name for group in lo.Plan.from_json(there.stdout).groups] == [
        "alpha", "alpha.zeta", "alpha.mid", "alpha.mid.zeta", "default", "zeta",
    ]  # fmt: skip


# --- spans ---


def test_a_short_curve_is_scanned_whole() -> None:
    curve = Milestones(at=[3, 4], values=[9.0, 0.5]).curve(1.0, RUN)
    assert span(curve, RUN) == Span(1.0, 0.5, 9.0, 0.5)


@pytest.mark.parametrize("total", [10_001, 25_000, 1_000_003])
def test_the_peak_of_a_long_curve_is_found_exactly(total: int) -> None:
    long = lo.Horizon(total)
    top = total // 3 + 1
    hill = span(lambda step: step / top if step <= top else 1.0 - (step - top) / total, long)
    assert hill == Span(0.0, 0.0, 1.0, 1.0 - (total - 1 - top) / total)
    assert span(lambda step: 1.0 + abs(step - top) / total, long).low == 1.0
    assert span(lambda step: float(step), long).end == total - 1


def test_a_run_of_one_step_and_one_without_an_end() -> None:
    assert span(lambda step: step + 1.0, lo.Horizon(1)) == Span(1.0, 1.0, 1.0, 1.0)
    assert span(lambda step: step + 1.0, lo.Horizon(-1)) == Span(1.0, 1.0, 1.0, 1.0)


def test_differences_in_clipping_and_in_what_a_class_is_made_with() -> None:
    clipped = replace(PLAN, groups=(replace(PLAN.groups[0], clip_norm=0.5), *PLAN.groups[1:]), arguments={})
    name = PLAN.groups[0].name
    assert PLAN.diff(clipped) == [
        f"{name}: gradient norm clipped to none → 0.5",
        "torch.optim.SGD: k 1, 2 → none",
    ]
    assert clipped.hash != PLAN.hash
    assert lo.Plan.from_json(clipped.to_json()) == clipped


def test_epochs_that_differ_are_part_of_the_plan() -> None:
    changing = replace(PLAN, horizon=lo.Horizon(40, 10, None, ((0, 10), (2, 5))))
    assert PLAN.diff(changing) == ["horizon: steps of later epochs none → 5 from epoch 2 on"]
    again = lo.Plan.from_json(changing.to_json())
    assert again == changing
    assert again.to_json() == changing.to_json()
    assert changing.hash != PLAN.hash
    assert "epoch_steps" not in PLAN.to_json()
