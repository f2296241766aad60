import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

import lit_optim as lo
from lit_optim.names import dotted_name
from lit_optim.plan import Group, Span, span
from lit_optim.render import plan_text
from lit_optim.schedules import Curve
from lit_optim.schedules.plateau import Plateau


def planned(horizon: lo.Horizon, **parts: Any) -> lo.Plan:
    model = nn.ModuleDict({"embed": nn.Embedding(7, 3), "mid": nn.Linear(3, 3), "head": nn.Linear(3, 7)})
    model["head"].weight = model["embed"].weight
    model["mid"].requires_grad_(False)
    config = {
        "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.05},
        "rules": {"bias": {"match": {"ndim": 1}, "weight_decay": 0.0, "eps": 1e-6}},
        "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "10%"}},
        **parts,
    }
    return lo.make_plan(model, lo.Recipe.from_config(config), horizon)


RUN = lo.Horizon(total_steps=2000, steps_per_epoch=100, global_batch=1024)
PLAN = planned(RUN)
RISING = {"weight_decay": {"_target_": "lit_optim.schedules.Linear", "final_value": 0.2}}
COSINE = {"_target_": "lit_optim.schedules.WarmupCosine"}


def group(name: str, optimizer: str = "torch.optim.AdamW", **more: Any) -> Group:
    settings = {"lr": 0.1, "weight_decay": 0.05, "betas": (0.9, 0.9999), "eps": 1e-8, **more.pop("settings", {})}
    hyperparameters = {name: value for name, value in settings.items() if value is not None}
    fields = {"schedules": {}, "parameters": (f"{name}.weight",), "numel": 1000, **more}
    return Group(name, optimizer, hyperparameters, **fields)


def lines_of(plan: lo.Plan, width: int = 132) -> list[str]:
    return plan_text(plan, width).splitlines()


def cells_of(plan: lo.Plan, column: str) -> list[str]:
    """The cells of a column that stands in the first table."""
    heading, _, *rows = (re.split(r"\s{2,}", line) for line in plan_text(plan, 300).split("\n\n")[0].splitlines())
    return [row[heading.index(column)] for row in rows]


def test_the_text_of_a_plan() -> None:
    assert lines_of(PLAN, width=120) == [
        "group    tensors  parameters                    lr  weight_decay    eps",
        "───────────────────────────────────────────────────────────────────────",
        "default        1          21  0 → 0.001 → 7.62e-10          0.05  1e-08",
        "bias           1           7  0 → 0.001 → 7.62e-10             0  1e-06",
        "frozen         2          12                     –             –      –",
        "",
        "in every group: AdamW, betas (0.9, 0.999)",
        "execution: fused True",
        "frozen: 2 tensors by the model itself (requires_grad=False)",
        "40 parameters: 28 trained in 2 tensors and 2 groups, 12 frozen in 2 tensors, 1 tied name (counted once)",
        "2,000 optimizer steps, 100 an epoch, 1,024 samples a step; "
        "scheduled values: first step → highest in between → last",
        f"    step; plan {PLAN.hash}",
    ]


def test_curves_that_are_no_formula_are_named_with_their_groups() -> None:
    step = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 3, "interval": "epoch"}
    plateau = {"_target_": dotted_name(Plateau), "monitor": "val/loss"}

    def notes(*schedules: Mapping[str, Any]) -> list[str]:
        groups = [
            Group(f"g{number}", "torch.optim.SGD", {"lr": 0.1, "momentum": 0.9}, moving, (f"p{number}",), 1)
            for number, moving in enumerate(schedules)
        ]
        plan = lo.Plan(tuple(groups), lo.Horizon(100, 10))
        return [line for line in lines_of(plan) if line.startswith("schedule of")]

    stepped = "simulated, StepLR is stepped every epoch"
    assert notes({"lr": step}) == notes({"lr": step}, {}) == [f"schedule of lr: {stepped}"]
    assert notes({"lr": step, "momentum": plateau}, {"lr": plateau}) == [
        f"schedule of lr of g0: {stepped}",
        "schedule of lr of g1: depends on val/loss",
        "schedule of momentum: depends on val/loss",
    ]
    ours = {"lr": {"_target_": "lit_optim.schedules.Cosine"}}
    assert notes(ours) == []
    assert notes(ours, *[{"lr": step}] * 5) == [f"schedule of lr of g1, g2, g3 and 2 more: {stepped}"]


def test_printing_a_plan_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert str(PLAN) == plan_text(PLAN) == plan_text(PLAN, width=120)


def test_warnings_come_last_and_are_wrapped() -> None:
    plan = planned(RUN, schedule=RISING)
    assert len(plan.warnings) == 1
    start = plan_text(plan, 80).index("warning: ")
    told = plan_text(plan, 80)[start:].splitlines()
    assert " ".join(line.strip() for line in told) == f"warning: {plan.warnings[0]}"
    assert len(told) > 1
    assert all(line.startswith("    ") for line in told[1:])


