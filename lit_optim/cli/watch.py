"""What the processes of a run on several machines hear of each other while they train: stop together, or it is over."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lit_optim.integration.lockstep import Lockstep

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

__all__ = ["Watch"]

_LOOK = 0.5  # seconds from one look to the next; each is one question to the machine of rank zero
_ANSWERS = 15.0  # seconds in which each says where it stands; launchers kill 30 after they have told to end
_GRACE = 5.0  # seconds for a process to find out by itself that another has failed, and to say so in its folder
_NEWS, _STOP, _OVER, _HEARD, _AT = "news", "stop", "over", "heard of it", "at/"
_LAST = "last"


class Watch:
    """A thread in each process that looks into the store which all have in common.

    - One was told to end: each has its rank wait where it is, and says where that is; all stop after the same batch.
    - One has failed: a process that waits for it, as in a collective operation, is ended.

    Training itself asks nobody: a batch costs what it costs beside a `Lockstep` in memory.

    Args:
        store: In common.
        rank: Of this process.
        world_size: How many there are.
        on_stuck: Called, with what the failed one has said, before this process is ended.

    Attributes:
        lockstep: For `lit_optim.integration.callbacks.stop_together.StopTogether`.
    """

    def __init__(self, store: Store, rank: int, world_size: int, on_stuck: Callable[[str], object]) -> None:
        self.lockstep = Lockstep.of_one()
        self._store = store
        self._rank = rank
        self._everyone = [f"{_AT}{one}" for one in range(world_size)]
        self._on_stuck = on_stuck
        self._settled = self._knows = self._closed = False
        self._said: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")
        self._thread.start()

    def over(self, text: str, after: float = 0.0) -> str:
        """Say that this process has failed; returns what the first that did has said.

        Args:
            text: Why.
            after: Seconds in which another may say so first, of whose failure this one would be the consequence.
        """
        self._knows = True
        _until(lambda: self._said is not None or not self._thread.is_alive(), after)
        if self._said is None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the store is gone
                self._said = self._store.compare_set(_OVER, "", text).decode()
                self._store.set(_NEWS, "")
                # the store may end with this process
                _until(lambda: self._store.add(_HEARD, 0) >= len(self._everyone), _GRACE)
        return text if self._said is None else self._said

    def close(self) -> None:
        """The run has come to its end."""
        self._closed = True

    def _run(self) -> None:
        with contextlib.suppress(RuntimeError):  # the store has ended with its machine: collective operations time out
            while not self._closed:
                time.sleep(_LOOK)
                if self.lockstep.asked and not self._settled:
                    self._store.set(_STOP, "")
                    self._store.set(_NEWS, "")
                if not self._closed and self._store.check([_NEWS]):
                    self._hear()

    def _hear(self) -> None:
        if self._store.check([_OVER]):
            said = self._store.get(_OVER).decode()
            self._store.add(_HEARD, 1)
            self._said = said
            time.sleep(_GRACE)
            if self._knows:  # it says so itself, and ends by itself, unless it hangs on the way out
                time.sleep(_GRACE)
            self._end(said)
        elif not self._settled and self._store.check([_STOP]):
            self._settled = True
            self._settle()

    def _settle(self) -> None:
        """As `Lockstep.settle`, of all machines together; without an answer of each nobody stops."""
        last = 0
        try:
            self._store.set(f"{_AT}{self._rank}", str(self.lockstep.hold()))
            if _until(lambda: self._store.check(self._everyone), _ANSWERS):
                last = max(map(int, self._store.multi_get(self._everyone))) + 1
            last = int(self._store.compare_set(_LAST, "", str(last)))  # as the first that knew has it
        finally:
            self.lockstep.stop_after(last)

    def _end(self, said: str) -> None:
        """End the process, whatever it waits for."""
        if self._closed:
            return
        try:
            if not self._knows:
                self._on_stuck(said)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(1)


def _until(condition: Callable[[], bool], patience: float) -> bool:
    """Wait for something, at most so many seconds; returns whether it has come."""
    deadline = time.monotonic() + patience
    while not (came := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return came
