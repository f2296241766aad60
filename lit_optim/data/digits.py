"""scikit-learn's digits: 1,797 images of 8 × 8, for tests and quick looks."""

from __future__ import annotations

from lit_optim.data.module import InMemoryDataModule, Splits, as_pair, missing_extra
from lit_optim.data.split import stratified_split

__all__ = ["Digits"]


class Digits(InMemoryDataModule):
    """Handwritten digits (Alpaydin and Kaynak, https://doi.org/10.24432/C50P49), split 1,437 / 180 / 180."""

    in_dim = 64
    out_dim = 10

    def load(self) -> Splits:
        """The three splits, ``x`` of shape (N, 1, 8, 8).

        Raises:
            DataError: scikit-learn is not installed.
        """
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise missing_extra("Digits", "scikit-learn", "digits", error) from error
        digits = load_digits()
        parts = stratified_split(digits.target, (1437, 180, 180))
        return Splits(*(as_pair(digits.images[part], digits.target[part], peak=16) for part in parts))
