from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging, Timer
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

import lit_optim as lo
from lit_optim.data.loader import TensorLoader
from lit_optim.durations import steps_of
from lit_optim.integration.horizon import _batches_of_one_share, _check_counts, fitting_horizon, planned_horizon

SAMPLES = 22
X = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(0))


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return itertools.cycle(X)


LOADERS = {
    "plain": lambda: DataLoader(TensorDataset(X), batch_size=4),
    "drop_last": lambda: DataLoader(TensorDataset(X), batch_size=4, drop_last=True),
    "in_memory": lambda: TensorLoader((X,), 4, shuffle=True),
    "endless": lambda: DataLoader(Endless(), batch_size=4),
}


class Data(LightningDataModule):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def train_dataloader(self) -> Any:
        return LOADERS[self.kind]()


class Looks(LightningModule):
    """Asks for the horizon where a recipe would, and counts the steps that are then made."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(batch[0] if isinstance(batch, (list, tuple)) else batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.seen = fitting_horizon(self.trainer)
        self.estimated = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.01)


def make_trainer(**settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


GRID = [
    dict(zip(("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches"), values, strict=True))
    for values in itertools.product((1, 3), (-1, 4), (None, 2, 0.5, 1.0), (1, 2, 4))
]


@pytest.mark.parametrize("kind", ["plain", "drop_last", "in_memory"])
def test_planned_and_fitting_agree_with_lightning_and_with_what_happens(kind: str) -> None:
    for settings in GRID:
        planned = planned_horizon(make_trainer(**settings), Data(kind))
        trainer, module = make_trainer(**settings), Looks()
        trainer.fit(module, datamodule=Data(kind))
        assert planned == module.seen, settings
        assert planned.total_steps == module.estimated == trainer.global_step, settings
        assert planned.global_batch == 4 * settings["accumulate_grad_batches"]


@pytest.mark.parametrize(("limit", "per_epoch"), [(None, None), (5, 3), (1.0, None)])
def test_a_stream_without_length_ends_at_max_steps(limit: float | None, per_epoch: int | None) -> None:
    settings: dict[str, Any] = {"max_steps": 7, "limit_train_batches": limit, "accumulate_grad_batches": 2}
    planned = planned_horizon(make_trainer(**settings), Data("endless"))
    trainer, module = make_trainer(**settings), Looks()
    trainer.fit(module, datamodule=Data("endless"))
    assert planned == module.seen == lo.Horizon(7, per_epoch, 8)
    assert module.estimated == trainer.global_step == 7


def test_a_stream_without_length_and_without_max_steps_has_no_end() -> None:
    planned = planned_horizon(make_trainer(max_epochs=2), Data("endless"))
    assert planned.total_steps == -1
    assert planned.steps_per_epoch is None
    assert not planned.is_bounded


def test_epochs_without_end_are_bounded_by_max_steps_alone() -> None:
    assert planned_horizon(make_trainer(max_epochs=-1), Data("plain")) == lo.Horizon(math.inf, 6, 4)
    assert planned_horizon(make_trainer(max_epochs=-1, max_steps=5), Data("plain")) == lo.Horizon(5, 6, 4)


@pytest.mark.parametrize("key", ["max_epochs", "max_steps", "limit_train_batches"])
@pytest.mark.parametrize("fitting", [False, True], ids=["planned", "fitting"])
def test_a_run_of_no_step_is_refused_under_its_key(key: str, fitting: bool) -> None:
    trainer = make_trainer(**{"max_epochs": 1} | {key: 0})
    data = Data("plain")
    if fitting:
        module = Looks()
        trainer.strategy.connect(module)
        trainer._data_connector.attach_data(module, datamodule=data)
    with pytest.raises(lo.PlanError) as refusal:
        fitting_horizon(trainer) if fitting else planned_horizon(trainer, data)
    assert [mistake.key for mistake in refusal.value.mistakes] == [f"trainer.{key}"]
    assert refusal.value.mistakes[0].remedy == f"raise trainer.{key}"


def test_too_little_data_for_one_batch_is_refused() -> None:
    data = Data("plain")
    data.train_dataloader = lambda: DataLoader(TensorDataset(X[:3]), batch_size=4, drop_last=True)  # type: ignore[method-assign]
    with pytest.raises(lo.PlanError, match="not one batch") as refusal:
        planned_horizon(make_trainer(max_epochs=1), data)
    assert [mistake.key for mistake in refusal.value.mistakes] == ["data"]


def test_prepares_the_data_as_a_fit_would() -> None:
    calls: list[str] = []

    class Noting(Data):
        def prepare_data(self) -> None:
            calls.append("prepare_data")

        def setup(self, stage: str) -> None:
            calls.append(f"setup {stage}")

    planned_horizon(make_trainer(max_epochs=1), Noting("plain"))
    assert calls == ["prepare_data", "setup fit"]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 11])
def test_shares_a_plain_loader_out_as_a_distributed_sampler_would(
    world_size: int, batch_size: int, drop_last: bool
) -> None:
    dataset = TensorDataset(X)
    plain = DataLoader(dataset, batch_size=batch_size, drop_last=drop_last)
    sampler = DistributedSampler(dataset, world_size, 0)
    shared = DataLoader(dataset, batch_size=batch_size, drop_last=drop_last, sampler=sampler)
    assert _batches_of_one_share(plain, world_size) == len(shared)
    assert _batches_of_one_share(shared, world_size) == len(shared)  # shared out already


def test_an_in_memory_loader_already_counts_one_ranks_share() -> None:
    assert _batches_of_one_share(TensorLoader((X,), 4, rank=0, world_size=2), 2) == 3


def test_a_callback_that_would_make_the_plan_a_lie_is_refused() -> None:
    averaging = StochasticWeightAveraging(swa_lrs=0.1)
    with pytest.raises(lo.PlanError, match="callbacks: StochasticWeightAveraging replaces the plan's schedules"):
        _check_counts(make_trainer(max_epochs=2, callbacks=[averaging]))


# --- gradient accumulation that changes -------------------------------------------------------------------------------


class Begins(Callback):
    """Notes the step at which each epoch begins."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.steps[trainer.current_epoch] = trainer.global_step


