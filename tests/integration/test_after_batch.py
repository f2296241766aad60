"""A run that was killed between a batch and the validation that follows it ends as one that nobody killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import Batch, Evaluated, batches
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from nested import identical
from torch import Tensor
from torch.nn.functional import dropout
from torch.utils.data import DataLoader, TensorDataset

import lit_optim as lo
from lit_optim.data.loader import TensorLoader

BATCHES = 4
PLATEAU = {"_target_": "lit_optim.schedules.Plateau", "monitor": "val/loss", "patience": 0, "threshold": 0.5}
RECIPE = {
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
    "schedule": {"lr": PLATEAU},
}


class Noisy(Evaluated):
    """Draws in every step, notes what happens, and logs a metric at each epoch's end."""

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[Any] = []

    def loss(self, batch: Batch) -> Tensor:
        return super().loss((dropout(batch[0], 0.3), batch[1]))

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.happened.append(("validated", self.trainer.global_step, batch_idx))
        return super().validation_step(batch, batch_idx)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.happened.append((self.current_epoch, batch_idx, self.optimizers().param_groups[0]["lr"]))  # type: ignore[union-attr]

    def on_train_epoch_start(self) -> None:
        self.happened.append(("begins", self.current_epoch))

    def on_train_epoch_end(self) -> None:
        self.happened.append(("ends", self.current_epoch))
        self.log("norm", sum(one.norm() for one in self.parameters()))


class SaveAfterEachBatch(Callback):
    """``saved``: of each checkpoint, all that had happened by then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: dict[Path, int] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        path = self.folder / f"batch{len(self.saved)}.ckpt"
        self.saved[path] = len(pl_module.happened)
        trainer.save_checkpoint(path)


def plain() -> DataLoader[Any]:
    x, y = (torch.cat(parts) for parts in zip(*batches(BATCHES), strict=True))
    return DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)


def in_memory() -> TensorLoader:
    return TensorLoader([torch.cat(parts) for parts in zip(*batches(BATCHES), strict=True)], 8, shuffle=True, seed=3)


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(batches(BATCHES))


def stream() -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=None)


def fit(
    trainer: Callable[..., Trainer], folder: Path, loader: Any, resume: Path | None = None, **options: Any
) -> tuple[Noisy, Trainer, Any]:
    torch.manual_seed(1 if resume is None else 2)
    recipe = options.pop("recipe", RECIPE)
    net = lo.attach(Noisy(), recipe)
    monitor = recipe["schedule"]["lr"]["monitor"]
    at_end = monitor == "norm"
    again = {"enable_version_counter": False}
    best = ModelCheckpoint(folder, "best-{epoch}-{step}", monitor=monitor, save_on_train_epoch_end=at_end, **again)
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, **again)
    savers = [*options.pop("callbacks", ()), best, last]
    made = trainer(**{"max_epochs": 3, "callbacks": savers, "enable_checkpointing": True, **options})
    made.fit(net, loader, DataLoader(batches(2, seed=5), batch_size=None), ckpt_path=resume, weights_only=True)  # type: ignore[arg-type]
    content = torch.load(folder / "last.ckpt", weights_only=True)
    kept = [content[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step")]
    return net, made, (kept, Path(best.best_model_path).name, best.best_model_score)  # type: ignore[return-value]


OWN = {**RECIPE, "schedule": {"lr": {**PLATEAU, "monitor": "norm"}}}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    ("loader", "options"),
    [
        pytest.param(plain, {}, id="plain"),
        pytest.param(in_memory, {}, id="in-memory"),
        pytest.param(stream, {}, id="stream"),
        pytest.param(plain, {"val_check_interval": 2}, id="within-epochs"),
        pytest.param(in_memory, {"check_val_every_n_epoch": 2, "max_epochs": 5}, id="every-second-epoch"),
        pytest.param(plain, {"check_val_every_n_epoch": None, "val_check_interval": 3}, id="every-third-batch"),
        pytest.param(plain, {"limit_val_batches": 0, "recipe": OWN}, id="no-validation"),
        pytest.param(plain, {"accumulate_grad_batches": 3}, id="accumulation"),
        pytest.param(in_memory, {"limit_train_batches": 3}, id="part-of-an-epoch"),
        pytest.param(in_memory, {"max_epochs": -1, "max_steps": 11, "num_sanity_val_steps": 2}, id="steps"),
    ],
)
def test_every_batch_goes_on_as_if_nothing_had_happened(
    trainer: Callable[..., Trainer], tmp_path: Path, loader: Callable[[], Any], options: dict[str, Any]
) -> None:
    saver = SaveAfterEachBatch(tmp_path)
    whole, ran, left = fit(trainer, tmp_path, loader(), callbacks=[saver], **options)
    assert len({one[-1] for one in whole.happened if isinstance(one[-1], float)}) > 1
    window = options.get("accumulate_grad_batches", 1)
    for number, (path, before) in enumerate(saver.saved.items()):
        if (number % BATCHES + 1) % window and (number + 1) % BATCHES:
            continue  # gradients that wait for their step are in no checkpoint
        if "max_steps" in options and number == options["max_steps"] - 1:
            continue  # the last step is the end of such a run, whatever was to follow
        net, made, also_left = fit(trainer, tmp_path, loader(), path, **options)
        assert net.happened == whole.happened[before:]
        assert identical(dict(net.state_dict()), dict(whole.state_dict()))
        assert identical(also_left, left)
        assert made.current_epoch == ran.current_epoch


class SaveAfterEachValidation(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: dict[Path, int] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        path = self.folder / f"validation{len(self.saved)}.ckpt"
        self.saved[path] = len(pl_module.happened)
        trainer.save_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("options", [{}, {"val_check_interval": 2}], ids=["epoch", "within-epochs"])
def test_what_a_validation_ends_with_goes_on_in_the_same_order(
    trainer: Callable[..., Trainer], tmp_path: Path, options: dict[str, Any]
) -> None:
    saver = SaveAfterEachValidation(tmp_path)
    whole, _, _ = fit(trainer, tmp_path, plain(), callbacks=[saver], **options)
    assert len(saver.saved) >= 3
    for path, before in saver.saved.items():
        net, _, _ = fit(trainer, tmp_path, plain(), path, **options)
        assert net.happened == whole.happened[before:]
        assert identical(dict(net.state_dict()), dict(whole.state_dict()))
