from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from forked import Server
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer, Rprop

from lit_optim.errors import ConfigError
from lit_optim.integration.callbacks import Recorder
from lit_optim.integration.callbacks import recorder as recorder_module
from lit_optim.integration.group_names import group_names
from lit_optim.integration.tensorboard import RunLogger

# Lightning 2.6 asks for LeafSpec whenever it looks into loaders; torch 2.13 has deprecated it
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")

EPOCHS, BATCHES = 2, 7
DATA = torch.randn(BATCHES, 4, 3, generator=torch.Generator().manual_seed(0))


class Batches:
    """A loader: Lightning takes a plain list for several loaders."""

    def __len__(self) -> int:
        return len(DATA)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(DATA.unbind())


def layer() -> torch.nn.Linear:
    torch.manual_seed(1)
    return torch.nn.Linear(3, 1)


def two_groups(layer: torch.nn.Linear) -> Optimizer:
    groups = [{"params": [layer.weight], "name": "weights"}, {"params": [layer.bias], "lr": 0.2, "momentum": 0.5}]
    return SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)


def falling(optimizer: Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


class Tiny(LightningModule):
    def __init__(self, make: Callable[[torch.nn.Linear], Optimizer] = two_groups, scheduled: bool = True) -> None:
        super().__init__()
        self.layer = layer()
        self.make, self.scheduled = make, scheduled

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = self.make(self.layer)
        if not self.scheduled:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling(optimizer), "interval": "step"}}


class Validated(Tiny):
    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch).square().mean(), batch_size=len(batch))


def plain_loop(make: Callable[[torch.nn.Linear], Optimizer], accumulate: int = 1) -> list[dict[str, float]]:
    """The same training by hand: what each step saw, read where it happens."""
    model = layer()
    optimizer = make(model)
    scheduler = falling(optimizer)
    rows = []
    for _ in range(EPOCHS):
        for start in range(0, BATCHES, accumulate):
            window = DATA[start : start + accumulate]
            optimizer.zero_grad()
            losses = []
            for batch in window:
                loss = model(batch).square().mean()
                (loss / accumulate).backward()
                losses.append(loss.item())
            row = {"train/loss": sum(losses) / len(losses)}
            for name, group in zip(group_names([optimizer]), optimizer.param_groups, strict=True):
                row[f"lr/{name}"] = float(group["lr"])
                row[f"weight_decay/{name}"] = group["weight_decay"]
                row[f"momentum/{name}"] = group["momentum"] if "momentum" in group else group["betas"][0]
            rows.append(row)
            optimizer.step()
            scheduler.step()
    return rows


def trainer(logger: Any, *callbacks: Callback, **options: Any) -> Trainer:
    defaults = {
        "max_epochs": EPOCHS,
        "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "accelerator": "cpu",
    }
    return Trainer(logger=logger, callbacks=list(callbacks), **{**defaults, **options})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def as_written(rows: list[dict[str, float]]) -> dict[str, list[tuple[int, float]]]:
    return {tag: [(step, float(np.float32(row[tag]))) for step, row in enumerate(rows)] for tag in rows[0]}


def adam(model: torch.nn.Linear) -> Optimizer:
    return Adam(model.parameters(), lr=0.1, betas=(0.8, 0.99))


def adam_with_tensor_lr(model: torch.nn.Linear) -> Optimizer:  # the scheduler writes into this one tensor
    return Adam(model.parameters(), lr=torch.tensor(0.1), foreach=False)


