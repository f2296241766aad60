from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lit_optim as lo
from lit_optim.data.loader import TensorLoader
from lit_optim.integration.callbacks.metrics import ShowMetrics
from lit_optim.names import dotted_name
from lit_optim.scheduler import PlanScheduler
from lit_optim.schedules.plateau import Plateau

BATCHES = 4
DATA = (torch.ones(4 * BATCHES, 3),)


class Net(LightningModule):
    """Logs the numbers that it is given, one a validation (or a training epoch), under the name that it is given."""

    def __init__(self, values: list[float], name: str = "val/loss", where: str = "validation_step") -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.values, self.name, self.where = values, name, where
        self.logged_so_far = 0

    def note(self, where: str) -> None:
        if where == self.where and self.values:
            self.log(self.name, torch.tensor(self.values[0]), on_step=where == "training_step", on_epoch=True)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.note("training_step")
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.note("validation_step")

    def on_validation_epoch_end(self) -> None:
        self.note("on_validation_epoch_end")
        if self.where.startswith(("validation", "on_validation")) and not self.trainer.sanity_checking:
            self.values = self.values[1:]

    def on_train_epoch_end(self) -> None:
        self.note("on_train_epoch_end")
        if self.where in ("training_step", "on_train_epoch_end"):
            self.values = self.values[1:]


class Looks(Callback):
    """Notes what the scheduler is shown, and the lr of each step; looks at the metrics itself, as others do."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, float]] = []
        self.rates: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scheduler: Any = trainer.lr_scheduler_configs[0].scheduler
        see = scheduler.see

        def noted(metrics: dict[str, float]) -> None:
            self.shown += [(trainer.global_step, round(value, 3)) for value in metrics.values()]
            see(metrics)

        scheduler.see = noted

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.rates.append(round(trainer.optimizers[0].param_groups[0]["lr"], 9))

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.callback_metrics.get("val/loss")

    on_train_batch_end = on_train_epoch_end = on_validation_end


def recipe(monitor: str = "val/loss", **more: Any) -> dict[str, Any]:
    node = {"_target_": dotted_name(Plateau), "monitor": monitor, "patience": 0, **more}
    return {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}, "schedule": {"lr": node}}


def fit(trainer: Callable[..., Trainer], net: Net, written: Any = None, ckpt: Any = None, **settings: Any) -> Looks:
    looks = Looks()
    torch.manual_seed(0)
    callbacks = [looks, *settings.pop("callbacks", ())]
    made = trainer(**{"max_epochs": 4, "callbacks": callbacks, **settings})
    module = lo.attach(net, written or recipe(net.name))
    loader = TensorLoader(DATA, 4)
    made.fit(module, loader, DataLoader(DATA[0], batch_size=8), ckpt_path=ckpt, weights_only=True)
    return looks


@pytest.mark.parametrize("where", ["validation_step", "on_validation_epoch_end", "training_step", "on_train_epoch_end"])
def test_each_value_is_shown_once_wherever_it_is_logged(trainer: Callable[..., Trainer], where: str) -> None:
    looks = fit(trainer, Net([3.0, 2.0, 2.5, 1.0], where=where))
    assert looks.shown == [(4, 3.0), (8, 2.0), (12, 2.5), (16, 1.0)]
    assert looks.rates == [0.1] * 12 + [0.01] * 4


def test_a_stale_value_is_not_shown(trainer: Callable[..., Trainer]) -> None:
    looks = fit(trainer, Net([3.0, 4.0, 5.0]), max_epochs=6, check_val_every_n_epoch=2)
    assert looks.shown == [(8, 3.0), (16, 4.0), (24, 5.0)]
    assert looks.rates == [0.1] * 16 + [0.01] * 8


def test_validations_inside_an_epoch_count_each(trainer: Callable[..., Trainer]) -> None:
    looks = fit(trainer, Net([3.0, 4.0, 5.0, 6.0]), max_epochs=2, val_check_interval=2)
    assert looks.shown == [(2, 3.0), (4, 4.0), (6, 5.0), (8, 6.0)]
    assert looks.rates == [0.1] * 4 + [0.01] * 2 + [0.001] * 2


def test_a_training_metric_waits_for_the_end_of_its_epoch(trainer: Callable[..., Trainer]) -> None:
    looks = fit(trainer, Net([3.0, 4.0], "train/loss", "training_step"), max_epochs=2, val_check_interval=1)
    assert looks.shown == [(4, 3.0), (8, 4.0)]


def test_a_value_that_is_logged_now_and_then_is_shown_when_it_is(trainer: Callable[..., Trainer]) -> None:
    class Seldom(Net):
        def note(self, where: str) -> None:
            if self.values and self.values[0] > 0:
                super().note(where)

    looks = fit(trainer, Seldom([3.0, -1.0, 4.0, -1.0]))
    assert looks.shown == [(4, 3.0), (12, 4.0)]


def test_the_sanity_check_is_no_look(trainer: Callable[..., Trainer]) -> None:
    class Always(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/loss", 9.0 if self.trainer.sanity_checking else self.values[0])

    looks = fit(trainer, Always([3.0, 4.0]), max_epochs=2, num_sanity_val_steps=2)
    assert looks.shown == [(4, 3.0), (8, 4.0)]


def test_of_several_loaders_each_has_its_name(trainer: Callable[..., Trainer]) -> None:
    class Two(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val/loss", self.values[0] + dataloader_idx)

        def val_dataloader(self) -> Any:
            return [DataLoader(DATA[0], batch_size=8)] * 2

    looks = Looks()
    net = lo.attach(Two([3.0, 4.0]), recipe("val/loss/dataloader_idx_1"))
    trainer(max_epochs=2, callbacks=[looks], num_sanity_val_steps=0).fit(net, TensorLoader(DATA, 4))
    assert looks.shown == [(4, 4.0), (8, 5.0)]


@pytest.mark.parametrize("monitor", ["val/los", "train/loss"])
def test_a_metric_that_never_comes_ends_the_run_after_the_first_epoch(
    trainer: Callable[..., Trainer], monitor: str
) -> None:
    net = Net([3.0] * 4)
    with pytest.raises(lo.PlanError) as refused:
        fit(trainer, net, recipe(monitor))
    assert str(refused.value).splitlines() == [
        "schedule.lr.monitor: it was never logged",
        f"    given:   {monitor!r}",
        "    allowed: val/loss",
        "    nearest: val/loss",
        "    fix:     monitor what the module logs",
    ]
    assert len(net.values) == 3


def test_it_is_said_after_the_last_epoch_too_and_without_a_validation(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(lo.PlanError, match="it was never logged"):
        fit(trainer, Net([3.0]), recipe("val/other"), max_epochs=1)
    with pytest.raises(lo.PlanError, match="it was never logged"):
        fit(trainer, Net([3.0]), limit_val_batches=0)


def test_while_there_was_no_validation_nothing_is_missing(trainer: Callable[..., Trainer]) -> None:
    looks = fit(trainer, Net([3.0, 4.0]), max_epochs=3, check_val_every_n_epoch=3)
    assert looks.shown == [(12, 3.0)]


@pytest.mark.parametrize("where", ["validation_step", "on_train_epoch_end"])
@pytest.mark.parametrize("saved_after", [0, 1, 2])
def test_a_resumed_run_goes_on_as_it_would_have(
    trainer: Callable[..., Trainer], tmp_path: Path, where: str, saved_after: int
) -> None:
    def saver(name: str) -> dict[str, Any]:
        every = ModelCheckpoint(tmp_path / name, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
        return {"callbacks": [every], "enable_checkpointing": True}

    values = [3.0, 4.0, 5.0, 2.0]
    whole = fit(trainer, Net(values, where=where), **saver("whole"))
    ckpt = tmp_path / "whole" / f"epoch={saved_after}.ckpt"
    rest = fit(trainer, Net(values[saved_after + 1 :], where=where), ckpt=ckpt, **saver("rest"))
    done = BATCHES * (saved_after + 1)
    assert rest.rates == whole.rates[done:]
    assert rest.shown == whole.shown[saved_after + 1 :]
    assert whole.rates == [0.1] * 8 + [0.01] * 4 + [0.001] * 4


TWO_RANKS = """
import json, pathlib, sys, torch
import lit_optim as lo
from lightning.pytorch import LightningModule, Trainer

