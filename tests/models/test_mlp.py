import doctest
from typing import Any

import pytest
import torch
from torch import nn

from lit_optim.models import MLP, mlp

TUTORIAL = """\
MLP(
  (layer): Sequential(
    (0): Linear(in_features=784, out_features=300, bias=True)
    (1): ReLU()
    (2): Linear(in_features=300, out_features=200, bias=True)
    (3): ReLU()
    (4): Linear(in_features=200, out_features=10, bias=True)
  )
)"""


def test_it_is_the_tutorials_network() -> None:
    assert repr(MLP(784, (300, 200), 10)) == TUTORIAL


def test_the_tutorials_last_relu_can_be_had() -> None:
    with_relu = TUTORIAL.replace("out_features=10, bias=True)\n", "out_features=10, bias=True)\n    (5): ReLU()\n")
    model = MLP(784, [300, 200], 10, output_activation="relu")
    assert repr(model) == with_relu
    assert model(torch.randn(64, 784, generator=torch.Generator().manual_seed(0))).min() == 0


def test_logits_may_be_negative_otherwise() -> None:
    torch.manual_seed(0)
    assert MLP(784, (300, 200), 10)(torch.randn(64, 784)).min() < 0


def test_the_parameters_are_named_as_in_the_tutorial() -> None:
    assert [(name, tuple(p.shape)) for name, p in MLP(784, (300, 200), 10).named_parameters()] == [
        ("layer.0.weight", (300, 784)),
        ("layer.0.bias", (300,)),
        ("layer.2.weight", (200, 300)),
        ("layer.2.bias", (200,)),
        ("layer.4.weight", (10, 200)),
        ("layer.4.bias", (10,)),
    ]


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 4), (5, 1, 3, 2, 2)])
def test_a_sample_of_any_shape_is_flattened(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = MLP(12, (7,), 3), torch.randn(shape)
    by_hand = model.layer[2](model.layer[0](x.reshape(5, 12)).clamp(min=0))
    assert model(x).shape == (5, 3)
    assert torch.equal(model(x), by_hand)


def test_dropout_leaves_the_names_and_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    plain, model, x = MLP(12, (64, 64), 3), MLP(12, (64, 64), 3, dropout=0.25), torch.rand(200, 12)
    assert list(model.state_dict()) == list(plain.state_dict())
    model.load_state_dict(plain.state_dict())
    hidden = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in hidden] == [0.25, 0.25]  # none behind the last layer
    assert torch.equal(model.eval()(x), plain(x))
    first, active = model.train().layer[:2](x), plain.layer[:2](x)
    dropped = ((first == 0) & (active > 0)).sum() / (active > 0).sum()
    assert dropped.item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5, True, "0.1"])
def test_a_dropout_is_a_share(dropout: Any) -> None:
    with pytest.raises(ValueError, match="dropout is a number from 0 up to but not 1"):
        MLP(4, (3,), 2, dropout=dropout)


def test_without_hidden_layers_it_is_linear() -> None:
    assert [type(layer) for layer in MLP(4, (), 2).layer] == [nn.Linear]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("relu", nn.ReLU),
        ("leaky_relu", nn.LeakyReLU),
        ("gelu", nn.GELU),
        ("silu", nn.SiLU),
        ("elu", nn.ELU),
        ("tanh", nn.Tanh),
        ("sigmoid", nn.Sigmoid),
    ],
)
def test_activations_by_name(name: str, kind: type[nn.Module]) -> None:
    layers = MLP(4, (3, 3), 2, activation=name, output_activation=name).layer
    assert [type(layer) for layer in layers] == [nn.Linear, kind] * 3


@pytest.mark.parametrize(
    ("dims", "wrong"),
    [((0, (3,), 2), "0"), ((4, (3, -1), 2), "-1"), ((4, (3,), 2.0), "2.0"), ((4, (True,), 2), "True")],
)
def test_a_dimension_is_at_least_one(dims: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match="integers of at least 1") as refused:
        MLP(*dims)
    assert str(refused.value) == f"in_dim, hidden_dims and out_dim are integers of at least 1, not {wrong}"


@pytest.mark.parametrize("argument", ["activation", "output_activation"])
def test_an_unknown_activation_is_refused_with_the_nearest(argument: str) -> None:
    with pytest.raises(ValueError, match="is one of") as refused:
        MLP(4, (3,), 2, **{argument: "Gleu"})  # type: ignore[arg-type]
    assert str(refused.value) == (
        f"{argument} is one of relu, leaky_relu, gelu, silu, elu, tanh, sigmoid, not 'Gleu'; did you mean gelu?"
    )


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="is one of") as refused:
        MLP(0, "300", 2.0, activation="rleu", output_activation="Gleu", dropout=3)  # type: ignore[arg-type]
    told = str(refused.value).split("; ")
    assert [one.partition(" is")[0].partition(" are")[0] for one in told if " you " not in one] == [
        "hidden_dims", "in_dim, hidden_dims and out_dim", "dropout", "activation", "output_activation"
    ]  # fmt: skip
    assert "not 0, 2.0" in told[1]


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(mlp) == (0, 1)