class Listening(Logger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    name = version = "listening"

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


@pytest.mark.parametrize("make", [two_groups, adam, adam_with_tensor_lr])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_step_is_there_once_with_the_values_of_a_plain_loop(
    make: Callable[[torch.nn.Linear], Optimizer], accumulate: int, tmp_path: Path
) -> None:
    fitting = trainer(RunLogger(tmp_path), Recorder(flush_every=4), accumulate_grad_batches=accumulate)
    fitting.fit(Tiny(make), Batches())
    expected = plain_loop(make, accumulate)
    assert len(expected) == {1: 14, 2: 8}[accumulate]
    assert scalars(tmp_path) == as_written(expected)


def test_the_division_by_three_micro_batches_is_undone(tmp_path: Path) -> None:
    trainer(RunLogger(tmp_path), Recorder(), accumulate_grad_batches=3).fit(Tiny(), Batches())
    expected = as_written(plain_loop(two_groups, 3))["train/loss"]
    recorded = scalars(tmp_path)["train/loss"]
    assert [step for step, _ in recorded] == list(range(6))
    np.testing.assert_allclose([v for _, v in recorded], [v for _, v in expected], rtol=1e-6)  # x/3*3 rounds


def test_a_hyperparameter_that_the_optimizer_lacks_has_no_curve(tmp_path: Path) -> None:
    trainer(RunLogger(tmp_path), Recorder()).fit(Tiny(lambda model: Rprop(model.parameters())), Batches())
    assert set(scalars(tmp_path)) == {"train/loss", "lr/group0"}


def test_an_optimizer_that_repeats_its_closure_has_one_row_a_step(tmp_path: Path) -> None:
    module = Tiny(lambda model: torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4))
    trainer(RunLogger(tmp_path), Recorder()).fit(module, Batches())
    assert [step for step, _ in scalars(tmp_path)["lr/group0"]] == list(range(EPOCHS * BATCHES))


def test_rows_are_brought_out_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    monkeypatch.setattr(recorder_module, "log_rows", lambda loggers, rows: batches.append(len(rows)))
    trainer(RunLogger(tmp_path), Recorder(flush_every=4)).fit(Tiny(), Batches())
    assert batches == [4, 3] * EPOCHS, "every 4 steps, and what is left at the end of an epoch"


def test_a_tensor_lr_stays_on_its_device_until_rows_are_written(tmp_path: Path) -> None:
    recorder, lrs = Recorder(), []

    class Looking(Callback):
        def on_before_optimizer_step(self, *_: Any) -> None:
            assert recorder._open is not None
            lrs.append(recorder._open.values[0])

    trainer(RunLogger(tmp_path), recorder, Looking()).fit(Tiny(adam_with_tensor_lr), Batches())
    assert {type(lr) for lr in lrs} == {Tensor}


def test_a_strategy_that_accumulates_inside_its_step_has_one_row_a_real_step() -> None:
    recorder = Recorder()
    logger = Listening()
    optimizer = two_groups(layer())
    strategy = SimpleNamespace(loggers=[logger], is_global_zero=True, optimizers=[optimizer], world_size=1)
    strategy.global_step, strategy.accumulate_grad_batches = 0, 2
    recorder.on_train_start(strategy, None)  # type: ignore[arg-type]
    for batch_idx in range(4):
        recorder.on_before_optimizer_step(strategy, None, optimizer)  # type: ignore[arg-type]
        strategy.global_step += batch_idx % 2
        recorder.on_train_batch_end(strategy, None, {"loss": torch.tensor(batch_idx / 2)}, None, batch_idx)  # type: ignore[arg-type]
    recorder.on_train_end(strategy, None)  # type: ignore[arg-type]
    assert [(step, row["train/loss"]) for step, row in logger.rows] == [(0, 0.5), (1, 2.5)]


def test_rows_carry_the_time_of_their_step_not_of_their_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000, 2000))
    monkeypatch.setattr(recorder_module.time, "time", lambda: float(next(ticks)))
    rows: list[Any] = []
    monkeypatch.setattr(recorder_module, "log_rows", lambda loggers, written: rows.extend(written))
    trainer(RunLogger(tmp_path), Recorder()).fit(Tiny(), Batches())
    times = [row.wall_time for row in rows]
    assert len(set(times)) == EPOCHS * BATCHES
    assert times == sorted(times)


class Breaking(Tiny):
    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        if batch_idx == 5:
            raise ArithmeticError("boom")
        return super().training_step(batch, batch_idx)


def test_an_exception_leaves_all_steps_before_it_on_disk(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError, match="boom"):
        trainer(RunLogger(tmp_path), Recorder()).fit(Breaking(), Batches())
    assert scalars(tmp_path) == as_written(plain_loop(two_groups)[:5])


def test_a_failing_disk_does_not_hide_the_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(recorder_module, "log_rows", full)
    with pytest.raises(ArithmeticError, match="boom"):
        trainer(RunLogger(tmp_path), Recorder()).fit(Breaking(), Batches())
    assert "the last recorded steps could not be written" in caplog.text