@pytest.mark.parametrize("scheduling", [{0: 1, 1: 2}, {0: 3, 2: 1}, {2: 4}, {0: 2}, {0: 1, 9: 2}, {0: 1, 1: 2, 2: 5}])
def test_each_epoch_has_the_steps_that_its_own_accumulation_leaves(scheduling: dict[int, int]) -> None:
    ends = ({"max_epochs": 3}, {"max_epochs": 4, "max_steps": 9}, {"max_epochs": -1, "max_steps": 17})
    for kind, settings in itertools.product(("plain", "drop_last", "in_memory"), ends):
        begins, module = Begins(), Looks()
        trainer = make_trainer(callbacks=[GradientAccumulationScheduler({**scheduling}), begins], **settings)
        trainer.fit(module, datamodule=Data(kind))
        same = make_trainer(callbacks=[GradientAccumulationScheduler({**scheduling})], **settings)
        assert planned_horizon(same, Data(kind)) == module.seen
        assert module.seen.total_steps == trainer.global_step
        assert {epoch: steps_of(f"{epoch}epochs", module.seen, "k") for epoch in begins.steps} == begins.steps


@pytest.mark.parametrize(
    ("scheduling", "settings", "horizon"),
    [
        ({0: 1, 2: 2}, {"max_epochs": 3}, lo.Horizon(15, 6, None, ((0, 6), (2, 3)))),
        ({0: 1, 2: 2}, {"max_epochs": -1}, lo.Horizon(-1, 6, None, ((0, 6), (2, 3)))),
        ({0: 1, 2: 2}, {"max_epochs": 2}, lo.Horizon(12, 6, 4)),  # the change is after the end
        ({0: 1, 2: 2}, {"max_epochs": 9, "max_steps": 12}, lo.Horizon(12, 6, 4)),
        ({0: 2}, {"max_epochs": 2}, lo.Horizon(6, 3, 8)),
        ({0: 4, 1: 5}, {"max_epochs": 2}, lo.Horizon(4, 2, None)),  # two steps either way, of other batches
    ],
)
def test_the_horizon_of_changing_accumulation(
    scheduling: dict[int, int], settings: dict[str, int], horizon: lo.Horizon
) -> None:
    callback = GradientAccumulationScheduler(scheduling)
    assert planned_horizon(make_trainer(callbacks=[callback], **settings), Data("plain")) == horizon


