"""Many records of an events file at once: tensorboard's own writer takes each record's checksum byte by byte in Python.

The format of a record is little-endian ``uint64 length, uint32 masked crc of length, data, uint32 masked crc of data``
(tensorflow, ``core/lib/io/record_writer.h``). The checksum is CRC-32C (RFC 3720, appendix B.4).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["frame", "masked_crc32c"]

_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reflected
_MANY = 16  # records of 1,000 bytes: 2 ms for any number together, 0.07 ms for each by itself
_Words = npt.NDArray[np.uint32]


def frame(records: Sequence[bytes]) -> bytes:
    """The records in their order, each between its length and its checksum, as they lie in the file."""
    by_length: dict[int, list[int]] = {}
    for position, record in enumerate(records):
        by_length.setdefault(len(record), []).append(position)
    framed = [b""] * len(records)
    for length, positions in by_length.items():
        head = struct.pack("<Q", length)
        head += masked_crc32c([head])[0].tobytes()
        checksums = masked_crc32c([records[position] for position in positions]).tobytes()
        for row, position in enumerate(positions):
            framed[position] = head + records[position] + checksums[4 * row : 4 * row + 4]
    return b"".join(framed)


def masked_crc32c(records: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """The masked checksums (little-endian) of records of one length.

    Of many records, two bytes of all of them at a time; of a few, that takes longer than one record after the other.
    """
    if len(records) < _MANY:
        crc: _Words = np.array([_crc32c(record) for record in records], np.uint32)
    else:
        crc = _crc32c_of_many(records)
    # the mask keeps a checksum of data that itself holds checksums from being a trivial one
    return (((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)).astype("<u4")


def _crc32c(record: bytes) -> int:
    table = _table_of_integers()
    crc = 0xFFFFFFFF
    for byte in record:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _crc32c_of_many(records: Sequence[bytes]) -> _Words:
    length = len(records[0])
    data = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), length)
    by_byte, by_pair = _tables()
    crc: _Words = np.full(len(records), 0xFFFFFFFF, np.uint32)
    pairs = np.ascontiguousarray(data[:, : length & ~1]).view("<u2").T.astype(np.uint32)
    for column in pairs:
        crc = by_pair[(crc ^ column) & 0xFFFF] ^ (crc >> 16)
    if length % 2:
        crc = by_byte[(crc ^ data[:, -1]) & 0xFF] ^ (crc >> 8)
    return ~crc


@lru_cache(maxsize=1)
def _table_of_integers() -> list[int]:
    table: list[int] = _tables()[0].tolist()  # Python's own integers: numpy's are ten times slower one by one
    return table


@lru_cache(maxsize=1)
def _tables() -> tuple[_Words, _Words]:
    by_byte: _Words = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        by_byte = np.where(by_byte & 1, (by_byte >> 1) ^ np.uint32(_POLYNOMIAL), by_byte >> 1).astype(np.uint32)
    by_pair: _Words = np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        by_pair = by_byte[by_pair & 0xFF] ^ (by_pair >> 8)
    return by_byte, by_pair
