from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer

from lit_optim.integration.standing import EPOCHS, STEPS, TIME, Standing, shares_done


def trainer(**said: Any) -> Any:
    plain = {"num_training_batches": 10, "max_epochs": 5, "max_steps": -1, "global_step": 7, "callbacks": [Callback()]}
    return SimpleNamespace(**(plain | said))


class Half(Timer):
    """Of whose time a quarter has gone."""

    def time_elapsed(self, stage: str = "train") -> float:
        return 15.0

    def time_remaining(self, stage: str = "train") -> float | None:
        return None if self._duration is None else 45.0


@pytest.mark.parametrize(
    ("said", "shares"),
    [
        ({}, {EPOCHS: 0.5}),
        ({"max_epochs": -1}, {}),
        ({"max_epochs": None}, {}),
        ({"max_steps": 14}, {EPOCHS: 0.5, STEPS: 0.5}),
        ({"max_epochs": -1, "max_steps": 5}, {STEPS: 1.0}),
        ({"num_training_batches": math.inf}, {}),
        ({"callbacks": [Half("00:00:01:00")], "max_epochs": -1}, {TIME: 0.25}),
        ({"callbacks": [Half()], "max_epochs": -1}, {}),
    ],
)
def test_how_much_is_done_of_each_end(said: dict[str, Any], shares: dict[str, float]) -> None:
    assert shares_done(trainer(**said), epoch=2, batches=5) == shares


def test_a_stream_is_taken_to_be_as_long_as_before_but_no_epoch_counts_twice() -> None:
    stream = trainer(num_training_batches=math.inf)
    assert shares_done(stream, epoch=2, batches=5, epoch_length=10) == {EPOCHS: 0.5}
    assert shares_done(stream, epoch=2, batches=15, epoch_length=10) == {EPOCHS: pytest.approx(0.6)}


def test_learning_rates_stay_what_they_were_when_they_were_kept() -> None:
    groups = [{"lr": torch.tensor(0.5)}, {"lr": 0.25}, {"lr": None}, {}]
    optimizer = SimpleNamespace(param_groups=groups)
    fit = trainer(optimizers=[optimizer], current_epoch=0, checkpoint_callbacks=[])
    standing = Standing(fit)
    standing.keep_lrs(fit)
    groups[0]["lr"].fill_(0.125)  # type: ignore[union-attr]
    assert [field.text.rstrip() for field in standing.fields(fit, {})][1] == "lr 0.25…0.5"


def test_a_value_that_is_not_finite_is_shown_and_is_never_the_best() -> None:
    saver = SimpleNamespace(monitor="val/loss", mode="min", best_model_score=None)
    fit = trainer(optimizers=[], current_epoch=0, checkpoint_callbacks=[SimpleNamespace(), saver])
    standing = Standing(fit)
    for value in (3.0, math.nan, -math.inf):
        standing.see({"val/loss": torch.tensor(value), "val/acc": torch.tensor(0.5)})
    assert [field.text for field in standing.fields(fit, {"val/loss": 0.1})][1:3] == ["val/loss -inf", "best 3"]


def test_a_loss_that_the_module_logs_as_well_is_shown_once() -> None:
    fit = trainer(optimizers=[], current_epoch=0, checkpoint_callbacks=[], accumulate_grad_batches=2)
    standing = Standing(fit)
    standing.loss = torch.tensor(0.654)  # which Lightning has divided
    logged = {"train/loss": 1.308, "train/loss_epoch": 1.5, "train/acc": 1.308}
    texts = [field.text.rstrip() for field in standing.fields(fit, logged)][1:]
    assert texts[:3] == ["loss 1.31", "train/loss_epoch 1.5", "train/acc 1.308"]
    assert "train/loss 1.308" in [field.text for field in standing.fields(fit, logged, busy="validating")]
