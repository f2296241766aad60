from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn

import lit_optim as lo
from lit_optim.data.loader import TensorLoader
from lit_optim.integration.callbacks.accumulation import AccumulateByEpoch

BATCHES = 6


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean()


class Notes(Callback):
    """Notes the step after each batch; saves and stops once ``save_at`` batches are over."""

    def __init__(self, path: Path | None = None, save_at: int = -1) -> None:
        self.steps: list[int] = []
        self.path, self.save_at = path, save_at

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.steps.append(trainer.global_step)
        if len(self.steps) == self.save_at and self.path is not None:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def fit(trainer: Callable[..., Trainer], notes: Notes, **settings: Any) -> Trainer:
    accumulating = GradientAccumulationScheduler({0: 3, 2: 2})
    torch.manual_seed(0)
    made = trainer(max_epochs=3, callbacks=[accumulating, notes])
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01}}
    made.fit(lo.attach(Net(), recipe), TensorLoader((torch.ones(4 * BATCHES, 3),), 4), **settings)
    return made


@pytest.mark.parametrize("save_at", [1, 3, 4, 6, 8, 13, 15])
def test_a_run_that_resumes_within_an_epoch_accumulates_as_it_did(
    trainer: Callable[..., Trainer], tmp_path: Path, save_at: int
) -> None:
    whole, rest = Notes(), Notes()
    assert fit(trainer, whole).global_step == 7
    fit(trainer, Notes(tmp_path / "some.ckpt", save_at))
    resumed = fit(trainer, rest, ckpt_path=tmp_path / "some.ckpt", weights_only=True)
    assert rest.steps == whole.steps[save_at:]
    assert resumed.lr_scheduler_configs[0].scheduler.plan.horizon.total_steps == 7  # type: ignore[union-attr]


def test_there_is_one_where_there_is_something_to_follow(trainer: Callable[..., Trainer]) -> None:
    made = fit(trainer, Notes())
    assert sum(isinstance(one, AccumulateByEpoch) for one in made.callbacks) == 1  # type: ignore[attr-defined]
    plain = trainer()
    recipe = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01}}
    plain.fit(lo.attach(Net(), recipe), TensorLoader((torch.ones(8, 3),), 4))
    assert not any(isinstance(one, AccumulateByEpoch) for one in plain.callbacks)  # type: ignore[attr-defined]