def test_a_stream_of_one_endless_epoch_has_no_batch_size_of_its_own() -> None:
    callback = GradientAccumulationScheduler({0: 1, 2: 2})
    assert planned_horizon(make_trainer(callbacks=[callback], max_steps=7), Data("endless")) == lo.Horizon(7)


def test_learning_rates_follow_a_batch_that_is_known_and_are_refused_for_others() -> None:
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.25}, "lr_batch_size": 2}
    for kind in ("plain", "in_memory", "endless"):
        trainer = make_trainer(max_steps=2, accumulate_grad_batches=3)
        trainer.fit(lo.attach(Looks(), recipe), datamodule=Data(kind))
        assert trainer.optimizers[0].param_groups[0]["lr"] == 1.5
    changing = make_trainer(max_epochs=3, callbacks=[GradientAccumulationScheduler({0: 1, 1: 2})])
    batches = [X[:3], X[3:5]]  # a list, which has no batch size
    for trainer, data in ((changing, {"datamodule": Data("plain")}), (make_trainer(max_epochs=1), {})):
        with pytest.raises(lo.PlanError, match="lr_batch_size: how large the batches of this run are, nobody knows"):
            trainer.fit(lo.attach(Looks(), recipe), **(data or {"train_dataloaders": batches}))


def test_two_places_that_say_the_accumulation_are_refused() -> None:
    trainer = make_trainer(max_epochs=2, accumulate_grad_batches=2)
    trainer.callbacks.append(GradientAccumulationScheduler({0: 2}))  # type: ignore[attr-defined]
    with pytest.raises(lo.PlanError) as refused:
        planned_horizon(trainer, Data("plain"))
    assert str(refused.value).splitlines() == [
        "trainer.accumulate_grad_batches: a GradientAccumulationScheduler says this as well",
        "    given:   2",
        "    fix:     leave this at 1, or remove the callback",
    ]


# --- what ends a run --------------------------------------------------------------------------------------------------


class Stops(Callback):
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = True


def test_a_run_that_nothing_ends_has_lightnings_thousand_epochs() -> None:
    assert planned_horizon(make_trainer(), Data("plain")) == lo.Horizon(6000, 6, 4)
    trainer, module = make_trainer(callbacks=[Stops()]), Looks()
    with pytest.warns(UserWarning, match="Setting it to 1000 epochs"):
        trainer.fit(module, datamodule=Data("plain"))
    assert module.seen == lo.Horizon(6000, 6, 4)


LR = {"lr": {"_target_": "lit_optim.schedules.WarmupCosine"}}
OF_STEPS = {"lr": {"_target_": "lit_optim.schedules.Linear", "duration": 5}}


def fitted(trainer: Trainer, schedule: Any, kind: str = "plain") -> lo.Plan:
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01}, "schedule": schedule}
    trainer.fit(lo.attach(Looks(), recipe), datamodule=Data(kind))
    plan: lo.Plan = trainer.lr_scheduler_configs[0].scheduler.plan  # type: ignore[assignment, union-attr]
    return plan


ENDLESS = {
    "max_time alone": {"max_time": "00:01:00:00"},
    "max_time and no epochs' end": {"max_time": "00:01:00:00", "max_epochs": -1},
    "no epochs' end": {"max_epochs": -1},
}


