"""Modules and a data set as Lightning's and a much-used template's own pages write them, for `contestants.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import Accuracy

__all__ = ["LR", "Plain", "Samples", "Silent", "Template", "optimizer_of"]

LR, WEIGHT_DECAY = 1e-3, 0.1  # of conf/optimizer/adamw.yaml


def optimizer_of(network: nn.Module) -> torch.optim.AdamW:
    """Fused AdamW in two param groups: vectors don't decay."""
    matrices = [one for one in network.parameters() if one.ndim > 1]
    vectors = [one for one in network.parameters() if one.ndim <= 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, LR, weight_decay=WEIGHT_DECAY, fused=True)


class Silent(LightningModule):
    """Logs nothing."""

    def __init__(self, network: nn.Module, factors: Sequence[float]) -> None:
        super().__init__()
        self.net = network
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """See the class."""
        x, y = batch
        return cross_entropy(self(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """See the class."""
        x, y = batch
        logits = self(x)
        return {"val/loss": cross_entropy(logits, y), "val/acc": (logits.argmax(1) == y).float().mean()}

    def configure_optimizers(self) -> Any:
        """See the class."""
        optimizer = optimizer_of(self)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factors[step])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Plain(Silent):
    """Logs the loss of every step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """See the class."""
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """See the class."""
        seen = super().validation_step(batch, batch_idx)
        self.log_dict(seen)
        return seen


class Template(Silent):
    """A module in the shape of lightning-hydra-template's: metrics as modules, updated and logged in every step."""

    def __init__(self, network: nn.Module, factors: Sequence[float]) -> None:
        super().__init__(network, factors)
        self.criterion = nn.CrossEntropyLoss()
        self.train_acc = Accuracy(task="multiclass", num_classes=10)
        self.val_acc = Accuracy(task="multiclass", num_classes=10)
        self.train_loss, self.val_loss, self.val_acc_best = MeanMetric(), MeanMetric(), MaxMetric()

    def _step(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        x, y = batch
        logits = self(x)
        return self.criterion(logits, y), torch.argmax(logits, dim=1), y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """See the class."""
        loss, predicted, y = self._step(batch)
        self.train_loss(loss)
        self.train_acc(predicted, y)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """See the class."""
        loss, predicted, y = self._step(batch)
        self.val_loss(loss)
        self.val_acc(predicted, y)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        """See the class."""
        self.val_acc_best(self.val_acc.compute())
        self.log("val/acc_best", self.val_acc_best.compute(), sync_dist=True, prog_bar=True)


class Samples(Dataset[tuple[Tensor, int]]):
    """Digits as torchvision's MNIST gives them with ToTensor and Normalize: a picture is made of each when asked."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.pictures = (x.squeeze(1) * 255).round().to(torch.uint8)
        self.labels = y

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pictures[index].numpy(), mode=None)
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(28, 28, 1)
        sample = pixels.permute(2, 0, 1).contiguous().to(torch.get_default_dtype()).div(255)
        mean, deviation = torch.as_tensor((0.1307,)), torch.as_tensor((0.3081,))
        return sample.sub_(mean.view(-1, 1, 1)).div_(deviation.view(-1, 1, 1)), int(self.labels[index])
