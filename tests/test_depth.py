from __future__ import annotations

import modelzoo as zoo
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lit_optim as lo
from lit_optim.depth import inferred_depths, listed_depths
from lit_optim.models import MLP


def by_depth(model: nn.Module) -> list[set[str]]:
    """The modules of each layer."""
    depths = inferred_depths(model)
    assert depths.keys() == {name for name, _ in model.named_parameters(remove_duplicate=False)}
    layers: list[set[str]] = [set() for _ in range(max(depths.values()) + 1)]
    for name, depth in depths.items():
        layers[depth].add(name.rpartition(".")[0] or name)
    assert all(layers)
    return layers


def test_a_sequence_has_a_layer_for_each_matrix() -> None:
    assert by_depth(MLP(4, (3, 3), 2)) == [{"layer.0"}, {"layer.2"}, {"layer.4"}]
    assert by_depth(zoo.LeNet()) == [{"conv1", "bn1"}, {"conv2"}, {"fc1"}, {"fc2"}]
    assert by_depth(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2))) == [{"0", "1"}]


def test_all_heads_are_one_layer() -> None:
    model = nn.ModuleDict({"body": nn.Linear(4, 8), "policy": nn.Linear(8, 3), "value": nn.Linear(8, 1)})
    assert by_depth(model) == [{"body"}, {"policy", "value"}]


def test_a_norm_of_a_matrix_is_no_layer() -> None:
    assert by_depth(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm([2, 2]))) == [{"0", "1"}]


def test_a_parametrized_layer_is_one_layer() -> None:
    model = nn.Sequential(*(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)) for _ in range(2)))
    assert [{name[0] for name in layer} for layer in by_depth(model)] == [{"0"}, {"1"}]


def test_a_model_that_holds_itself_has_layers() -> None:
    model = zoo.LeNet()
    model.again = model
    assert max(inferred_depths(model).values()) == 3


def test_between_blocks_a_norm_goes_with_the_matrix_before_it() -> None:
    down = nn.ModuleList([zoo.Residual(1, 2), zoo.Residual(2, 4)])
    middle = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    up = nn.ModuleList([zoo.Residual(4, 2), zoo.Residual(2, 2)])
    model = nn.ModuleDict({"down": down, "norm": nn.BatchNorm2d(4), "middle": middle, "up": up})
    assert [{name.partition(".")[0] for name in layer} for layer in by_depth(model)] == [
        {"down"},
        {"down", "norm"},
        {"middle", "up"},
        {"up"},
    ]


def test_blocks_stand_between_stem_and_head() -> None:
    layers = by_depth(nn.ModuleDict({"net": zoo.Vit()}))
    assert layers[0] == {"net", "net.patches"}
    assert {name.split(".")[2] for name in layers[1]} == {"0"}
    assert "net.norm" in layers[2]
    assert layers[3] == {"net.classifier"}
    assert len(layers) == 4


def test_what_leads_to_a_block_goes_with_it_and_a_norm_of_the_head_with_the_head() -> None:
    layers = by_depth(zoo.ConvNet())
    assert layers[0] == {"stem", "stages.0.down.0", "stages.0.down.1"}
    assert "stages.1.down.0" in layers[3]
    assert "stages.1.down.1" in layers[3]
    assert "stages.1.blocks.0.conv1" in layers[3]
    assert layers[5] == {"head.norm", "head.fc"}


@pytest.mark.parametrize("tied", [True, False])
def test_a_norm_behind_the_blocks_goes_with_the_last(tied: bool) -> None:
    layers = by_depth(zoo.Gpt(tied))
    assert layers[0] == {"tokens", "positions"}
    assert "last_norm" in layers[3]
    assert layers[4] == {"out"}


def test_a_tied_weight_stands_where_it_is_met_first() -> None:
    assert rates(zoo.Gpt(), rate=0.5)["tokens.weight"] == 0.5**4


NAMES = [
    "stem.weight",
    *(f"stages.{s}.blocks.{b}.{kind}" for s in (0, 1, 10) for b in (0, 1, 2, 11) for kind in ("weight", "bias")),
    "head.weight",
]