def test_what_is_saved_in_a_checkpoint_has_its_rows_on_disk(tmp_path: Path) -> None:
    seen: list[int] = []

    class Looking(Tiny):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            assert checkpoint["global_step"] == len(scalars(tmp_path)["train/loss"])
            seen.append(checkpoint["global_step"])

    # the checkpoint's callback stands first in the list; Lightning moves it to the end
    every_three = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=3, save_top_k=-1)
    trainer(RunLogger(tmp_path), every_three, Recorder()).fit(Looking(scheduled=False), Batches())
    assert seen == [3, 6, 9, 12]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")  # it did
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # nothing is saved the second time
def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path / "checkpoints", filename="last", every_n_train_steps=3)
    logger = RunLogger(tmp_path)
    with pytest.raises(ArithmeticError, match="boom"):  # two steps after the checkpoint, and those are written too
        trainer(logger, Recorder(), saving).fit(Breaking(scheduled=False), Batches())
    logger.close()
    assert len(scalars(tmp_path)["train/loss"]) == 5
    continued = RunLogger(tmp_path)
    fitting = trainer(continued, Recorder())
    fitting.fit(
        Tiny(scheduled=False), Batches(), ckpt_path=str(tmp_path / "checkpoints" / "last.ckpt"), weights_only=True
    )
    continued.close()
    recorded = scalars(tmp_path)
    assert fitting.global_step > BATCHES
    for tag in ("train/loss", "lr/weights"):
        assert [step for step, _ in recorded[tag]] == list(range(fitting.global_step))


def test_validation_and_test_add_no_steps(tmp_path: Path) -> None:
    fitting = trainer(RunLogger(tmp_path), Recorder(), val_check_interval=3)
    module = Validated()
    fitting.fit(module, Batches(), Batches())
    fitting.validate(module, Batches(), verbose=False)
    recorded = scalars(tmp_path)
    assert len(recorded.pop("val/loss")) == 2 * EPOCHS + 1
    assert recorded == as_written(plain_loop(two_groups))


def test_without_a_logger_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("nothing is to be read")

    monkeypatch.setattr(recorder_module, "batch_loss", never)
    monkeypatch.setattr(Recorder, "_read", never)
    trainer(False, Recorder()).fit(Tiny(), Batches())


def test_other_loggers_hear_the_same_rows(tmp_path: Path) -> None:
    listening = Listening()
    trainer([listening, RunLogger(tmp_path)], Recorder(flush_every=5)).fit(Tiny(), Batches())
    expected = plain_loop(two_groups)
    assert listening.rows == list(enumerate(expected))
    assert scalars(tmp_path) == as_written(expected)


