from typing import Any

import pytest
from torch import nn

import lit_optim as lo
from lit_optim.explain import explain
from lit_optim.models import MLP

RUN = lo.Horizon(total_steps=1000, steps_per_epoch=100)
CONFIG: dict[str, Any] = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.1},
    "rules": {
        "no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0, "schedule": {"lr": None}},
        "layers": {"match": "*", "layer_decay": 0.5},
        "stem": {"match": "layer.0", "lr": 0.02, "multiply": {"lr": 0.1}, "freeze_until": "20%"},
        "again": {"match": ["layer.0.bias"], "lr": 0.04, "freeze_until": 5},
        "hidden": {"match": "layer.2.weight", "optimizer": {"_target_": "torch.optim.Muon", "lr": 0.03}},
        "probe": {"match": "layer.4.bias", "freeze": True},
    },
    "schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.1}},
}


def told(name: str, config: dict[str, Any] = CONFIG, model: nn.Module | None = None) -> list[str]:
    model = nn.ModuleDict({"net": MLP(4, (3, 3), 2)}) if model is None else model
    return explain(model, lo.Recipe.from_config(config), RUN, name).splitlines()


def rows(lines: list[str]) -> list[list[str]]:
    """What, its value, and the remark."""
    split = (line.partition(" = ") for line in lines if " = " in line)
    return [[what.strip(), *(cell.strip() for cell in rest.split("  ") if cell.strip())] for what, _, rest in split]


def test_every_rule_that_matches_what_each_set_and_what_stands() -> None:
    lines = told("net.layer.0.bias")
    assert lines[0] == "net.layer.0.bias: of Linear, shape [3], 3 numbers"
    start = lines.index("What was said of it, from top to bottom:")
    stop = lines.index("What stands: group again.layers.no_decay.stem.depth0 of torch.optim.AdamW")
    assert rows(lines[start + 1 : stop]) == [
        ["optimizer", "torch.optim.AdamW", "stands"],
        ["optimizer.lr", "0.01", "overridden by rules.again.lr"],
        ["optimizer.weight_decay", "0.1", "overridden by rules.no_decay.weight_decay"],
        ["schedule.lr", "Cosine(final_factor=0.1)", "taken away"],
        ["rules.no_decay.match", "{ndim: <=1}", "fits"],
        ["rules.no_decay.weight_decay", "0", "stands"],
        ["rules.no_decay.schedule.lr", "null", "stands"],
        ["rules.layers.match", "*", "fits"],
        ["rules.layers.layer_decay", "× 0.5 a layer", "stands: layer 0, lr × 0.25"],
        ["rules.stem.match", "layer.0", "fits"],
        ["rules.stem.lr", "0.02", "overridden by rules.again.lr"],
        ["rules.stem.multiply.lr", "× 0.1", "stands"],
        ["rules.stem.freeze_until", "20%", "overridden by rules.again"],
        ["rules.again.match", "[layer.0.bias]", "fits"],
        ["rules.again.lr", "0.04", "stands"],
        ["rules.again.freeze_until", "5", "stands"],
    ]
    standing = rows(lines[stop + 1 :])
    assert standing[0] == ["lr", "0.001", "rules.again.lr × rules.stem.multiply.lr × rules.layers.layer_decay"]
    assert ["weight_decay", "0", "rules.no_decay.weight_decay"] in standing
    assert ["betas", "[0.9, 0.999]", "the class's own default"] in standing
    assert standing[-1] == ["moves from step", "5", "rules.again.freeze_until"]


def test_values_of_the_top_do_not_cross_to_another_class() -> None:
    cells = rows(told("layer.2.weight"))
    assert ["optimizer", "torch.optim.AdamW", "overridden by rules.hidden.optimizer"] in cells
    assert ["optimizer.weight_decay", "0.1", "does not cross to Muon"] in cells
    assert ["rules.hidden.optimizer.lr", "0.03", "stands"] in cells
    assert ["schedule of lr", "Cosine(final_factor=0.1)", "schedule.lr"] in cells


def test_the_frozen_and_the_tied_say_so() -> None:
    assert told("layer.4.bias")[-1] == "What stands: it is frozen for the whole run (rules.probe.freeze)"
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "out": nn.Linear(3, 5)})
    model["out"].weight = model["embed"].weight
    model["out"].bias.requires_grad_(False)
    plain = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
    assert told("out.weight", plain, model)[0] == (
        "embed.weight: of Embedding, Linear (embedding) (head), shape [5, 3], 15 numbers; also known as out.weight"
    )
    assert told("out.bias", plain, model)[1:] == [
        "The model itself has frozen it (requires_grad=False): no rule applies."
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "layer.0.wieght",
            [
                "--explain: there is no such parameter",
                "    given:   'layer.0.wieght'",
                "    allowed: net.layer.0.weight, net.layer.0.bias, net.layer.2.weight, net.layer.2.bias, "
                "net.layer.4.weight, net.layer.4.bias",
                "    nearest: net.layer.0.weight, net.layer.4.weight, net.layer.2.weight",
                "    fix:     name one of these in full",
            ],
        ),
        (
            "bias",
            [
                "--explain: several parameters end so",
                "    given:   'bias'",
                "    allowed: net.layer.0.bias, net.layer.2.bias, net.layer.4.bias",
                "    fix:     name one of these in full",
            ],
        ),
    ],
)
def test_a_name_that_is_no_one_parameter_is_refused(name: str, text: list[str]) -> None:
    with pytest.raises(lo.PlanError) as error:
        told(name)
    assert str(error.value).splitlines() == text


def test_what_is_for_all_groups_of_a_class_stands_where_the_class_does() -> None:
    sam = {"_target_": "pytorch_optimizer.WSAM", "base_optimizer": "torch.optim.SGD", "decouple": False}
    recipe = lo.Recipe.from_config({"optimizer": {**sam, "foreach": False}})
    told = explain(MLP(4, (3, 3), 2), recipe, lo.Horizon(10), "layer.0.weight")
    assert [line.split() for line in told.splitlines() if "optimizer." in line][1:3] == [
        ["optimizer.base_optimizer", "=", "torch.optim.SGD", "stands"],
        ["optimizer.decouple", "=", "false", "stands"],
    ]
    assert "foreach" not in told
