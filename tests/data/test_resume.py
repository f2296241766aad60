"""A run that was interrupted sees, after it is resumed, the batches that the uninterrupted run saw: real Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lit_optim.data import InMemoryDataModule, Splits
from lit_optim.errors import DataError

SAMPLES, BATCH, EPOCHS = 11, 3, 3  # 4 batches an epoch, the last of 2
BATCHES = 4

# Lightning 2.6.6 builds torch's LeafSpec, which torch deprecated in 2.13; nothing of ours calls it.
pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")

Seen = list[tuple[int, list[int]]]


class Numbers(InMemoryDataModule):
    """Sample i is the number i, so that a batch shows what is in it."""

    in_dim = 1
    out_dim = 2

    def load(self) -> Splits:
        numbers = torch.arange(float(SAMPLES)).unsqueeze(1)
        pair = numbers, torch.zeros(SAMPLES, dtype=torch.int64)
        return Splits(pair, pair, pair)


class Watcher(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: Seen = []
        self.validated: list[int] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch[0].flatten().int().tolist()))
        return self.weight * batch[0].mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.validated += batch[0].flatten().int().tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveEverywhere(Callback):
    """A checkpoint at every hook where ModelCheckpoint may save; ``saved`` maps each to the batches seen before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: dict[Path, int] = {}

    def _save(self, trainer: Trainer, module: LightningModule, hook: str) -> None:
        path = self.folder / f"{hook}-{len(module.seen)}.ckpt"
        self.saved[path] = len(module.seen)
        trainer.save_checkpoint(path)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._save(trainer, pl_module, "batch")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._save(trainer, pl_module, "validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module, "epoch")


def fit(*callbacks: Callback, resume: Path | None = None, batch: int = BATCH, **options: Any) -> Watcher:
    torch.manual_seed(1 if resume is None else 2)  # the order may not hang on it
    module = Watcher()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        **{"max_epochs": EPOCHS, **options},
    )
    data = Numbers(batch_size=batch, eval_batch_size=4, seed=7)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
    return module


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="validation"),
        pytest.param({"limit_val_batches": 0}, id="no-validation"),
        pytest.param({"accumulate_grad_batches": 2}, id="accumulation"),
        pytest.param({"limit_train_batches": 3}, id="part-of-an-epoch"),
        pytest.param({"max_epochs": -1, "max_steps": 10}, id="steps"),
        pytest.param({"val_check_interval": 2}, id="validation-within-epochs"),
        pytest.param({"overfit_batches": 2}, id="overfit"),
    ],
)
def test_every_checkpoint_continues_the_uninterrupted_order(tmp_path: Path, options: dict[str, Any]) -> None:
    save = SaveEverywhere(tmp_path)
    whole = fit(save, **options).seen
    assert len(whole) > BATCHES
    resumed = {path.name: fit(resume=path, **options).seen for path in save.saved}
    assert resumed == {path.name: whole[count:] for path, count in save.saved.items()}


def test_epochs_differ_and_each_has_every_sample_once() -> None:
    seen = fit().seen
    epochs = [[number for epoch, batch in seen if epoch == wanted for number in batch] for wanted in range(EPOCHS)]
    assert all(sorted(epoch) == list(range(SAMPLES)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == EPOCHS


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")  # it is that run's
def test_a_checkpoint_of_model_checkpoint_in_mid_epoch(tmp_path: Path) -> None:
    def every_sixth() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=6, save_top_k=-1)

    whole = fit(every_sixth()).seen
    resumed = fit(every_sixth(), resume=tmp_path / "step=6.ckpt")
    assert resumed.seen == whole[6:]
    assert resumed.validated == list(range(SAMPLES)) * 2


def test_two_resumes_in_one_run(tmp_path: Path) -> None:
    """Of max_steps, from an epoch's end: where Lightning then counts one epoch too many for the rest of the run."""
    options = {"max_epochs": -1, "max_steps": 11}
    whole = fit(**options).seen
    first, second = tmp_path / "1", tmp_path / "2"
    fit(SaveEverywhere(first), **options)
    save = SaveEverywhere(second)
    fit(save, resume=first / "epoch-4.ckpt", **options)
    for path, count in save.saved.items():
        assert fit(resume=path, **options).seen == whole[BATCHES + count :], path.name


def test_overfitting_keeps_to_the_same_batches() -> None:
    assert [batch for _, batch in fit(overfit_batches=2).seen] == [[0, 1, 2], [3, 4, 5]] * EPOCHS


def test_another_batch_size_is_refused_in_mid_epoch(tmp_path: Path) -> None:
    fit(SaveEverywhere(tmp_path), max_epochs=1)
    with pytest.raises(
        DataError, match=r"data.batch_size: the checkpoint stands at batch 3 of an epoch that now has 2"
    ):
        fit(resume=tmp_path / "batch-3.ckpt", batch=6)
