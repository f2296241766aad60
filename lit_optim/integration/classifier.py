"""Any network as a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from lit_optim.integration.module import RecipeLike, RecipeModule

__all__ = ["LitClassifier"]

Batch = tuple[Tensor, Tensor]


class LitClassifier(RecipeModule):
    """A network trained with cross-entropy; loss and accuracy of validation and test, an epoch at a time.

    The training loss of every step is returned, not logged: `lit_optim.callbacks.Recorder` writes it without the cost
    of ``self.log``.

    Args:
        net: Maps a batch of samples to logits of shape (batch, classes).
        recipe: A `Recipe`, or what `Recipe.from_config` reads.

    Logs:
        ``val/loss``, ``val/acc``, ``test/loss``, ``test/acc``: means over all samples of all devices.

    Attributes:
        logged: The names of these; a module that says so has its callbacks' monitors checked before training.
    """

    logged = ("val/loss", "val/acc", "test/loss", "test/acc")

    def __init__(self, net: nn.Module, recipe: RecipeLike) -> None:
        super().__init__(recipe)
        self.net = net
        self.val_loss, self.test_loss = (MeanMetric(nan_strategy="disable") for _ in range(2))  # a NaN is told
        self.val_acc = MulticlassAccuracy(num_classes=None, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes=None, average="micro")

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean cross-entropy of a batch."""
        x, y = batch
        return cross_entropy(self.net(x), y)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log ``val/loss`` and ``val/acc``."""
        self._evaluate(batch, "val", self.val_loss, self.val_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log ``test/loss`` and ``test/acc``."""
        self._evaluate(batch, "test", self.test_loss, self.test_acc)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The most likely class of each sample, (batch,)."""
        x, _ = batch
        return torch.argmax(self.net(x), dim=-1)

    def _evaluate(self, batch: Batch, stage: str, loss: MeanMetric, accuracy: MulticlassAccuracy) -> None:
        x, y = batch
        logits = self.net(x)
        loss.update(cross_entropy(logits, y, reduction="none"))  # `sync_dist` would round the ranks' mean count down
        accuracy.update(logits, y)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        self.log(f"{stage}/acc", accuracy, on_step=False, on_epoch=True, batch_size=len(y), prog_bar=stage == "val")
