"""MNIST and Fashion-MNIST, on files of the same form that are written here."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_optim.data import mnist
from lit_optim.data.mnist import MNIST, FashionMNIST, IdxDataModule
from lit_optim.errors import DataError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FASHION_BEGINS = (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)
EITHER = pytest.mark.parametrize("kind", [MNIST, FashionMNIST])


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def arrays() -> dict[str, np.ndarray]:
    """120 training and 20 test samples; the first two pixels of an image tell its number."""
    made = {}
    for images, labels, count in ((*NAMES[:2], 120), (*NAMES[2:], 20)):
        made[images] = np.full((count, 28, 28), 255, np.uint8)
        made[images][:, 0, 0] = np.arange(count)
        made[labels] = (np.arange(count) % 10).astype(np.uint8)
    return made


def write(folder: Path, packed: bool = True, **changed: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in {**arrays(), **{name.replace("_", "-"): array for name, array in changed.items()}}.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(idx(array), 1) if packed else idx(array))
    return folder


def refusal_of(root: Any, kind: type[IdxDataModule] = MNIST) -> str:
    with pytest.raises(DataError) as refusal:
        kind(root=root).setup()
    assert [mistake.key for mistake in refusal.value.mistakes] == ["data.root"]
    return str(refusal.value)


@EITHER
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("laid_out", [True, False])
def test_files_that_are_there_are_read(
    tmp_path: Path, kind: type[IdxDataModule], packed: bool, laid_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)  # is imported for a download only
    write(tmp_path / kind.folder if laid_out else tmp_path, packed)
    data = kind(root=str(tmp_path))
    data.prepare_data()
    data.setup()
    assert [len(split[1]) for split in (data.splits.train, data.splits.val, data.splits.test)] == [110, 10, 20]
    for x, y in (data.splits.train, data.splits.val, data.splits.test):
        assert x.shape == (len(y), 1, 28, 28)
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert y.dtype == torch.int64
        assert x.max() == 1
        numbers = (x[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(numbers % 10, y)  # each image kept its label
    val_numbers = (data.splits.val[0][:, 0, 0, 0] * 255).round().long().tolist()
    train_numbers = (data.splits.train[0][:, 0, 0, 0] * 255).round().long().tolist()
    assert sorted(val_numbers + train_numbers) == list(range(120))
    assert data.splits.val[1].bincount().tolist() == [1] * 10


def test_the_validation_split_does_not_hang_on_the_seed(tmp_path: Path) -> None:
    write(tmp_path)
    one, other = MNIST(root=tmp_path, seed=0), MNIST(root=tmp_path, seed=1)
    assert torch.equal(one.splits.val[0], other.splits.val[0])


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "data")
    MNIST(root="~/data").setup()


def test_without_a_root_it_is_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    write(tmp_path / "lit-optim" / MNIST.folder)
    MNIST().setup()


@pytest.mark.parametrize("step", ["prepare_data", "setup"])
def test_a_root_that_does_not_exist_is_refused_and_not_made(tmp_path: Path, step: str) -> None:
    with pytest.raises(DataError) as refusal:
        getattr(MNIST(root=tmp_path / "mnits"), step)()
    assert str(refusal.value) == (
        "data.root: no such folder\n"
        f"    given:   {tmp_path / 'mnits'}\n"
        "    fix:     create it to have the data downloaded into it, or point data.root to the files' folder"
    )
    assert list(tmp_path.iterdir()) == []


@EITHER
def test_absent_files_alone_are_downloaded(
    tmp_path: Path, kind: type[IdxDataModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    (tmp_path / f"{NAMES[2]}.gz").unlink()
    calls = []
    monkeypatch.setattr(mnist, "download", lambda *arguments: calls.append(arguments))
    kind(root=tmp_path).prepare_data()
    assert calls == [(f"{NAMES[2]}.gz", kind.md5[NAMES[2]], kind.mirrors, tmp_path / kind.folder)]


def test_loading_without_the_files_says_where_they_were_looked_for(tmp_path: Path) -> None:
    message = refusal_of(tmp_path)
    assert f"neither {tmp_path} nor {tmp_path / 'MNIST/raw'} holds {NAMES[0]} or {NAMES[0]}.gz" in message


def test_the_checksums_are_four_for_each() -> None:
    assert set(MNIST.md5) == set(FashionMNIST.md5) == set(NAMES)
    assert len({*MNIST.md5.values(), *FashionMNIST.md5.values()}) == 8
    assert all(mirror.endswith("/") for mirror in MNIST.mirrors + FashionMNIST.mirrors)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"train_images_idx3_ubyte": np.zeros(120, np.uint8)}, "shape (120,); expected one of shape (N, 28, 28)"),
        ({"train_images_idx3_ubyte": np.zeros((120, 32, 32), np.uint8)}, "shape (120, 32, 32); expected one of shape"),
        (
            {"t10k_labels_idx1_ubyte": np.zeros((20, 28, 28), np.uint8)},
            "shape (20, 28, 28); expected one of shape (N,)",
        ),
        (
            {"train_labels_idx1_ubyte": np.zeros(100, np.uint8)},
            "train-labels-idx1-ubyte.gz is one of 100 labels; expected as many as the 120 images",
        ),
        (
            {
                "train_images_idx3_ubyte": np.zeros((0, 28, 28), np.uint8),
                "train_labels_idx1_ubyte": np.zeros(0, np.uint8),
            },
            "is one of 0 labels; expected as many as the 0 images, at least one",
        ),
        (
            {"t10k_labels_idx1_ubyte": np.full(20, 10, np.uint8)},
            "t10k-labels-idx1-ubyte.gz is one with the label 10; expected labels from 0 to 9",
        ),
    ],
    ids=["labels-for-images", "size", "images-for-labels", "count", "none", "label"],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, np.ndarray], problem: str) -> None:
    write(tmp_path, **changed)
    assert problem in refusal_of(tmp_path)


def test_the_other_data_set_under_the_same_names_is_refused(tmp_path: Path) -> None:
    labels = np.resize(np.array(FASHION_BEGINS, np.uint8), 20)
    write(tmp_path, t10k_labels_idx1_ubyte=labels)
    assert "the files there are those of FashionMNIST, not of MNIST" in refusal_of(tmp_path)

    class Mine(FashionMNIST):
        pass

    Mine(root=tmp_path).setup()
