from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

import lit_optim as lo
from lit_optim.data.module import InMemoryDataModule, Splits
from lit_optim.models import MLP

EPOCHS, BATCH, SAMPLES = 3, 8, 60  # 8 batches an epoch, the last one smaller
SGD: dict[str, Any] = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}


class Blobs(InMemoryDataModule):
    in_dim, out_dim = 6, 3

    def load(self) -> Splits:
        draws = torch.Generator().manual_seed(0)
        y = torch.arange(SAMPLES) % 3
        x = torch.randn(SAMPLES, 6, generator=draws) + y[:, None]
        return Splits((x, y), (x[:20], y[:20]), (x[:20], y[:20]))


def net() -> MLP:
    torch.manual_seed(1)
    return MLP(6, (16, 8), 3)


def blobs() -> Blobs:
    return Blobs(batch_size=BATCH, seed=5)


def make_trainer(**settings: Any) -> Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    settings = {"max_epochs": EPOCHS, "limit_val_batches": 0, "enable_checkpointing": False} | settings
    return Trainer(accelerator="cpu", **quiet, **settings)


class Base(LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return cross_entropy(self.net(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


class Own(Base):
    """Somebody's module, with an optimizer of its own that a recipe puts aside."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=123.0)


class Calls(Own):
    def configure_optimizers(self) -> Any:
        return lo.configure_optimizers(self, SGD)


class Inherits(lo.RecipeModule, Base):
    def __init__(self) -> None:
        super().__init__(SGD)
        self.net = net()


class Watch(Callback):
    """The learning rates that each step used."""

    def __init__(self) -> None:
        self.used: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.used.append([group["lr"] for group in optimizer.param_groups])


def fitted(module: LightningModule, *callbacks: Callback, ckpt: Path | None = None, **settings: Any) -> Trainer:
    trainer = make_trainer(callbacks=list(callbacks), **settings)
    trainer.fit(module, datamodule=blobs(), ckpt_path=ckpt, weights_only=True)
    return trainer


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- three ways in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Inherits, Calls, lambda: lo.attach(Own(), SGD)], ids=["inherits", "calls", "attached"])
def test_every_way_in_trains_the_same(way: Any) -> None:
    reference = net()
    bare_loop(reference, torch.optim.SGD(reference.parameters(), lr=0.1, fused=True), lambda step: 1.0)
    module = way()
    trainer = fitted(module)
    assert same(module.net, reference)
    assert isinstance(trainer.optimizers[0], torch.optim.SGD)
    assert trainer.lr_scheduler_configs[0].interval == "step"


def test_the_plan_that_runs_is_on_the_scheduler() -> None:
    module = Inherits()
    plan = fitted(module).lr_scheduler_configs[0].scheduler.plan
    assert plan == lo.make_plan(module, lo.Recipe.from_config(SGD), lo.Horizon(8 * EPOCHS, 8, BATCH))


def test_attach_gives_back_the_module_and_leaves_the_class_and_others_alone() -> None:
    before, other, module = dict(vars(Own)), Own(), Own()
    assert lo.attach(module, SGD) is module
    assert dict(vars(Own)) == before
    assert type(module) is Own
    assert other.configure_optimizers().param_groups[0]["lr"] == 123.0
    assert fitted(other).optimizers[0].param_groups[0]["lr"] == 123.0
    assert fitted(module).optimizers[0].param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_of_an_attached_module_trains_itself(copied: Any) -> None:
    module = lo.attach(Own(), SGD)
    untrained = weights(module)
    twin = copied(module)
    trainer = fitted(twin)
    held = {id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in twin.parameters()}
    assert all(torch.equal(weights(module)[name], tensor) for name, tensor in untrained.items())
    fitted(module)
    assert same(module, twin)


@pytest.mark.parametrize("way", [Calls, lambda: lo.attach(Own(), SGD), Inherits])
def test_manual_optimization_is_refused(way: Any) -> None:
    module = way()
    module.automatic_optimization = False
    with pytest.raises(lo.PlanError, match="optimizes manually") as refusal:
        fitted(module)
    assert refusal.value.mistakes[0].key == "automatic_optimization"


@pytest.mark.parametrize("give", [lo.RecipeModule, lambda recipe: lo.attach(Own(), recipe)], ids=["class", "attach"])
def test_a_wrong_recipe_is_refused_at_once(give: Any) -> None:
    with pytest.raises(lo.RecipeError, match=r"optimzer.*\n.*\n.*\n.*nearest: optimizer"):
        give({"optimzer": {"_target_": "torch.optim.SGD"}})


def test_a_recipe_may_be_the_path_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("optimizer: {_target_: torch.optim.SGD, lr: 0.1}\n")
    module, same_in_python = lo.attach(Own(), path), lo.attach(Own(), SGD)
    fitted(module)
    fitted(same_in_python)
    assert same(module, same_in_python)


# --- the same as a loop written by hand ------------------------------------------------------------------------------


def bare_loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    factor: Any,
    accumulate: int = 1,
    clip: float | None = None,
    epochs: int = EPOCHS,
) -> list[list[float]]:
    """What a user would write without Lightning; gives the learning rates that each step used."""
    loader, used = loader_of_the_run(), []
    scheduler = LambdaLR(optimizer, factor)
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for number, (x, y) in enumerate(loader, start=1):
            (cross_entropy(model(x), y) / accumulate).backward()
            if number % accumulate and number != len(loader):
                continue
            if clip is not None:
                held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
                torch.nn.utils.clip_grad_norm_(held, clip)  # in this order, which decides the last bit of the norm
            used.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return used


def loader_of_the_run() -> Any:
    data = blobs()
    data.setup("fit")
    return data.train_dataloader()


def warmup_cosine(total: int, warmup: int) -> Any:
    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    return factor


def two_groups(model: nn.Module) -> list[dict[str, Any]]:
    flat = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": [p for p in model.parameters() if p.ndim > 1]}, {"params": flat, "weight_decay": 0.0, "lr": 0.5}]


NO_DECAY = {"no_decay": {"match": {"ndim": "<=1"}, "weight_decay": 0.0, "lr": 0.5}}
CASES: dict[str, tuple[dict[str, Any], Any, bool]] = {  # recipe, the same by hand, whether it warms up
    "sgd": (SGD, lambda m: torch.optim.SGD(m.parameters(), lr=0.1, fused=True), False),
    "momentum": (
        {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}},
        lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, fused=True),
        False,
    ),
    "adamw": (
        {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.1}},
        lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=0.1, fused=True),
        False,
    ),
    "adamw_for_loop": (
        {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01, "foreach": False}},
        lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, foreach=False),
        False,
    ),
    "two_groups_warmup_cosine": (
        {
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.1},
            "rules": NO_DECAY,
            "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "25%"}},
        },
        lambda m: torch.optim.AdamW(two_groups(m), lr=0.01, weight_decay=0.1, fused=True),
        True,
    ),
}


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_fit_equals_the_loop_bit_for_bit(case: str, accumulate: int, clip: float | None) -> None:
    recipe, by_hand, warms_up = CASES[case]
    steps = -(-8 // accumulate) * EPOCHS
    reference, watch = net(), Watch()
    optimizer = by_hand(reference)
    factor = warmup_cosine(steps, int(steps * 0.25 + 0.5)) if warms_up else lambda step: 1.0
    used = bare_loop(reference, optimizer, factor, accumulate, clip)

    module = lo.attach(Own(), recipe)
    trainer = fitted(module, watch, accumulate_grad_batches=accumulate, gradient_clip_val=clip)

    assert trainer.global_step == steps == len(used)
    assert same(module.net, reference)
    plan = trainer.lr_scheduler_configs[0].scheduler.plan
    curves = [plan.curve(group.name, "lr").tolist() for group in plan.groups]
    assert list(map(list, zip(*curves, strict=True))) == watch.used
    assert watch.used == [pytest.approx(row, rel=1e-12) for row in used]
    assert not same(module.net, net())


# --- resuming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [5, 8, 11, 16])  # in mid-epoch, and where an epoch ends
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path: Path, stop_at: int, accumulate: int) -> None:
    recipe, _, _ = CASES["two_groups_warmup_cosine"]

    def run(ckpt: Path | None = None) -> tuple[LightningModule, Watch]:
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1, auto_insert_metric_name=False)
        module, watch = lo.attach(Own(), recipe), Watch()
        fitted(module, watch, keep, ckpt=ckpt, enable_checkpointing=True, accumulate_grad_batches=accumulate)
        return module, watch

    stop_at //= accumulate
    whole, of_whole = run()
    resumed, of_resumed = run(tmp_path / f"{stop_at}.ckpt")
    assert of_resumed.used == of_whole.used[stop_at:]
    assert same(whole, resumed)
