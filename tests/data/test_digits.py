from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lit_optim.data.digits import Digits
from lit_optim.data.split import stratified_split
from lit_optim.errors import DataError


def test_three_splits_with_the_shares_of_the_whole() -> None:
    data = Digits()
    data.setup()
    splits = (data.splits.train, data.splits.val, data.splits.test)
    whole = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    for (x, y), count in zip(splits, (1437, 180, 180), strict=True):
        assert x.shape == (count, 1, 8, 8)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert (x.min(), x.max()) == (0, 1)
        assert x[0].numel() == data.in_dim
        assert y.dtype == torch.int64
        assert np.abs(y.bincount().numpy() - whole * count / 1797).max() <= 1.5
    assert sum(y.bincount() for _, y in splits).tolist() == whole.tolist()  # type: ignore[union-attr]


def test_the_digits_are_those_of_scikit_learn() -> None:
    whole, splits = load_digits(), Digits().load()
    parts = stratified_split(whole.target, (1437, 180, 180))
    for part, (x, y) in zip(parts, (splits.train, splits.val, splits.test), strict=True):
        assert torch.equal(x[:, 0] * 16, torch.from_numpy(whole.images[part]).float())
        assert torch.equal(y, torch.from_numpy(whole.target[part]))


def test_without_scikit_learn_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match="Digits comes with scikit-learn") as refusal:
        Digits().setup()
    assert str(refusal.value).endswith('    fix:     pip install "lit-optim[digits]"')
