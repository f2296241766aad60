from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.data.idx import read_idx
from lit_optim.errors import DataError

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_it_reads_gzipped_or_not_whatever_the_name(tmp_path: Path, name: str, pack: object) -> None:
    path = tmp_path / name
    path.write_bytes(pack(idx(IMAGES)))  # type: ignore[operator]
    read = read_idx(path, (None, 3, 4))
    assert read.dtype == np.uint8
    assert np.array_equal(read, IMAGES)


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_any_shape_comes_back(tmp_path_factory: pytest.TempPathFactory, shape: list[int]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(idx(array))
    assert np.array_equal(read_idx(path), array)
    assert read_idx(path).shape == array.shape


PACKED = gzip.compress(idx(IMAGES))
LABELS = np.zeros(7, np.uint8)
UNUSABLE = {
    "empty": (b"", r"is empty; expected an IDX file of unsigned bytes, beginning with 00 00 08"),
    "png": (b"\x89PNG\r\n\x1a\n", r"is a PNG image; expected an IDX file"),
    "html": (b"<!DOCTYPE html><html>", r"is a web or XML page; expected"),
    "zip": (b"PK\x03\x04rest", r"is a zip archive; expected"),
    "zipped page": (gzip.compress(b"<html>"), r"is a web or XML page; expected"),
    "text": (b"5,0,4", r"is a file that begins with the bytes 35 2c 30 2c; expected"),
    "three bytes": (b"\0\0\x08", r"is a file that begins with the bytes 00 00 08; expected"),
    "floats": (idx(IMAGES, kind=0x0D), r"is a file that begins with the bytes 00 00 0d 03; expected"),
    "header only in part": (idx(IMAGES)[:9], r"is cut short within its header of 16 bytes; expected a whole IDX file"),
    "data cut": (
        idx(IMAGES)[:-1],
        r"is an IDX file with 23 bytes of data; expected the 24 that its header promises .* \(2, 3, 4\)",
    ),
    "data and more": (idx(IMAGES) + b"x", r"is an IDX file with 25 bytes of data; expected the 24 "),
    "labels": (idx(LABELS), r"is an IDX file of shape \(7,\); expected one of shape \(N, 3, 4\)"),
    "other images": (idx(IMAGES.reshape(2, 4, 3)), r"is an IDX file of shape \(2, 4, 3\); expected one of shape"),
    "gzip cut": (PACKED[:-12], r"is a damaged gzip file \(Compressed file ended .*\); expected an intact one"),
    "gzip cut to its magic": (PACKED[:2], r"is a damaged gzip file \("),
    "gzip with another checksum": (PACKED[:-8] + bytes(8), r"is a damaged gzip file \(CRC check failed"),
    "gzip with broken data": (PACKED[:10] + b"\xff" * 20 + PACKED[30:], r"is a damaged gzip file \("),
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, content: tuple[bytes, str]) -> None:
    path = tmp_path / "train-images"
    path.write_bytes(content[0])
    with pytest.raises(DataError, match="train-images " + content[1]) as refusal:
        read_idx(path, (None, 3, 4))
    (mistake,) = refusal.value.mistakes
    assert mistake.key == "data.root"
    assert mistake.given == str(path)
    assert mistake.remedy == "delete it and run again to download it anew, or restore it"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is unreadable \(Is a directory\)"):
        read_idx(tmp_path)
