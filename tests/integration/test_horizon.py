from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

import lit_optim as lo
from lit_optim.data.loader import TensorLoader
from lit_optim.integration.horizon import _batches_of_one_rank, _check_counts, fitting_horizon, planned_horizon

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
    assert _batches_of_one_rank(plain, world_size) == len(shared)
    assert _batches_of_one_rank(shared, world_size) == len(shared)  # shared out already


def test_an_in_memory_loader_already_counts_one_ranks_share() -> None:
    assert _batches_of_one_rank(TensorLoader((X,), 4, rank=0, world_size=2), 2) == 3


@pytest.mark.parametrize(
    ("callback", "told"),
    [
        (
            GradientAccumulationScheduler({0: 1, 1: 4}),
            "callbacks: GradientAccumulationScheduler changes what a step is",
        ),
        (StochasticWeightAveraging(swa_lrs=0.1), "callbacks: StochasticWeightAveraging replaces the plan's schedules"),
    ],
)
def test_callbacks_that_would_make_the_plan_a_lie_are_refused(callback: Callback, told: str) -> None:
    trainer = Trainer(accelerator="cpu", max_epochs=2, logger=False, callbacks=[callback], enable_checkpointing=False)
    with pytest.raises(lo.PlanError, match=told):
        _check_counts(trainer)


def test_one_accumulation_for_the_whole_run_is_fine() -> None:
    same = GradientAccumulationScheduler({0: 2})
    _check_counts(Trainer(accelerator="cpu", max_epochs=2, logger=False, callbacks=[same], enable_checkpointing=False))
