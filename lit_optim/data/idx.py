"""The IDX format, in which MNIST and its relatives are distributed.

Two zero bytes, one for the type of the numbers, one for the number of dimensions, each dimension's size as a
big-endian 32-bit integer, then the numbers (http://yann.lecun.com/exdb/mnist). Only unsigned bytes are read: no image
set uses more.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lit_optim.errors import DataError, Mistake

__all__ = ["read_idx", "unfit_file"]

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"PK\x03\x04": "a zip archive",
    b"<": "a web or XML page",
    b"\n<": "a web or XML page",
    b"version https://git-lfs": "a Git LFS pointer",
}


def read_idx(path: Path, shape: tuple[int | None, ...] | None = None) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped (told by its first two bytes, not by its name) or not.

    Args:
        path: The file.
        shape: What its shape must be, None for a size that may be anything: ``(None, 28, 28)``; None to take any shape.

    Returns:
        An array of the shape that the file states; read-only.

    Raises:
        DataError: The file is absent, damaged, cut short, of another format or of another shape.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise unfit_file(path, f"a damaged gzip file ({error})", "an intact one") from error
    except OSError as error:
        raise unfit_file(path, f"unreadable ({error.strerror})", "a file that can be read") from error

    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise unfit_file(path, _kind(content), "an IDX file of unsigned bytes, beginning with 00 00 08")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise unfit_file(path, f"cut short within its header of {header} bytes", "a whole IDX file")
    dimensions = struct.unpack(f">{content[3]}I", content[4:header])
    if shape is not None and not _fits(dimensions, shape):
        raise unfit_file(path, f"an IDX file of shape {_written(dimensions)}", f"one of shape {_written(shape)}")
    if len(content) - header != math.prod(dimensions):
        raise unfit_file(
            path,
            f"an IDX file with {len(content) - header:,} bytes of data",
            f"the {math.prod(dimensions):,} that its header promises for the shape {_written(dimensions)}",
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(dimensions)


def unfit_file(path: Path, found: str, expected: str) -> DataError:
    """The refusal of a file that is there and can't be used."""
    return DataError(
        Mistake(
            "data.root",
            f"{path.name} is {found}; expected {expected}",
            given=str(path),
            remedy="delete it and run again to download it anew, or restore it",
        )
    )


def _kind(content: bytes) -> str:
    if not content:
        return "empty"
    for start, kind in _FOREIGN.items():
        if content.startswith(start):
            return kind
    return f"a file that begins with the bytes {content[:4].hex(' ')}"


def _fits(dimensions: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(dimensions) == len(shape) and all(
        wanted is None or size == wanted for size, wanted in zip(dimensions, shape, strict=True)
    )


def _written(shape: tuple[int | None, ...]) -> str:
    return (
        "(" + ", ".join("N" if size is None else str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
    )
