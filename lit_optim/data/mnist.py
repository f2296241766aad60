"""MNIST and Fashion-MNIST from their four IDX files, which are downloaded where they are absent."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lit_optim.data.download import download
from lit_optim.data.idx import read_idx, unfit_file
from lit_optim.data.module import InMemoryDataModule, Splits, as_pair
from lit_optim.data.split import stratified_split
from lit_optim.errors import DataError, Mistake

__all__ = ["MNIST", "FashionMNIST", "IdxDataModule"]

_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FIRST_TEST_LABELS = {  # their files have the same names and sizes
    "MNIST": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
    "FashionMNIST": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
}


class IdxDataModule(InMemoryDataModule):
    """28 × 28 images of ten classes in four IDX files, gzipped or not.

    One twelfth of the training file, 5,000 of 60,000, is the validation split: stratified, and the same for every seed.
    The test file is the test split. Files that are there are used as they are, after a check of their structure.

    Args:
        root: The folder that holds the files, or holds ``<name>/raw`` as torchvision lays it out, where absent files
            are downloaded to; ``~`` is expanded. None for the user's cache folder.
        batch_size: See :class:`InMemoryDataModule`.
        eval_batch_size: See :class:`InMemoryDataModule`.
        seed: See :class:`InMemoryDataModule`.
    """

    in_dim = 784
    out_dim = 10
    folder: ClassVar[str]
    mirrors: ClassVar[tuple[str, ...]]
    md5: ClassVar[Mapping[str, str]]
    """Of the gzipped files, by their names without ``.gz``."""

    def __init__(
        self,
        root: str | PathLike[str] | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, seed)
        self.root = root

    def prepare_data(self) -> None:
        """Download the files that are absent.

        Raises:
            DataError: The root given doesn't exist or can't be written, or no mirror gave a file.
        """
        root = self._root()
        for name in (*_TRAIN, *_TEST):
            if self._find(root, name) is None:
                download(f"{name}.gz", self.md5[name], self.mirrors, root / self.folder)

    def load(self) -> Splits:
        """The 55,000, 5,000 and 10,000 samples, ``x`` of shape (N, 1, 28, 28).

        Raises:
            DataError: A file is absent, damaged, or holds something else.
        """
        images, labels = self._read(*_TRAIN)
        test_images, test_labels = self._read(*_TEST)
        self._refuse_namesake(test_labels)
        if np.array_equal(images, test_images):
            raise unfit_file(self._path(_TEST[0]), "a copy of the training images", "images kept for the test")
        validation = len(labels) // 12
        train, val = stratified_split(labels, (len(labels) - validation, validation))
        return Splits(
            train=as_pair(images[train], labels[train], peak=255),
            val=as_pair(images[val], labels[val], peak=255),
            test=as_pair(test_images, test_labels, peak=255),
        )

    def _root(self) -> Path:
        if self.root is None:
            import pooch

            return Path(pooch.os_cache("lit-optim"))
        if not isinstance(self.root, (str, PathLike)):
            raise DataError(
                Mistake("data.root", "the path of a folder is needed", repr(self.root), remedy="correct it")
            )
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError(  # made by nobody: the name may be misspelled
                Mistake(
                    "data.root",
                    "no such folder",
                    given=str(root),
                    remedy="create it to have the data downloaded into it, or point data.root to the files' folder",
                )
            )
        return root

    def _find(self, root: Path, name: str) -> Path | None:
        places = (folder / file for folder in (root / self.folder, root) for file in (name, f"{name}.gz"))
        return next((path for path in places if path.exists()), None)

    def _path(self, name: str) -> Path:
        root = self._root()
        path = self._find(root, name)
        if path is None:
            raise DataError(
                Mistake(
                    "data.root",
                    f"neither {root} nor {root / self.folder} holds {name} or {name}.gz",
                    given=str(root),
                    remedy="call prepare_data() to download it, or point data.root to the folder with the files",
                )
            )
        return path

    def _read(self, images_name: str, labels_name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        images = read_idx(self._path(images_name), (None, 28, 28))
        path = self._path(labels_name)
        labels = read_idx(path, (None,))
        if len(labels) != len(images) or len(labels) == 0:
            raise unfit_file(
                path, f"one of {len(labels):,} labels", f"as many as the {len(images):,} images, at least one"
            )
        if labels.max() >= self.out_dim:
            raise unfit_file(path, f"one with the label {labels.max()}", f"labels from 0 to {self.out_dim - 1}")
        return images, labels

    def _refuse_namesake(self, test_labels: NDArray[np.uint8]) -> None:
        for name, first in _FIRST_TEST_LABELS.items():
            if not self.folder.startswith(f"{name}/") and tuple(test_labels[: len(first)]) == first:
                raise DataError(
                    Mistake(
                        "data.root",
                        f"the files there are those of {name}, not of {type(self).__name__}",
                        given=str(self._path(_TEST[1])),
                        remedy=f"move them to {name}/raw, or point data.root to another folder",
                    )
                )


class MNIST(IdxDataModule):
    """Handwritten digits (LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist)."""

    folder = "MNIST/raw"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    md5: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    }


class FashionMNIST(IdxDataModule):
    """Pictures of clothes (Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747)."""

    folder = "FashionMNIST/raw"
    mirrors = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )
    md5: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    }