def test_a_run_without_an_end_says_so() -> None:
    endless = {"lr": {"_target_": "lit_optim.schedules.Linear", "duration": 10}}
    plan = planned(lo.Horizon(-1), schedule=endless)
    assert cells_of(plan, "lr") == ["0.001 → ?", "0.001 → ?", "–"]
    assert lines_of(plan)[-1] == f"a run without a known end; scheduled values: first step → ?; plan {plan.hash}"


def test_one_group_and_nothing_scheduled() -> None:
    plan = lo.Plan((group("default"),), lo.Horizon(1))
    assert lines_of(plan) == [
        "group    tensors  parameters   lr",
        "─────────────────────────────────",
        "default        1       1,000  0.1",
        "",
        "in every group: AdamW, weight_decay 0.05, betas (0.9, 0.9999)",
        "1,000 parameters: 1,000 trained in 1 tensor and 1 group, 0 frozen in 0 tensors, 0 tied names (counted once)",
        f"1 optimizer step; plan {plan.hash}",
    ]


def test_a_plan_without_groups_has_a_text() -> None:
    assert lines_of(lo.Plan((), lo.Horizon(1)))[0] == "group  tensors  parameters"


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ({"_target_": "lit_optim.schedules.Constant", "factor": 0.5}, "0.05"),
        ({"_target_": "lit_optim.schedules.Linear", "final_factor": 2.0}, "0.1 → 0.199"),
        ({"_target_": "lit_optim.schedules.Linear", "duration": "50%"}, "0.1 → 0"),
        ({"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "5%"}, "0 → 0.1 → 2.73e-05"),
        ({"_target_": "lit_optim.schedules.WarmupCosine", "warmup": 0}, "0.1 → 2.47e-05"),
        ({"_target_": "lit_optim.schedules.WarmupCosine", "warmup": 0, "final_factor": 0.9999999}, "0.1"),
        ({"_target_": "lit_optim.schedules.Milestones", "at": [20, 60], "factors": [0.1, 1]}, "0.1 → 0.01 → 0.1"),
        (
            {"_target_": "lit_optim.schedules.Milestones", "at": [1, 2, 3], "values": [1, 0.001, 0.2]},
            "0.1 → 0.001 and 1 → 0.2",
        ),
        ({"_target_": "lit_optim.schedules.Milestones", "at": [1, 2], "values": [0.10001, 0.05]}, "0.1 → 0.05"),
        ({"_target_": "lit_optim.schedules.Linear", "final_value": 0.99995}, "0.1 → 0.99095"),
    ],
)
def test_a_value_that_moves_says_from_where_over_what_to_where(schedule: Mapping[str, Any], text: str) -> None:
    plan = lo.Plan((group("default", schedules={"lr": schedule}),), lo.Horizon(100))
    assert cells_of(plan, "lr") == [text]


@pytest.mark.parametrize(
    ("schedule", "legend"),
    [
        (COSINE, "scheduled values: first step → highest in between → last step; "),
        (
            {"_target_": "lit_optim.schedules.Milestones", "at": [20, 60], "factors": [0.1, 1]},
            "scheduled values: first step → highest or lowest in between → last step; ",
        ),
        ({"_target_": "lit_optim.schedules.Constant"}, ""),
    ],
)
def test_the_last_line_says_how_to_read_that(schedule: Mapping[str, Any], legend: str) -> None:
    plan = lo.Plan((group("default", schedules={"lr": schedule}),), lo.Horizon(100))
    assert lines_of(plan)[-1] == f"100 optimizer steps; {legend}plan {plan.hash}"


def test_what_differs_or_moves_has_a_column_and_what_is_constant_does_not() -> None:
    groups = (
        group("a", settings={"eps": 1e-6}, schedules={"weight_decay": COSINE}),
        group("b", settings={"amsgrad": False}),
    )
    heading, *_ = lines_of(lo.Plan(groups, lo.Horizon(100)))
    assert heading.split()[3:] == ["lr", "weight_decay", "eps", "amsgrad"]


def test_what_a_schedule_leaves_alone_in_every_group_has_no_column() -> None:
    still = {"weight_decay": {"_target_": "lit_optim.schedules.Linear"}}
    groups = tuple(group(name, settings={"weight_decay": 0.0}, schedules=still) for name in "ab")
    lines = lines_of(lo.Plan(groups, lo.Horizon(100)))
    assert lines[0].split()[3:] == ["lr"]
    assert "in every group: AdamW, weight_decay 0, betas (0.9, 0.9999)" in lines


def test_an_integer_and_the_same_float_are_one_value() -> None:
    groups = (group("a", settings={"weight_decay": 0}), group("b", settings={"weight_decay": 0.0}))
    assert lines_of(lo.Plan(groups, lo.Horizon(100)))[0].split()[3:] == ["lr"]