folder, recipe = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])

class Tiny(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.rates = torch.nn.Linear(1, 1), []
    def training_step(self, batch, batch_idx):
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return self.layer(batch).square().mean()
    def validation_step(self, batch, batch_idx):
        if self.current_epoch != 2 or self.global_rank == 0:  # one epoch in which rank zero alone has a value
            falling = 1.0 / (1 + self.current_epoch)
            value = falling if self.global_rank == 1 else 1.0
            self.log("val/loss", value)
    def on_train_end(self): (folder / f"rank{self.global_rank}.json").write_text(json.dumps(self.rates))

if __name__ == "__main__":
    data = torch.utils.data.DataLoader(torch.ones(2, 1))
    trainer = Trainer(
        strategy="ddp_fork", devices=2, accelerator="cpu", max_epochs=4, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )
    trainer.fit(lo.attach(Tiny(), recipe), data, data)
"""


@pytest.mark.slow
def test_every_process_sees_the_values_of_the_first(tmp_path: Path) -> None:
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS)
    subprocess.run(
        [sys.executable, str(script), str(tmp_path), json.dumps(recipe())], check=True, timeout=100, capture_output=True
    )
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1] == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_a_validation_by_itself_is_no_look(trainer: Callable[..., Trainer]) -> None:
    net = lo.attach(Net([3.0, 4.0, 5.0]), recipe())
    made = trainer(max_epochs=1)
    made.fit(net, TensorLoader(DATA, 4), DataLoader(DATA[0], batch_size=8))
    scheduler = made.lr_scheduler_configs[0].scheduler
    assert isinstance(scheduler, PlanScheduler)
    before = scheduler.state_dict()
    made.validate(net, DataLoader(DATA[0], batch_size=8), verbose=False)
    assert made.callback_metrics["val/loss"] == 4.0
    assert scheduler.state_dict() == before


def test_another_fit_of_the_trainer_has_another_callback(trainer: Callable[..., Trainer]) -> None:
    made = trainer(max_epochs=1)
    for values in ([3.0, 4.0], [5.0, 6.0]):
        made.fit(lo.attach(Net(values), recipe()), TensorLoader(DATA, 4), DataLoader(DATA[0], batch_size=8))
        callbacks: list[Callback] = made.callbacks  # type: ignore[attr-defined]
        assert [type(one) for one in callbacks].count(ShowMetrics) == 1
    plain = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
    made.fit(lo.attach(Net([1.0]), plain), TensorLoader(DATA, 4), DataLoader(DATA[0], batch_size=8))
    assert not any(isinstance(one, ShowMetrics) for one in callbacks)