def test_an_order_of_globs_with_numbers() -> None:
    depths = listed_depths(["stem", "stages.#.blocks.#", "head"], NAMES)
    order = sorted(NAMES[1:-1:2], key=lambda name: [int(part) for part in name.split(".") if part.isdigit()])
    assert [depths[name] for name in order] == [*range(1, 13)]
    assert depths["stages.10.blocks.11.bias"] == 12
    assert (depths["stem.weight"], depths["head.weight"]) == (0, 13)


def test_the_first_glob_that_fits_counts_and_what_none_fits_is_left_out() -> None:
    assert listed_depths(["head", "*"], ["a.weight", "head.weight"]) == {"head.weight": 0, "a.weight": 1}
    assert listed_depths(["head"], ["a.weight", "head.weight"]) == {"head.weight": 0}


def rates(model: nn.Module, **decay: object) -> dict[str, float]:
    config = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0},
        "rules": {"layers": {"match": "*", "layer_decay": decay}},
    }
    plan = lo.make_plan(model, lo.Recipe.from_config(config), lo.Horizon(10))
    return {name: group.hyperparameters["lr"] for group in plan.groups for name in group.parameters}


def test_the_rate_is_a_power_of_the_distance_from_the_output() -> None:
    found = rates(MLP(4, (3, 3), 2), rate=0.5)
    assert [found[f"layer.{i}.weight"] for i in (0, 2, 4)] == [0.25, 0.5, 1.0]
    assert [rates(MLP(4, (3, 3), 2), rate=0.5, min_factor=0.4)[f"layer.{i}.bias"] for i in (0, 2, 4)] == [0.4, 0.5, 1.0]
    backwards = rates(MLP(4, (3, 3), 2), rate=0.5, order=["layer.4", "layer.2", "layer.0"])
    assert [backwards[f"layer.{i}.weight"] for i in (0, 2, 4)] == [1.0, 0.5, 0.25]


def test_two_rules_have_each_a_last_layer_of_their_own() -> None:
    config = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0},
        "rules": {
            "few": {"match": "a", "layer_decay": {"rate": 0.5, "order": ["a.0", "a.1"]}},
            "many": {"match": "b", "layer_decay": {"rate": 0.5, "order": ["b.0", "b.1", "b.2"]}},
        },
    }
    model = nn.ModuleDict(
        {name: nn.Sequential(*(nn.Linear(2, 2) for _ in range(size))) for name, size in (("a", 2), ("b", 3))}
    )
    plan = lo.make_plan(model, lo.Recipe.from_config(config), lo.Horizon(10))
    found = {name: group.hyperparameters["lr"] for group in plan.groups for name in group.parameters}
    assert [found[f"{name}.weight"] for name in ("a.0", "a.1", "b.0", "b.1", "b.2")] == [0.5, 1.0, 0.25, 0.5, 1.0]


def test_groups_are_named_after_their_layer() -> None:
    config = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0},
        "rules": {
            "layers": {"match": {"not": "layer.0"}, "layer_decay": 0.5},
            "bias": {"match": "*.bias", "momentum": 0.5},
        },
    }
    widths = [2] * 12
    plan = lo.make_plan(MLP(2, widths, 2), lo.Recipe.from_config(config), lo.Horizon(10))
    names = [group.name for group in plan.groups]
    assert names[:4] == ["default", "bias.layers", "layers.depth01", "bias.layers.depth01"]  # the last layer's lr is 1
    assert len({*names}) == len(names)


@given(st.lists(st.sampled_from(["linear", "norm", "relu"]), min_size=1, max_size=8))
def test_along_a_sequence_depths_are_dense_and_never_fall(parts: list[str]) -> None:
    makers = {"linear": lambda: nn.Linear(2, 2), "norm": lambda: nn.LayerNorm(2), "relu": nn.ReLU}
    model = nn.Sequential(*(makers[part]() for part in parts))
    depths = list(inferred_depths(model).values())
    assert depths == sorted(depths)
    assert {*depths} == {*range(max(depths, default=-1) + 1)}