MUON = {"lr": 0.02, "betas": None, "momentum": 0.95, "eps": 1e-7, "ns_steps": 5}


def test_several_classes() -> None:
    groups = (group("hidden", "torch.optim.Muon", settings=MUON), group("rest"), group("b", settings={"lr": 0.01}))
    assert lines_of(lo.Plan(groups, lo.Horizon(100), frozen=("x",), frozen_numel=5))[:9] == [
        "group   optimizer  tensors  parameters    lr",
        "────────────────────────────────────────────",
        "hidden  Muon             1       1,000  0.02",
        "rest    AdamW            1       1,000   0.1",
        "b       AdamW            1       1,000  0.01",
        "frozen  –                1           5     –",
        "",
        "in every group: weight_decay 0.05",
        "in every group of Muon: momentum 0.95",
    ]


def test_what_a_class_lacks_is_a_dash() -> None:
    groups = (
        group("hidden", "torch.optim.Muon", settings=MUON),
        group("a"),
        group("b", settings={"betas": (0.8, 0.9)}),
    )
    assert cells_of(lo.Plan(groups, lo.Horizon(100)), "betas") == ["–", "0.9, 0.9999", "0.8, 0.9"]


def test_several_classes_share_what_they_have_in_common() -> None:
    groups = (group("a", "torch.optim.Adam"), group("b", "torch.optim.AdamW"), group("c", "x.SGD", settings=MUON))
    lines = lines_of(lo.Plan(groups, lo.Horizon(100)))
    assert "in every group of Adam and AdamW: betas (0.9, 0.9999)" in lines
    assert "in every group of SGD: momentum 0.95" in lines


def test_two_classes_of_one_name_are_told_apart() -> None:
    groups = (group("a", "torch.optim.AdamW"), group("b", "mine.AdamW"), group("c", "torch.optim.SGD"))
    assert cells_of(lo.Plan(groups, lo.Horizon(100)), "optimizer") == ["torch.optim.AdamW", "mine.AdamW", "SGD"]


def test_a_freeze_for_a_time_says_when_it_ends() -> None:
    plan = lo.Plan((group("stem", freeze_until=1260), group("head")), lo.Horizon(6300), frozen=("x",))
    assert cells_of(plan, "from step") == ["1,260", "0", "–"]
    assert "from step" not in plan_text(lo.Plan((group("head"),), lo.Horizon(6300)), 132)


@pytest.mark.parametrize(
    ("frozen_by", "note"),
    [
        ({}, "3 tensors by the model itself (requires_grad=False)"),
        ({"b": "stem"}, "2 tensors by the model itself (requires_grad=False), 1 tensor by rules.stem"),
        ({"a": "stem", "b": "low", "c": "stem"}, "2 tensors by rules.stem, 1 tensor by rules.low"),
    ],
)
def test_who_has_frozen_what_is_frozen_for_good(frozen_by: Mapping[str, str], note: str) -> None:
    frozen = ("a", "b", "c")
    lines = lines_of(lo.Plan((group("head"),), lo.Horizon(10), frozen=frozen, frozen_numel=1234, frozen_by=frozen_by))
    assert lines[3] == "frozen        3       1,234    –"
    assert [line for line in lines if line.startswith("frozen: ")] == [f"frozen: {note}"]


def test_nothing_frozen_is_no_row() -> None:
    assert "frozen:" not in plan_text(lo.Plan((group("head"),), lo.Horizon(10)), 132)
    assert len(cells_of(lo.Plan((group("head"),), lo.Horizon(10)), "lr")) == 1


def test_how_steps_are_computed_is_told() -> None:
    execution = {"torch.optim.AdamW": {"fused": False, "capturable": True}}
    plan = lo.Plan((group("head"),), lo.Horizon(10), execution=execution)
    assert "execution: fused False, capturable True" in lines_of(plan)
    execution |= {"torch.optim.SGD": {"foreach": True}, "torch.optim.Muon": {}}
    several = tuple(group(name, f"torch.optim.{name}") for name in ("AdamW", "SGD", "Muon"))
    plan = lo.Plan(several, lo.Horizon(10), execution=execution)
    assert "execution: AdamW fused False, capturable True; SGD foreach True" in lines_of(plan)
    assert "execution" not in plan_text(lo.Plan((group("head"),), lo.Horizon(10)), 132)


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (("",), "the whole model as one"),
        (("a", "b", ""), "a, b; all else together"),
        (("a", "b", "c", "d", "e", ""), "a, b, c and 2 more; all else together"),
        (("a", "b"), "a, b"),  # of a module that shards itself
    ],
)
def test_shard_units_are_told_by_name(units: tuple[str, ...], text: str) -> None:
    assert f"shard units: {text}" in lines_of(lo.Plan((group("head"),), lo.Horizon(10), shard_units=units))


