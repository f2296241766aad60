"""Where each rank stands, in memory that it shares with whoever has all of them stop after the same batch."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Lockstep"]

_IDLE = -1  # of a rank that isn't training
_GO_ON, _WAIT = 0, -1  # in place of a batch to stop after
_STOP, _ASKED, _RANKS = range(3)  # the places of the numbers
_VISIBLE = 0.05  # seconds, after which every processor sees what another has written; far less would do


class Lockstep:
    """How many batches every rank has trained on, and after which all of them stop.

    A rank says that it is done with batch n before it looks whether to stop. Whoever asks them to stop has the
    ranks wait there, looks where they stand, and lets them go on to one batch past the furthest: none can be
    further, since it would have seen by then that it has to wait. So all stop after the same batch, without a
    collective operation, and a batch costs a microsecond.

    Args:
        path: A file that `create` has made.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._numbers: memoryview[int] = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    @classmethod
    def create(cls, path: Path, ranks: int) -> Lockstep:
        """Those of so many ranks, none of them training yet."""
        path.write_bytes(struct.pack(f"{_RANKS + ranks}q", _GO_ON, 0, *[_IDLE] * ranks))
        return cls(path)

    @classmethod
    def of_one(cls) -> Lockstep:
        """That of a single rank, which other ranks can't see: what each finds by `hold` is to be put together."""
        with TemporaryDirectory(prefix="lit-optim-") as folder:
            return cls.create(Path(folder) / "lockstep", 1)

    def note(self, rank: int, batches: int) -> None:
        """A rank is done with so many batches."""
        self._numbers[_RANKS + rank] = batches

    def leave(self, rank: int) -> None:
        """A rank no longer trains."""
        self._numbers[_RANKS + rank] = _IDLE

    def stops_after(self, batches: int) -> bool:
        """Whether a rank that has noted so many goes no further; waits while that is being settled."""
        while self._numbers[_STOP] == _WAIT:
            time.sleep(0.001)
        return 0 < self._numbers[_STOP] <= batches

    def ask(self) -> None:
        """A rank wants all of them to stop, since it was told to end."""
        self._numbers[_ASKED] = 1

    @property
    def asked(self) -> bool:
        """Whether one has."""
        return bool(self._numbers[_ASKED])

    @property
    def training(self) -> bool:
        """Whether any rank is."""
        return max(self._numbers[_RANKS:]) != _IDLE

    def settle(self) -> bool:
        """Let all ranks stop after the same batch; returns whether any of them trains, and so will."""
        furthest = self.hold()
        if furthest != _IDLE:
            self.stop_after(furthest + 1)
        return furthest != _IDLE

    def hold(self) -> int:
        """Have the ranks wait at the end of their batch; returns the furthest one's number, -1 if none trains."""
        self._numbers[_STOP] = _WAIT
        time.sleep(_VISIBLE)
        return max(self._numbers[_RANKS:])

    def stop_after(self, batches: int) -> None:
        """Let ranks that wait go on to so many batches; 0 for all that there are."""
        self._numbers[_STOP] = batches
