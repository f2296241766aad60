"""Every parameter of timm's models gets the lr and the weight decay that timm's own param groups give it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import lit_optim as lo
from lit_optim import depth

timm = pytest.importorskip("timm", reason="the extra peers has an environment of its own")
peer = pytest.importorskip("timm.optim")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of the peers

LR, DECAY, RATE = 1e-3, 0.05, 0.75
RUN = lo.Horizon(total_steps=1000, steps_per_epoch=100)
NAMES = [
    "vit_small_patch16_224",
    "vit_base_patch16_clip_224",
    "deit_tiny_distilled_patch16_224",
    "convnext_tiny",
    "convnextv2_atto",
    "resnet18",
    "resnet50",
    "swin_tiny_patch4_window7_224",
    "mixer_s16_224",
    "mobilenetv3_small_100",
]
SAID_BY_THEM = ["beit_base_patch16_224", "efficientnet_b0", "regnety_002", "vgg11", "densenet121", "pvt_v2_b0"]

Settings = dict[str, tuple[float, float]]


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {}


def model_of(name: str, models: dict[str, nn.Module]) -> nn.Module:
    if name not in models:
        models[name] = timm.create_model(name, pretrained=False)
    return models[name]


def theirs(model: nn.Module, groups: list[dict[str, Any]]) -> Settings:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (LR * group.get("lr_scale", 1.0), group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


def ours(model: nn.Module, rules: dict[str, Any]) -> Settings:
    optimizer = {"_target_": "torch.optim.AdamW", "lr": LR, "weight_decay": DECAY}
    plan = lo.make_plan(model, lo.Recipe.from_config({"optimizer": optimizer, "rules": rules}), RUN)
    return {
        name: (group.hyperparameters["lr"], group.hyperparameters["weight_decay"])
        for group in plan.groups
        for name in group.parameters
    }


def spared(model: nn.Module) -> list[str]:
    """What the model itself wants no decay on, as globs."""
    names = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    return [f"^{name}" for name in sorted(names) if name in dict(model.named_parameters())]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("structure_alone", [True, False], ids=["from structure", "as the model says"])
def test_layer_decay(
    name: str, structure_alone: bool, models: dict[str, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    if structure_alone:
        monkeypatch.setattr(depth, "_said_by_model", lambda model: None)
    model = model_of(name, models)
    expected = peer.param_groups_layer_decay(
        model, weight_decay=DECAY, no_weight_decay_list=[one.lstrip("^") for one in spared(model)], layer_decay=RATE
    )
    rules = {
        "no_decay": {"match": [{"ndim": "<=1"}, *spared(model)], "weight_decay": 0.0},
        "layers": {"match": "*", "layer_decay": RATE},
    }
    assert ours(model, rules) == theirs(model, expected)
    assert len({lr for lr, _ in ours(model, rules).values()}) > 5


@pytest.mark.parametrize("name", SAID_BY_THEM)
def test_layer_decay_of_models_that_say_their_order(name: str, models: dict[str, nn.Module]) -> None:
    model = model_of(name, models)
    expected = peer.param_groups_layer_decay(model, weight_decay=DECAY, layer_decay=RATE)
    rules = {
        "no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0},
        "layers": {"match": "*", "layer_decay": RATE},
    }
    assert ours(model, rules) == theirs(model, expected)


def test_layer_decay_inside_of_another_module(models: dict[str, nn.Module]) -> None:
    model = model_of("vit_small_patch16_224", models)
    rules = {"layers": {"match": "*", "layer_decay": RATE}}
    inside = {f"net.{name}": settings for name, settings in ours(model, rules).items()}
    assert ours(nn.ModuleDict({"net": model}), rules) == inside


def test_layer_decay_by_a_list_of_globs(models: dict[str, nn.Module]) -> None:
    model = model_of("convnext_tiny", models)
    expected = peer.param_groups_layer_decay(model, weight_decay=DECAY, layer_decay=RATE)
    order = ["stem", *(f"stages.{stage}.blocks.#" for stage in range(4)), "head"]
    downsampling = {f"stages.{stage}.downsample": f"stages.{stage}.blocks.0" for stage in range(1, 4)}
    rules = {
        "no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0},
        "layers": {"match": {"name": "*", "not": list(downsampling)}, "layer_decay": {"rate": RATE, "order": order}},
    }
    mine, target = ours(model, rules), theirs(model, expected)
    assert {n: s for n, s in mine.items() if "downsample" not in n} == {
        n: s for n, s in target.items() if "downsample" not in n
    }


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay(name: str, models: dict[str, nn.Module]) -> None:
    model = model_of(name, models)
    expected = peer.param_groups_weight_decay(
        model, DECAY, no_weight_decay_list=[one.lstrip("^") for one in spared(model)]
    )
    rules = {"no_decay": {"match": [{"ndim": "<=1"}, "*.bias", *spared(model)], "weight_decay": 0.0}}
    assert ours(model, rules) == theirs(model, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_the_classifier(name: str, models: dict[str, nn.Module]) -> None:
    model = model_of(name, models)
    said = model.get_classifier()
    heads = {id(head) for head in (said if isinstance(said, tuple) else (said,))}
    expected = {
        f"{path}.{own}"
        for path, module in model.named_modules()
        if id(module) in heads
        for own, _ in module.named_parameters()
    }
    changed = {n for n, (lr, _) in ours(model, {"head": {"match": {"module": "head"}, "lr": 0.5}}).items() if lr == 0.5}
    assert changed == expected
