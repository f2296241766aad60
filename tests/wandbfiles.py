"""What W&B has written offline: a file of protocol buffers, framed as in LevelDB's log."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEAD = 32_768, 7  # bytes: of a block, and of what stands before each part of a record (also of the whole file)
_WHOLE, _LAST = 1, 4  # kinds of parts


@dataclass
class Written:
    """One process's part of a run.

    Args:
        run: What it was begun with.
        rows: The history, a dictionary a row.
        config: As W&B keeps it.
        files: What was saved beside it.
        exit_code: None where it was not finished.
    """

    run: Any = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    exit_code: int | None = None

    def curve(self, tag: str) -> list[tuple[int, float]]:
        return [(row["trainer/global_step"], row[tag]) for row in self.rows if tag in row]


def offline_runs(folder: Path, killed: int = 0) -> list[Written]:
    """What each process has written of the run in a folder, in their order; the first of them may have been killed."""
    paths = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    bound = time.monotonic() + 20
    while any(_read(path).exit_code is None for path in paths[killed:]):  # W&B's own process writes a moment later
        assert time.monotonic() < bound
        time.sleep(0.02)
    return [_read(path) for path in paths]


def _read(path: Path) -> Written:
    from wandb.proto.wandb_internal_pb2 import Record

    written = Written()
    for data in _records(path.read_bytes()):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            written.run = record.run
            written.config |= _items(record.run.config.update)
        elif kind == "config":
            written.config |= _items(record.config.update)
        elif kind == "history":
            written.rows.append(_items(record.history.item))
        elif kind == "files":
            written.files += [one.path for one in record.files.files]
        elif kind == "exit":
            written.exit_code = record.exit.exit_code
    return written


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    record, place = b"", _HEAD
    while place + _HEAD <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEAD:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if kind == 0:
            break
        record += data[place + _HEAD : place + _HEAD + length]
        place += _HEAD + length
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""
