"""Any network as a classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import Metric
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
        self.val_loss, self.test_loss = (_MeanOverSamples() for _ in range(2))
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

    def _evaluate(self, batch: Batch, stage: str, loss: _MeanOverSamples, accuracy: MulticlassAccuracy) -> None:
        x, y = batch
        logits = self.net(x)
        loss.update(cross_entropy(logits, y), len(y))
        accuracy.update(logits, y)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        self.log(f"{stage}/acc", accuracy, on_step=False, on_epoch=True, batch_size=len(y), prog_bar=stage == "val")


class _MeanOverSamples(Metric):
    """The mean over the samples of all batches and ranks, of each batch's mean.

    ``self.log(sync_dist=True)`` rounds the mean number of samples of a rank down to a whole one (lightning 2.6), and
    torchmetrics' MeanMetric takes out what is NaN or, told not to, forgets the weights (1.9).
    """

    total: Tensor
    samples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros(()), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        def at_least_single(tensor: Tensor) -> Tensor:  # half precision counts to 2,048
            moved = fn(tensor)
            return moved.to(torch.promote_types(moved.dtype, torch.float32))

        return super()._apply(at_least_single, exclude_state)

    def update(self, mean: Tensor, samples: int) -> None:
        self.total += mean.to(self.total.dtype) * samples
        self.samples += samples

    def compute(self) -> Tensor:
        return self.total / self.samples
