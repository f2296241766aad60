"""scikit-learn's digits: 1,797 images of 8 × 8, for tests and quick looks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lit_optim.data.module import InMemoryDataModule, Splits, as_pair, missing_extra
from lit_optim.data.split import stratified_split

__all__ = ["Digits"]


class Digits(InMemoryDataModule):
    """Handwritten digits (Alpaydin and Kaynak, https://doi.org/10.24432/C50P49), split 1,437 / 180 / 180.

    They are read from scikit-learn's file without importing it, which would take longer than a first run of them.
    """

    in_dim = 64
    out_dim = 10

    def load(self) -> Splits:
        """The three splits, ``x`` of shape (N, 1, 8, 8).

        Raises:
            DataError: scikit-learn is not installed.
        """
        package = find_spec("sklearn")
        if package is None or package.origin is None:
            raise missing_extra("Digits", "scikit-learn", "digits", ModuleNotFoundError("No module named 'sklearn'"))
        table = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
        images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(int)
        parts = stratified_split(labels, (1437, 180, 180))
        return Splits(*(as_pair(images[part], labels[part], peak=16) for part in parts))
