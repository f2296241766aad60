from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from digitnet import Net
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

import lit_optim as lo
from lit_optim.integration.callbacks.stop_together import StopTogether
from lit_optim.integration.lockstep import Lockstep

SGD = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}


class Settle(Callback):
    """Asks all to stop at a batch's start, by a signal or as the process that watches them does."""

    def __init__(self, lockstep: Lockstep, at: int, by_signal: bool = False) -> None:
        self.lockstep, self.at, self.by_signal = lockstep, at, by_signal
        self.batches = 0

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self.batches += 1
        if self.batches != self.at:
            return
        if self.by_signal:
            signal.raise_signal(signal.SIGTERM)
        else:
            assert self.lockstep.settle()


@pytest.fixture
def lockstep(tmp_path: Path) -> Lockstep:
    return Lockstep.create(tmp_path / "lockstep", 1)


def fit(trainer: Callable[..., Any], loader: Any, callbacks: list[Callback], **more: Any) -> Trainer:
    made: Trainer = trainer(callbacks=callbacks, max_epochs=2, **more)
    made.fit(lo.attach(Net(), SGD), loader)
    return made


@pytest.fixture
def loader() -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(torch.randn(40, 6), torch.zeros(40, dtype=torch.long)), 4)


@pytest.mark.parametrize(
    ("asked_in", "accumulate", "trained"),
    [(3, 1, 3), (3, 2, 4), (10, 1, 11), (9, 3, 9)],
    ids=["at once", "once gradients have made a step", "after the epoch's validation", "where both fit"],
)
def test_it_stops_between_steps_and_in_the_middle_of_an_epoch(
    asked_in: int, accumulate: int, trained: int, lockstep: Lockstep, trainer: Any, loader: Any
) -> None:
    stop, settle = StopTogether(lockstep, 0), Settle(lockstep, asked_in)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SIGTERMException):
        fit(trainer, loader, [settle, stop], accumulate_grad_batches=accumulate)
    assert stop.has_stopped
    assert settle.batches == trained
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_asks_and_does_not_stop(lockstep: Lockstep, trainer: Any, loader: Any) -> None:
    stop = StopTogether(lockstep, 0)
    before = signal.getsignal(signal.SIGTERM)
    fit(trainer, loader, [Settle(lockstep, 3, by_signal=True), stop])
    assert lockstep.asked
    assert not stop.has_stopped
    assert not lockstep.training  # any more
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_epoch_of_one_batch_has_no_other_place_to_stop(lockstep: Lockstep, trainer: Any, loader: Any) -> None:
    stop = StopTogether(lockstep, 0)
    with pytest.raises(SIGTERMException):
        fit(trainer, loader, [Settle(lockstep, 1), stop], limit_train_batches=1)
    assert stop.has_stopped


class Impatient(Callback):
    """A launcher that sends the signal once more, while the run is being saved."""

    reached_lightning = False

    def on_exception(self, trainer: Trainer, *args: Any) -> None:
        trainer._signal_connector.received_sigterm = False
        signal.raise_signal(signal.SIGTERM)
        self.reached_lightning = trainer.received_sigterm


def test_a_further_signal_does_not_reach_lightning(lockstep: Lockstep, trainer: Any, loader: Any) -> None:
    """It would begin a collective operation in the middle of that of a checkpoint."""
    stop, impatient = StopTogether(lockstep, 0), Impatient()
    with pytest.raises(SIGTERMException):
        fit(trainer, loader, [Settle(lockstep, 3), stop, impatient])
    assert not impatient.reached_lightning
