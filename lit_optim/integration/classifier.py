"""Any network as a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from lit_optim.errors import ConfigError, Mistake
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
        self.val_acc = MulticlassAccuracy(num_classes=None, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes=None, average="micro")

    def configure_model(self) -> None:
        """Under FSDP2, share the parameters out over the devices, once for fit and test; otherwise nothing.

        Raises:
            ConfigError: A mesh with tensor parallelism, which no network has by itself.
        """
        if self.device_mesh is None:
            return
        from torch.distributed.fsdp import FSDPModule, fully_shard

        tensor_parallel = self.device_mesh["tensor_parallel"].size()
        if tensor_parallel > 1:  # each of these devices would train a network of its own
            remedy = "use trainer=fsdp, or set trainer.strategy.tensor_parallel_size=1"
            problem = "this module shares out data and parameters, and can't split a layer"
            key = "trainer.strategy.tensor_parallel_size"
            raise ConfigError(Mistake(key, problem, given=str(tensor_parallel), remedy=remedy))
        if not isinstance(self.net, FSDPModule):
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

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
        self._evaluate(batch, "val", self.val_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log ``test/loss`` and ``test/acc``."""
        self._evaluate(batch, "test", self.test_acc)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The most likely class of each sample, (batch,)."""
        x, _ = batch
        return torch.argmax(self.net(x), dim=-1)

    def _evaluate(self, batch: Batch, stage: str, accuracy: MulticlassAccuracy) -> None:
        x, y = batch
        logits = self.net(x)
        accuracy.update(logits, y)
        self.log(
            f"{stage}/loss", cross_entropy(logits, y), on_step=False, on_epoch=True, batch_size=len(y), sync_dist=True
        )
        self.log(f"{stage}/acc", accuracy, on_step=False, on_epoch=True, batch_size=len(y), prog_bar=stage == "val")