@pytest.mark.parametrize("settings", ENDLESS.values(), ids=ENDLESS)
def test_what_depends_on_a_length_that_nobody_knows_is_refused_with_the_way_out(settings: dict[str, Any]) -> None:
    for kind in ("plain", "in_memory", "endless"):
        with pytest.raises(lo.PlanError) as refused:
            fitted(make_trainer(**settings), LR, kind)
        assert str(refused.value).splitlines() == [
            "schedule.lr.warmup: '5%' can't be measured: nobody knows how long the run is",
            "    given:   '5%'",
            "    fix:     set trainer.max_steps (or trainer.max_epochs, if data has a length), beside max_time too",
        ]
        assert planned_horizon(make_trainer(**settings), Data(kind)).total_steps == -1


@pytest.mark.parametrize("settings", ENDLESS.values(), ids=ENDLESS)
def test_what_depends_on_no_length_runs_without_one(settings: dict[str, Any]) -> None:
    trainer = make_trainer(callbacks=[Stops()], **settings)
    plan = fitted(trainer, OF_STEPS)
    assert (plan.horizon, plan.warnings) == (lo.Horizon(-1, 6, 4), ())
    assert trainer.global_step == 1


def test_a_limit_of_time_beside_a_length_is_a_warning() -> None:
    warning = (
        "trainer.max_time: the run may end before its schedules do, at step 12; set trainer.max_steps to what fits "
        "into the time, or take the limit away"
    )
    for settings in ({"max_time": "00:01:00:00"}, {"callbacks": [Timer("00:01:00:00")]}):
        trainer = make_trainer(max_epochs=2, **settings)
        plan = fitted(trainer, LR)
        assert plan.warnings == (warning,)
        assert trainer.global_step == plan.horizon.total_steps == 12
        assert fitted(make_trainer(max_epochs=2, **settings), {}).warnings == ()  # no schedule to be cut short
    unlimited = fitted(make_trainer(max_epochs=2, callbacks=[Timer()]), LR)
    assert unlimited.warnings == ()
    assert unlimited.hash == plan.hash


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"accumulate_grad_batches": 2}, {"scheduling": {0: 1, 1: 2}}, {"max_steps": 5}])
def test_several_devices_share_the_batches_out(tmp_path: Path, settings: dict[str, Any]) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_horizon import *
settings = {settings!r}
callbacks = [GradientAccumulationScheduler(settings.pop("scheduling"))] if "scheduling" in settings else []
settings = {{"max_epochs": 3, "strategy": "ddp_fork", "devices": 2, "callbacks": callbacks, **settings}}
trainer, module = make_trainer(**settings), Looks()
print(planned_horizon(make_trainer(**settings), Data("plain")), flush=True)


class Tells(Callback):
    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            print(pl_module.seen, trainer.global_step, sep=chr(10), flush=True)


trainer.callbacks.append(Tells())
trainer.fit(module, datamodule=Data("plain"))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    planned, seen, steps = [line for line in ran.stdout.splitlines() if line.startswith("Horizon") or line.isdigit()]
    assert planned == seen
    assert f"total_steps={steps}," in seen


@pytest.mark.slow
def test_learning_rates_follow_the_batch_of_all_processes(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_horizon import *


class Tells(Callback):
    def on_train_start(self, trainer, pl_module):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        sys.stdout.write(f"rate {{rate}};")  # in one piece: two processes write


trainer = make_trainer(max_epochs=1, strategy="ddp_fork", devices=2, accumulate_grad_batches=3, callbacks=[Tells()])
recipe = {{"optimizer": {{"_target_": "torch.optim.SGD", "lr": 0.25}}, "lr_batch_size": 12}}
trainer.fit(lo.attach(Looks(), recipe), datamodule=Data("plain"))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert re.findall(r"rate [\d.]+", ran.stdout) == ["rate 0.5"] * 2
