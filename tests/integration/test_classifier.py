from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy

import lit_optim as lo
from lit_optim.models import MLP

RECIPE: dict[str, Any] = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
DRAWS = torch.Generator().manual_seed(3)
X, Y = torch.randn(23, 2, 3, generator=DRAWS), torch.randint(0, 4, (23,), generator=DRAWS)


class Batches:
    """A loader: Lightning takes a plain list for several loaders."""

    def __init__(self, size: int) -> None:
        self.parts = list(zip(X.split(size), Y.split(size), strict=True))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.parts)


@pytest.fixture
def module() -> lo.LitClassifier:
    torch.manual_seed(0)
    return lo.LitClassifier(MLP(6, (5,), 4), RECIPE)


@pytest.fixture
def trainer() -> Trainer:
    return Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 5, 8, 23])  # 5 and 8 leave an uneven last batch
@pytest.mark.parametrize("stage", ["val", "test"])
def test_loss_and_accuracy_are_means_over_all_samples(
    module: lo.LitClassifier, trainer: Trainer, stage: str, size: int
) -> None:
    evaluate = trainer.validate if stage == "val" else trainer.test
    [metrics] = evaluate(module, Batches(size), verbose=False)
    with torch.no_grad():
        logits = module.net(X)
    hits = sum(int(row.argmax()) == int(label) for row, label in zip(logits, Y, strict=True))
    assert metrics.keys() == {f"{stage}/loss", f"{stage}/acc"}
    assert metrics[f"{stage}/acc"] == pytest.approx(hits / 23)
    assert 0 < hits < 23
    assert metrics[f"{stage}/loss"] == pytest.approx(cross_entropy(logits, Y).item(), rel=1e-6)


def test_a_loss_that_is_no_number_is_told(module: lo.LitClassifier, trainer: Trainer) -> None:
    torch.nn.init.constant_(module.net.layer[0].weight, torch.nan)
    [metrics] = trainer.validate(module, Batches(8), verbose=False)
    assert math.isnan(metrics["val/loss"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_loss_is_summed_in_single_precision_at_least(module: lo.LitClassifier, dtype: torch.dtype) -> None:
    module.to(dtype)  # as lightning does for `precision=bf16-true`
    for _ in range(700):
        module.val_loss.update(torch.tensor(4.125, dtype=dtype), 100)
    assert module.val_loss.compute() == 4.125
    assert module.val_loss.samples == 70_000


def test_a_second_evaluation_starts_from_nothing(module: lo.LitClassifier, trainer: Trainer) -> None:
    assert trainer.validate(module, Batches(8), verbose=False) == trainer.validate(module, Batches(8), verbose=False)


def test_training_returns_the_mean_loss_of_the_batch_and_logs_nothing(
    module: lo.LitClassifier, trainer: Trainer
) -> None:
    with torch.no_grad():
        loss = module.training_step((X[:5], Y[:5]), 0)
        assert loss.item() == pytest.approx(cross_entropy(module.net(X[:5]), Y[:5]).item())
    trainer.limit_val_batches = 0
    trainer.fit(module, Batches(8), Batches(8))
    assert trainer.callback_metrics == {}


def test_predicts_the_most_likely_class_of_each_sample(module: lo.LitClassifier, trainer: Trainer) -> None:
    predicted = trainer.predict(module, Batches(8))
    assert [len(part) for part in predicted] == [8, 8, 7]
    with torch.no_grad():
        assert torch.equal(torch.cat(predicted), module(X).argmax(dim=1))


def test_forward_gives_logits(module: lo.LitClassifier) -> None:
    assert module(X).shape == (23, 4)
    assert torch.equal(module(X), module.net(X))
    assert (module(X) < 0).any()
    assert not torch.allclose(module(X).exp().sum(dim=1), torch.ones(23))


def test_its_metrics_add_nothing_to_train_or_to_save(module: lo.LitClassifier) -> None:
    names = {f"net.{name}" for name in module.net.state_dict()}
    assert set(module.state_dict()) == names == {name for name, _ in module.named_parameters()}