def test_a_group_added_while_training_gets_its_curves(tmp_path: Path) -> None:
    class Unfreezing(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 1:
                group = {"params": [torch.nn.Parameter(torch.zeros(1))], "name": "late", "lr": 0.5}
                trainer.optimizers[0].add_param_group(group)

    trainer(RunLogger(tmp_path), Recorder(), Unfreezing()).fit(Tiny(scheduled=False), Batches())
    recorded = scalars(tmp_path)
    assert recorded["lr/late"] == [(step, 0.5) for step in range(BATCHES, 2 * BATCHES)]
    assert len(recorded["lr/weights"]) == 2 * BATCHES


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")  # on purpose
def test_a_step_without_a_loss_still_has_its_hyperparameters(tmp_path: Path) -> None:
    class Skipping(Tiny):
        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            return (
                None if batch_idx == 2 else super().training_step(batch, batch_idx) * (np.nan if batch_idx > 4 else 1)
            )

    trainer(RunLogger(tmp_path), Recorder(), max_epochs=1).fit(Skipping(), Batches())
    recorded = scalars(tmp_path)
    assert [step for step, _ in recorded["lr/weights"]] == list(range(BATCHES))
    assert [step for step, _ in recorded["train/loss"]] == [0, 1, 3, 4, 5, 6]
    assert np.isnan([value for _, value in recorded["train/loss"]]).tolist() == [False] * 4 + [True] * 2


def test_manual_optimization_has_a_row_for_each_batch_that_stepped(tmp_path: Path) -> None:
    class Manual(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            if batch_idx % 2:
                for optimizer in self.optimizers():  # type: ignore[union-attr]
                    optimizer.step()
                    optimizer.zero_grad()
            return {"loss": loss}

        def configure_optimizers(self) -> Any:
            return [SGD([self.layer.weight], lr=0.1), SGD([self.layer.bias], lr=0.2)]

    trainer(RunLogger(tmp_path), Recorder(), max_epochs=1).fit(Manual(), Batches())
    recorded = scalars(tmp_path)
    assert [step for step, _ in recorded["train/loss"]] == [0, 2, 4], "global_step counts both optimizers"
    first, second = (layer()(DATA[batch]).square().mean().item() for batch in (0, 1))
    assert recorded["train/loss"][0][1] == np.float32((first + second) / 2), "the batches since the last step"
    assert {tag for tag in recorded if tag.startswith("lr/")} == {"lr/optimizer0.group0", "lr/optimizer1.group0"}


def test_a_recorder_that_never_writes_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        Recorder(flush_every=0)
    assert str(refusal.value) == (
        "flush_every: a recorder has to write at some time\n"
        "    given:   0\n"
        "    fix:     give a number of optimizer steps, 1 or more; 500 is the default"
    )


@pytest.mark.parametrize("seconds", [-1, math.nan, "soon", True])
def test_what_is_no_time_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigError, match="flush_seconds: this is no time"):
        Recorder(flush_seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "processes", "written"),
    [(0.0, 1, [1, 2, 3, 4, 5, 6, 7]), (0.0, 2, [0] * 7), (3600.0, 1, [0] * 7), (None, 1, [0] * 7)],
)
def test_slow_steps_are_written_before_there_are_many(
    seconds: float | None, processes: int, written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "world_size", processes)

    class Reading(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append(len(listening.rows))

    seen: list[int] = []
    listening = Listening()
    trainer(listening, Recorder(flush_seconds=seconds), Reading(), max_epochs=1).fit(Tiny(), Batches())
    assert seen == written
    assert len(listening.rows) == BATCHES, "the rest at the end"


TWO_RANKS = """
import json, pathlib, sys, warnings
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lit_optim.integration.callbacks import Recorder
from lit_optim.integration.tensorboard import RunLogger

folder = pathlib.Path(sys.argv[1])

class Batches:
    def __len__(self): return 7
    def __iter__(self): return iter(torch.arange(1.0, 8.0).reshape(7, 1, 1))

class Tiny(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.losses = torch.nn.Linear(1, 1), []
    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).square().mean() * (1 + 2 * self.global_rank)
        self.losses.append(loss.item())
        return loss
    def validation_step(self, batch, batch_idx): pass
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.01)
    def on_train_end(self): (folder / f"rank{self.global_rank}.json").write_text(json.dumps(self.losses))

if __name__ == "__main__":
    torch.manual_seed(0)
    trainer = Trainer(
        strategy="ddp_fork", devices=2, accelerator="cpu", max_epochs=2, logger=RunLogger(folder / "run"),
        callbacks=[Recorder(flush_every=3), ModelCheckpoint(folder, every_n_train_steps=5)],
        accumulate_grad_batches=2, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )
    trainer.fit(Tiny(), Batches(), Batches())
"""


@pytest.mark.slow
def test_the_loss_of_two_ranks_is_their_mean(forked: Server, tmp_path: Path) -> None:
    forked.run("-c", TWO_RANKS, str(tmp_path), cwd=tmp_path).check_returncode()
    ranks = np.array([json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)])
    assert ranks.shape == (2, 14)
    assert not np.allclose(ranks[0], ranks[1])
    means = ranks.mean(axis=0)
    windows = [means[start : start + 2].mean() if start % 7 != 6 else means[start] for start in (0, 2, 4, 6)]
    windows += [means[start : start + 2].mean() if start != 13 else means[start] for start in (7, 9, 11, 13)]
    recorded = scalars(tmp_path / "run")["train/loss"]
    assert [step for step, _ in recorded] == list(range(8))
    np.testing.assert_allclose([value for _, value in recorded], windows, rtol=1e-6)
    assert len([path for path in (tmp_path / "run").iterdir() if "tfevents" in path.name]) == 1
