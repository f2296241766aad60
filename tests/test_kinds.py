from __future__ import annotations

import modelzoo as zoo
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import lit_optim as lo
from lit_optim.kinds import KINDS, heads_of
from lit_optim.models import MLP
from lit_optim.structure import leaves_of


@pytest.mark.parametrize(
    ("module", "kinds"),
    [
        (nn.LayerNorm(4), {"norm"}),
        (nn.BatchNorm2d(4), {"norm"}),
        (nn.SyncBatchNorm(4), {"norm"}),
        (nn.InstanceNorm1d(4, affine=True), {"norm"}),
        (nn.GroupNorm(2, 4), {"norm"}),
        (nn.RMSNorm(4), {"norm"}),
        (zoo.RMSNormOfOurs(), {"norm"}),
        (nn.Embedding(3, 4), {"embedding"}),
        (nn.EmbeddingBag(3, 4), {"embedding"}),
        (zoo.ParallelEmbedding(), {"embedding"}),
        (nn.Linear(2, 2), {"linear"}),
        (nn.Bilinear(2, 2, 2), {"linear"}),
        (nn.LazyLinear(2), {"linear"}),
        (nn.Conv1d(2, 2, 1), {"conv"}),
        (nn.ConvTranspose3d(2, 2, 1), {"conv"}),
        (nn.Conv2d(4, 8, 1, groups=4), {"conv", "depthwise_conv"}),
        (nn.Conv2d(4, 4, 1, groups=2), {"conv"}),
        (nn.Conv2d(1, 4, 1), {"conv"}),
        (nn.LSTM(2, 2), set()),
        (nn.PReLU(), set()),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), {"linear"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_module_is(module: nn.Module, kinds: set[str]) -> None:
    assert {kind for kind, test in KINDS.items() if test(module)} == kinds


class NormedMatrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))


def test_a_class_that_says_norm_and_holds_a_matrix_is_none() -> None:
    assert not KINDS["norm"](NormedMatrix())


def test_a_block_that_says_norm_is_none() -> None:
    block = nn.ModuleDict({"fc": nn.Linear(2, 2)})
    block.__class__ = type("NormFreeBlock", (nn.ModuleDict,), {})
    block.gain = nn.Parameter(torch.ones(()))
    assert not KINDS["norm"](block)


class ByHand(nn.Module):
    """A model without layers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight1, self.weight2 = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
        self.norm = nn.LayerNorm(2)


class Patches(nn.Module):
    """Says embedding, and has no parameter called weight."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.ones(2, 2))


Patches.__name__ = "PatchEmbedding"


def heads(model: nn.Module) -> list[str]:
    found = heads_of(model)
    return [name for name, leaf in leaves_of(model) if id(leaf) in found]


def lit(net: nn.Module) -> nn.Module:
    return lo.LitClassifier(net, {"optimizer": {"_target_": "torch.optim.SGD"}})


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (MLP(4, (3, 3), 2), ["layer.4"]),
        (lit(MLP(4, (3, 3), 2)), ["net.layer.4"]),
        (zoo.LeNet(), ["fc2"]),
        (zoo.features_and_classifier(), ["2.2"]),
        (zoo.Vit(), ["classifier"]),
        (zoo.ConvNet(), ["head.fc"]),
        (zoo.small_stages(), ["fc"]),
        (zoo.Tagger(), ["fc"]),
        (zoo.Gpt(tied=True), ["out"]),
        (zoo.Gpt(tied=False), ["out"]),
        (zoo.Named(), ["answer"]),
        (nn.ModuleDict({"backbone": zoo.Named(), "probe": nn.Linear(2, 2)}), ["backbone.answer", "probe"]),
        (nn.ModuleDict({"probe": nn.Linear(2, 2), "backbone": zoo.Named()}), ["backbone.answer"]),
        (nn.Sequential(zoo.transformer(), nn.Linear(4, 3)), ["1"]),
        (zoo.transformer(), []),
        (nn.Sequential(zoo.Residual(1, 1), zoo.Residual(1, 1)), []),
        (nn.Sequential(nn.Embedding(3, 3)), []),
        (nn.Sequential(nn.Embedding(3, 3), nn.LSTM(3, 3)), []),
        (nn.MultiheadAttention(4, 2), []),
        (nn.LayerNorm(3), []),
        (nn.Sequential(zoo.Residual(1, 2), nn.Conv2d(2, 1, 1)), ["1"]),
        (nn.ModuleDict({"body": nn.Linear(4, 8), "policy": nn.Linear(8, 3), "value": nn.Linear(8, 1)}),
            ["policy", "value"]),
        (nn.ModuleDict({"body": nn.Linear(4, 4), "policy": nn.Linear(4, 3), "v": nn.ReLU(), "value": nn.Linear(4, 1)}),
            ["policy", "value"]),
        (nn.ModuleDict({"body": nn.Linear(4, 4), "fc": nn.Linear(4, 3)}), ["fc"]),
        (nn.ModuleDict({"heads": nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 2)])}), ["heads.0", "heads.1"]),
        (nn.ModuleDict({"fc": nn.Linear(3, 7), "behind": nn.Linear(4, 2)}), ["behind"]),
        (nn.ModuleDict({"fc": nn.Linear(4, 7), "behind": nn.Conv1d(4, 2, 1)}), ["behind"]),
        (nn.ModuleDict({"up": nn.Conv2d(4, 8, 3), "last": nn.Conv2d(4, 3, 3)}), ["last"]),  # a PixelShuffle between
        (nn.Sequential(nn.Linear(4, 8), nn.GLU(), nn.Linear(4, 3)), ["2"]),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm([2, 2])), ["0"]),
        (nn.Sequential(nn.Linear(2, 2), nn.ParameterList([torch.ones(2, 2)])), []),
        (ByHand(), []),
        (nn.Linear(2, 2), [""]),
        (nn.ModuleDict({"a": nn.ReLU(), "table": Patches(), "fc": weight_norm(nn.Linear(2, 2))}), ["fc"]),
        (nn.Sequential(Patches(), weight_norm(nn.Linear(2, 2)), nn.Linear(2, 3)), ["2"]),
    ],
    ids=range(35),
)  # fmt: skip
def test_the_head_is_found_from_the_model(model: nn.Module, names: list[str]) -> None:
    assert heads(model) == names


def test_a_norm_in_what_a_model_calls_its_head_is_none() -> None:
    model = zoo.Named()
    model.answer = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 2))
    assert heads(model) == ["answer.1"]


def test_a_head_that_is_called_otherwise_and_a_body_called_head() -> None:
    model = nn.ModuleDict({"head": nn.Linear(2, 2), "zzz": nn.Linear(2, 2)})
    assert heads(model) == ["zzz"]


def test_a_model_that_cannot_say_is_asked_otherwise() -> None:
    class Base(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(2, 2)

        def get_output_embeddings(self) -> nn.Module:
            raise NotImplementedError

    assert heads(Base()) == ["out"]
