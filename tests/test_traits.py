from typing import Any

import pytest
import torch
from torch import nn

from lit_optim.traits import EXECUTION, traits_of

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
ALL = sorted(
    name
    for name, item in vars(torch.optim).items()
    if isinstance(item, type) and issubclass(item, torch.optim.Optimizer) and name not in ("Optimizer", "SparseAdam")
)


@pytest.mark.parametrize("name", [*ALL, "SparseAdam"])
def test_hyperparameters_are_what_a_group_of_the_class_carries(name: str) -> None:
    cls = getattr(torch.optim, name)
    traits = traits_of(cls)
    group = cls([nn.Parameter(torch.zeros(2, 2))]).param_groups[0]
    assert {**traits.defaults} == {key: group[key] for key in group if key not in ("params", *EXECUTION)}
    assert "lr" in traits.defaults
    assert traits.optimizer is cls


def test_execution_is_no_hyperparameter() -> None:
    traits = traits_of(torch.optim.AdamW)
    assert not {*EXECUTION} & traits.defaults.keys()
    assert {*EXECUTION} <= traits.arguments


@pytest.mark.parametrize("name", ALL)
def test_every_class_takes_its_own_defaults(name: str) -> None:
    traits = traits_of(getattr(torch.optim, name))
    assert traits.refusal(traits.defaults) is None
    assert all(traits.refusal({key: value}) is None for key, value in traits.defaults.items())


@pytest.mark.parametrize(
    ("cls", "settings", "reason"),
    [
        (torch.optim.SGD, {"lr": -1}, "Invalid learning rate: -1"),
        (torch.optim.SGD, {"lr": "1"}, "a number is needed"),
        (torch.optim.SGD, {"lr": True}, "a number is needed"),
        (torch.optim.SGD, {"lr": float("nan")}, "a finite number is needed"),
        (torch.optim.SGD, {"lr": float("-inf")}, "a finite number is needed"),
        (torch.optim.SGD, {"nesterov": 1}, "true or false is needed"),
        (torch.optim.SGD, {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        (torch.optim.SGD, {"nesterov": True, "momentum": 0.9}, None),
        (torch.optim.SGD, {"lr": 0}, None),
        (torch.optim.Adam, {"betas": (0.9, 1.5)}, "Invalid beta parameter at index 1: 1.5"),
        (torch.optim.Adam, {"betas": (0.9,)}, "a list of 2 is needed"),
        (torch.optim.Adam, {"betas": (0.9, None)}, "a number is needed"),
        (torch.optim.Adam, {"betas": (0.9, float("nan"))}, "a finite number is needed"),
        (torch.optim.Adam, {"betas": [0.9, 0.99]}, None),
        (torch.optim.Rprop, {"etas": (1.5, 1.2)}, "Invalid eta values: 1.5, 1.2"),
        (torch.optim.LBFGS, {"line_search_fn": "strong_wolfe"}, None),
    ],
)
def test_the_class_says_what_it_refuses(cls: type, settings: dict[str, Any], reason: str | None) -> None:
    assert traits_of(cls).refusal(settings) == reason


def test_the_class_says_what_tensors_it_refuses() -> None:
    muon = traits_of(torch.optim.Muon)
    assert muon.refusal({}) is None
    assert muon.refusal({}, [2, 2]) is None
    for ndim in (0, 1, 3, 4):
        assert str(muon.refusal({}, [2, ndim])).startswith("Muon only supports 2D parameters")
    assert traits_of(torch.optim.SGD).refusal({}, [0, 1, 2, 3, 4]) is None


def test_a_default_may_follow_another_value() -> None:
    lbfgs = traits_of(torch.optim.LBFGS)
    assert lbfgs.defaults["max_eval"] == 25
    assert lbfgs.defaults_beside({"max_iter": 4}) == {**lbfgs.defaults, "max_iter": 4, "max_eval": 5}
    assert lbfgs.defaults_beside({"lr": -1}) == lbfgs.defaults


@pytest.mark.parametrize("name", ALL)
def test_only_lbfgs_holds_one_group(name: str) -> None:
    reason = traits_of(getattr(torch.optim, name)).refusal_of_groups()
    assert reason == ("LBFGS doesn't support per-parameter options (parameter groups)" if name == "LBFGS" else None)


@pytest.mark.parametrize("name", ALL)
def test_what_can_be_fused_on_the_cpu(name: str) -> None:
    traits = traits_of(getattr(torch.optim, name))
    assert traits.can_fuse([nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]) is (name in FUSED)


def test_one_kind_of_device_and_floating_point_only() -> None:
    traits = traits_of(torch.optim.AdamW)
    assert not traits.can_fuse([torch.zeros(2), torch.zeros(2, device="meta")])
    assert not traits.can_fuse([torch.zeros(2), torch.zeros(2, dtype=torch.complex64)])
    assert not traits.can_fuse([])
    assert traits.can_fuse([torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)])


def test_a_class_that_needs_more_is_told_by_a_type_error() -> None:
    class Needy(torch.optim.SGD):
        def __init__(self, params: Any, needed: int) -> None:
            super().__init__(params)

    with pytest.raises(TypeError, match="needed"):
        traits_of(Needy)
