import copy
import functools
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from digitnet import HIDDEN, Net, loader, same
from lightning.pytorch import Callback, Trainer
from torch import Tensor

import lit_optim as lo
from lit_optim.data.loader import TensorLoader
from lit_optim.integration.callbacks.continuing import random_state
from lit_optim.integration.lr_finder import learning_rates

MUON = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
    "rules": {
        "hidden": {**HIDDEN, "optimizer": {"_target_": "torch.optim.Muon", "lr": 0.02}},
        "head": {"match": "layers.4", "multiply": {"lr": 0.5}},
    },
    "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine"}},
}


class Watch(Callback):
    def __init__(self) -> None:
        self.lrs: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, module: Any, optimizer: Any) -> None:
        self.lrs.append([group["lr"] for group in optimizer.param_groups])


def with_watch(trainer: Callable[..., Trainer], watch: Watch) -> Callable[..., Trainer]:
    return lambda callbacks, **more: trainer(callbacks=[*callbacks, watch], **more)


def test_one_factor_moves_all_groups_and_their_ratios_stay(trainer: Callable[..., Trainer]) -> None:
    watch = Watch()
    sweep = lo.find_lr(Net(), MUON, with_watch(trainer, watch), train_dataloaders=loader(4), high=1e1, steps=30)
    plan = lo.make_plan(Net(), {**MUON, "schedule": {}}, lo.Horizon(30))
    own = [group.hyperparameters["lr"] for group in plan.groups]
    assert len(own) == 3
    assert len(sweep.factors) == len(watch.lrs) == 30
    for factor, lrs in zip(sweep.factors, watch.lrs, strict=True):
        assert lrs == pytest.approx([factor * lr for lr in own], rel=1e-12)
    assert sweep.factors[0] == pytest.approx(1e-5)
    assert sweep.factors[-1] == pytest.approx(1e1)


def test_a_fit_afterwards_is_the_one_that_it_would_have_been(trainer: Callable[..., Trainer]) -> None:
    swept, other = lo.attach(Net(), MUON), lo.attach(Net(), MUON)
    random.seed(3), torch.manual_seed(3)
    before = random_state()
    weights = copy.deepcopy(swept.state_dict())
    lo.find_lr(swept, MUON, trainer, train_dataloaders=loader(4), steps=20)
    after = random_state()
    assert torch.equal(before.pop("torch"), after.pop("torch"))
    assert before == after
    assert all(torch.equal(weights[name], tensor) for name, tensor in swept.state_dict().items())
    for module in (swept, other):
        trainer(max_epochs=2).fit(module, loader(4))
    assert same(swept, other)


def test_it_ends_where_the_loss_diverges(trainer: Callable[..., Trainer]) -> None:
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}}
    sweep = lo.find_lr(Net(), recipe, trainer, train_dataloaders=loader(4), high=1e6, steps=60)
    assert sweep.stopped_early
    assert len(sweep.losses) < 60
    assert {*sweep.suggestions} == {"steepest", "valley", "min/10"}


@pytest.mark.parametrize("least", [{"min_epochs": 50}, {"min_steps": 60}])
def test_no_least_length_of_a_run_keeps_it_going(least: Any, trainer: Callable[..., Trainer]) -> None:
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}}
    made = functools.partial(trainer, **least)
    sweep = lo.find_lr(Net(), recipe, made, train_dataloaders=loader(4), high=1e6, steps=60)
    assert sweep.stopped_early
    assert len(sweep.losses) < 60


def test_an_error_leaves_the_random_state_as_it_was(trainer: Callable[..., Trainer]) -> None:
    class Fails(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            torch.rand(3)
            raise ArithmeticError("on purpose")

    module = Fails()
    before = torch.get_rng_state()
    with pytest.raises(ArithmeticError, match="on purpose"):
        lo.find_lr(module, MUON, trainer, train_dataloaders=loader(4))
    assert torch.equal(before, torch.get_rng_state())


def test_a_loader_with_a_position_stays_where_it_was(trainer: Callable[..., Trainer]) -> None:
    samples = (torch.randn(32, 6), torch.randint(3, (32,)))
    data = TensorLoader(samples, batch_size=8, shuffle=True)
    before = data.state_dict()
    lo.find_lr(Net(), MUON, trainer, train_dataloaders=data, steps=20)
    assert data.state_dict() == before


def test_the_loss_is_that_of_the_whole_step(trainer: Callable[..., Trainer]) -> None:
    class Constant(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * 0 + float(batch_idx % 4)

    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}}
    accumulating = functools.partial(trainer, accumulate_grad_batches=4)
    sweep = lo.find_lr(Constant(), recipe, accumulating, train_dataloaders=loader(8), steps=20)
    assert sweep.losses == (1.5,) * 20


def test_what_to_say_for_each_group() -> None:
    recipe = lo.Recipe.from_config(MUON)
    assert learning_rates(Net(), recipe) == {"rules.hidden.optimizer.lr": 0.02, "optimizer.lr": 1e-3}
    default = lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.AdamW"}})
    assert learning_rates(Net(), default) == {"optimizer.lr": 1e-3}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"low": 0.0}, "--low: a factor is above 0"),
        ({"low": 1.0, "high": 0.5}, "--high: the last factor is above the first"),
        ({"steps": 3}, "--steps: no curve can be told from fewer than 20"),
        ({"stop": 1.0}, "--stop: a multiple above 1 is needed"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(more: Any, told: str, trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(lo.RunError, match=told):
        lo.find_lr(Net(), MUON, trainer, train_dataloaders=loader(2), **more)
