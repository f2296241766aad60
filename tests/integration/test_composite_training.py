"""A composite under a Trainer does what its children do apart in a bare loop, whatever the loop is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import HIDDEN, Net, batches, loader, same
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import SGD, AdamW, Muon, Optimizer
from torch.optim.swa_utils import get_ema_avg_fn

import lit_optim as lo
from lit_optim.composite import CompositeOptimizer

STEPS = 12
FUSED = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-2},
    "rules": {"hidden": {**HIDDEN, "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}}},
}
MUON = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-2},
    "rules": {"hidden": {**HIDDEN, "optimizer": {"_target_": "torch.optim.Muon", "lr": 0.02}}},
}
RECIPES = {"fused": FUSED, "muon": MUON}


def apart(net: Net, recipe: str) -> list[Optimizer]:
    hidden = [net.layers[0].weight, net.layers[2].weight]
    rest = [p for p in net.parameters() if not any(p is one for one in hidden)]
    first = SGD(hidden, 0.1, momentum=0.9, fused=True) if recipe == "fused" else Muon(hidden, 0.02)
    return [first, AdamW(rest, 1e-2, fused=True)]


def bare(net: Net, recipe: str, precision: str, clip: dict[str, Any], accumulate: int, scale: float) -> GradScaler:
    """Two optimizers, as the documentation of torch has it."""
    optimizers = apart(net, recipe)
    held = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    scaler = GradScaler("cpu", scale, enabled=precision == "16-mixed", growth_interval=2)
    kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.half}
    every = batches(STEPS)
    for start in range(0, STEPS, accumulate):
        net.zero_grad()
        for batch in every[start : start + accumulate]:
            with torch.autocast("cpu", kinds.get(precision), enabled=precision in kinds, cache_enabled=False):
                loss = net.loss(batch) / accumulate
            scaler.scale(loss).backward()
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        if clip.get("gradient_clip_algorithm") == "value":
            clip_grad_value_(held, clip["gradient_clip_val"])
        elif clip:
            clip_grad_norm_(held, clip["gradient_clip_val"])
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
    return scaler


CLIPS: dict[str, dict[str, Any]] = {
    "unclipped": {},
    "norm": {"gradient_clip_val": 0.05},
    "value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_steps_as_its_children_do_apart(
    recipe: str, precision: str, clip: str, accumulate: int, trainer: Any
) -> None:
    net, twin = Net(), Net()
    options = {"precision": precision}
    scaler = GradScaler("cpu", 2.0**10, growth_interval=2)
    if precision == "16-mixed":
        options = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
    one = trainer(accumulate_grad_batches=accumulate, **options, **CLIPS[clip])
    one.fit(lo.attach(net, RECIPES[recipe]), loader(STEPS))
    assert isinstance(one.optimizers[0], CompositeOptimizer)
    their = bare(twin, recipe, precision, CLIPS[clip], accumulate, 2.0**10)
    assert same(net, twin)
    assert not same(net, Net())
    assert one.global_step == STEPS / accumulate
    assert precision != "16-mixed" or scaler.get_scale() == their.get_scale() > 2.0**10


def test_a_step_that_overflows_is_skipped_by_every_child(trainer: Any) -> None:
    net = Net()
    scaler = GradScaler("cpu", 2.0**30)
    one = trainer(max_steps=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], gradient_clip_val=1.0)
    one.fit(lo.attach(net, FUSED), loader(STEPS))
    assert same(net, Net())
    assert scaler.get_scale() == 2.0**29
    assert not one.optimizers[0].state


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("recipe", RECIPES)
def test_schedules_follow_the_steps_that_happened(recipe: str, accumulate: int, trainer: Any) -> None:
    """Two steps overflow: the curve goes on from where it was, and ends as much earlier."""

    class Watch(Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[int, float]] = []

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            self.seen.append((trainer.lr_scheduler_configs[0].scheduler.last_epoch, optimizer.param_groups[0]["lr"]))

    watch, scaler = Watch(), GradScaler("cpu", 2.0**21, backoff_factor=2.0**-6)
    schedule = {"lr": {"_target_": "lit_optim.schedules.Linear"}}
    one = trainer(
        max_epochs=1,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
        callbacks=[watch],
        accumulate_grad_batches=accumulate,
    )
    one.fit(lo.attach(Net(), {**RECIPES[recipe], "schedule": schedule}), loader(8 * accumulate))
    scheduler = one.lr_scheduler_configs[0].scheduler
    skipped = one.global_step - scheduler.last_epoch
    assert one.global_step == 8
    assert skipped > 0
    curve = scheduler.plan.curve(one.optimizers[0].param_groups[0]["name"], "lr")
    assert watch.seen == [(taken, curve[taken]) for taken in [0] * skipped + [*range(8 - skipped)]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(recipe: str, trainer: Any, tmp_path: Path) -> None:
    schedule = {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "25%"}}
    config = {**RECIPES[recipe], "schedule": schedule}
    whole, second = Net(), Net(3)
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    one = trainer(max_epochs=2, callbacks=[saver], enable_checkpointing=True)
    one.fit(lo.attach(whole, config), loader(4))
    path = tmp_path / "epoch=0.ckpt"
    again = ModelCheckpoint(tmp_path / "again", save_top_k=-1)
    two = trainer(max_epochs=2, callbacks=[again], enable_checkpointing=True)
    two.fit(lo.attach(second, config), loader(4), ckpt_path=path, weights_only=True)
    assert one.global_step == two.global_step == 8
    assert same(second, whole)


def test_the_learning_rate_monitor_logs_every_group(trainer: Any, tmp_path: Path) -> None:
    monitor = LearningRateMonitor("step", log_momentum=True, log_weight_decay=True)
    logged: dict[str, float] = {}
    schedule = {"lr": {"_target_": "lit_optim.schedules.Linear", "final_factor": 0.0}}
    one = trainer(logger=CSVLogger(tmp_path), callbacks=[monitor], max_steps=4, log_every_n_steps=1)
    one.logger.log_metrics = lambda metrics, step: logged.update(metrics)
    with pytest.warns(RuntimeWarning, match="some optimizers do not have momentum"):  # AdamW, and not by that name
        one.fit(lo.attach(Net(), {**FUSED, "schedule": schedule}), loader(4))
    plan = one.lr_scheduler_configs[0].scheduler.plan
    for name in ("hidden", "default"):
        assert logged[f"lr-CompositeOptimizer/{name}"] == plan.curve(name, "lr")[-1]
        weight_decay = plan.group(name).hyperparameters["weight_decay"]
        assert logged[f"lr-CompositeOptimizer/{name}-weight_decay"] == weight_decay
    assert logged["lr-CompositeOptimizer/hidden-momentum"] == 0.9


def test_averaged_weights_are_those_of_every_step(trainer: Any) -> None:
    class Ema(WeightAveraging):
        def __init__(self) -> None:
            super().__init__(avg_fn=get_ema_avg_fn(0.5))

    net, twin, average = Net(), Net(), Net()
    trainer(callbacks=[Ema()], max_steps=6).fit(lo.attach(net, MUON), loader(6))
    optimizers = apart(twin, "muon")
    for number, batch in enumerate(batches(6)):
        twin.zero_grad()
        twin.loss(batch).backward()
        for optimizer in optimizers:
            optimizer.step()
        for mean, weight in zip(average.parameters(), twin.parameters(), strict=True):
            mean.data.copy_(weight.data if number == 0 else torch.lerp(mean.data, weight.data, 0.5))
    for mean, weight in zip(average.parameters(), net.parameters(), strict=True):  # put in place once training is over
        torch.testing.assert_close(weight, mean, rtol=1e-6, atol=1e-7)
    assert not same(net, twin)


def test_a_checkpoint_of_weights_alone_is_saved(trainer: Any, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, save_weights_only=True, every_n_train_steps=2)
    trainer(callbacks=[saver], enable_checkpointing=True, max_steps=2).fit(lo.attach(Net(), MUON), loader(2))
    assert "optimizer_states" not in torch.load(saver.best_model_path, weights_only=True)
