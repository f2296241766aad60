"""Processes that belong together: watched until all have ended, and ended when one of them fails."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

__all__ = ["TERMINATED", "Outcome", "Process", "supervise"]

_LOOK = 0.05  # seconds from one look to the next
_GRACE = 5.0  # seconds for the others to find out by themselves that one has failed, and to say so in their folder
TERMINATED = 143  # of a rank that has ended as it was told to


class Process(Protocol):
    """What is needed of a ``subprocess.Popen`` that leads a process group of its own."""

    pid: int

    def poll(self) -> int | None:
        """The exit code, once there is one."""

    def wait(self) -> int:
        """The exit code."""


@dataclass(frozen=True)
class Outcome:
    """How they ended.

    Args:
        codes: The exit code of each; a negative one is that of a signal.
        killed: Those that had to be, in whatever they were.
        terminated: Whether they were asked to end.
    """

    codes: Sequence[int]
    killed: Sequence[int]
    terminated: bool

    @property
    def failed(self) -> bool:
        """Whether they did not all come to their end."""
        return self.terminated or any(self.codes)


def supervise(
    processes: Sequence[Process], patience: float, asked: Callable[[], bool], stop: Callable[[], bool]
) -> Outcome:
    """Wait for all of them; whatever happens, none is left when this returns or raises.

    - One that fails, or is killed: the others get a few seconds to end by themselves.
    - One that comes to its end: the others get ``patience``.
    - SIGTERM to this process, or ``asked``: ``stop`` is called, and they get ``patience``, or none where it says that
      nothing will come of waiting. A second SIGTERM kills them at once.
    - An interrupt, or any other exception in here: they are killed at once.

    Args:
        processes: Each the leader of a process group, which ends with it.
        patience: Seconds.
        asked: Whether one of them was told to end, and asks all to.
        stop: Has them stop; returns whether they will.
    """
    with _counted(signal.SIGTERM) as signals:
        try:
            return _watched(processes, patience, asked, stop, signals)
        finally:
            _kill([one for one in processes if one.poll() is None])


def _watched(
    processes: Sequence[Process],
    patience: float,
    asked: Callable[[], bool],
    stop: Callable[[], bool],
    signals: Sequence[int],
) -> Outcome:
    deadline, terminated = inf, False
    while any(one.poll() is None for one in processes):
        now = time.monotonic()
        codes = [one.poll() for one in processes]
        if not terminated and (signals or asked()):
            terminated = True
            deadline = min(deadline, now + patience if stop() else now)
        elif any(code not in (None, 0, TERMINATED) for code in codes) or (any(codes) and not terminated):
            deadline = min(deadline, now + _GRACE)
        elif any(code is not None for code in codes):
            deadline = min(deadline, now + patience)
        if now >= deadline or len(signals) > 1:
            break
        time.sleep(_LOOK)
    alive = [place for place, one in enumerate(processes) if one.poll() is None]
    _kill([processes[place] for place in alive])
    codes = [one.wait() for one in processes]
    if any(codes):
        _kill(processes)  # what they have started themselves
    return Outcome([one.wait() for one in processes], alive, terminated)


def _kill(processes: Sequence[Process]) -> None:
    """Kill their groups: a process that hangs in a collective operation answers to nothing less."""
    for one in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(one.pid, signal.SIGKILL)
    for one in processes:
        one.wait()


@contextlib.contextmanager
def _counted(number: signal.Signals) -> Iterator[list[int]]:
    """Signals that come inside of the block, noted in place of what they would do."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield came
        return
    before = signal.signal(number, lambda got, _: came.append(got))
    try:
        yield came
    finally:
        signal.signal(number, before)