def sixty(prefix: str = "all", **schedules: Mapping[str, Any]) -> lo.Plan:
    groups = tuple(
        group(
            f"{prefix}{kind}.depth{depth:02}",
            settings={"lr": 1e-3 * 0.75 ** (29 - depth), "weight_decay": decay, "momentum": 0.9},
            schedules=schedules,
            numel=7_087_872,
        )
        for depth in range(30)
        for kind, decay in (("", 0.05), (".no_decay", 0.0))
    )
    return lo.Plan(groups, lo.Horizon(100_000), frozen=("x",))


@pytest.mark.parametrize(
    ("prefix", "rest"),
    [
        ("all", ["weight_decay", "group", "momentum"]),
        ("a_name_for_the_backbone_and_everything_below_the_head", ["group", "weight_decay", "momentum"]),
    ],
)
def test_sixty_groups_fit_80_columns_line_by_line(prefix: str, rest: list[str]) -> None:
    plan = sixty(prefix, lr=COSINE, weight_decay={"_target_": "lit_optim.schedules.Linear"}, momentum=COSINE)
    text = plan_text(plan, 80)
    first, second, notes = text.split("\n\n")
    assert all(len(line) <= 80 and line == line.rstrip() for line in text.splitlines())
    names = [[line.split()[0] for line in part.splitlines()[2:]] for part in (first, second)]
    assert len({*names[0]}) == 61
    assert names[1] == names[0][:-1]
    assert all(len(name) <= 34 for name in names[0])
    assert [name[-8:] for name in names[0][:-1:2]] == [f".depth{depth:02}" for depth in range(30)]
    headings = [*first.splitlines()[0].split(), *second.splitlines()[0].split()]
    assert headings == ["group", "tensors", "parameters", "lr", *rest]
    assert text.endswith(f"plan {plan.hash}")
    assert ("where … stands" in notes) == (prefix != "all")


def test_one_table_suffices_for_a_layer_decay_at_80_columns() -> None:
    assert len(plan_text(sixty(lr=COSINE), 80).split("\n\n")) == 2


@pytest.mark.parametrize("width", range(80, 140))
def test_the_hash_stays_with_its_word(width: int) -> None:
    assert plan_text(PLAN, width).endswith(f"plan {PLAN.hash}")


def test_one_value_under_two_schedules_has_two_spans() -> None:
    falling = group("b", schedules={"lr": {"_target_": "lit_optim.schedules.Linear", "duration": "50%"}})
    plan = lo.Plan((group("a", schedules={"lr": COSINE}), falling), lo.Horizon(100))
    assert cells_of(plan, "lr") == ["0 → 0.1 → 2.73e-05", "0.1 → 0"]


def test_groups_that_share_schedule_and_value_share_the_look_at_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []

    def noted(curve: Curve, horizon: lo.Horizon) -> Span:
        looked.append(curve)
        return span(curve, horizon)

    monkeypatch.setattr("lit_optim.render.span", noted)
    plan_text(sixty(lr=COSINE, weight_decay={"_target_": "lit_optim.schedules.Linear"}), 80)
    assert len(looked) == 30 + 2


def test_a_norm_of_its_own_has_a_column() -> None:
    plan = lo.Plan((group("a", clip_norm=0.5), group("b")), lo.Horizon(10), frozen=("c",), frozen_numel=3)
    assert cells_of(plan, "clip_norm") == ["0.5", "–", "–"]
    assert "clip_norm" not in plan_text(lo.Plan((group("b"),), lo.Horizon(10)), 132)


def test_what_a_class_is_made_with_is_told() -> None:
    arguments = {"torch.optim.AdamW": {"inside": "torch.optim.SGD", "steps": (1, 2)}}
    plan = lo.Plan((group("a"), group("b", "torch.optim.SGD")), lo.Horizon(10), arguments=arguments)
    assert "made with: AdamW inside torch.optim.SGD, steps 1, 2" in lines_of(plan)


def test_nesterov_is_told_where_it_is_on() -> None:
    on, off = (group("a", "torch.optim.SGD", settings={"nesterov": one, "betas": None}) for one in (True, False))
    assert "in every group: SGD, weight_decay 0.05, nesterov True" in lines_of(lo.Plan((on,), lo.Horizon(10)))
    assert "in every group: SGD, weight_decay 0.05" in lines_of(lo.Plan((off,), lo.Horizon(10)))


def test_epochs_that_differ_are_told() -> None:
    told = plan_text(replace(PLAN, horizon=lo.Horizon(56, 9, None, ((0, 9), (4, 5), (8, 3)))), 300)
    assert "\n56 optimizer steps, 9 an epoch, 5 from epoch 4 on, 3 from epoch 8 on; scheduled values" in told
