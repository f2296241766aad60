"""Output of jobs that run side by side: each line says whose it is, and texts stay in one piece, those of ranks too."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock, Thread
from time import monotonic
from typing import Any, TextIO

__all__ = ["Prefixed", "Relay"]

_LINGER = 1.0  # seconds for the last lines of processes that have ended
_whole = RLock()  # held while lines go out


class Prefixed(io.TextIOBase):
    """A stream that puts a mark before each line and hands on whole lines alone, each write as one.

    It is no terminal, so that nothing is drawn over what another job has printed.

    Args:
        stream: Where it goes.
        mark: Gives what each line begins with; asked anew each time, for a logger keeps the stream beyond its job.
    """

    def __init__(self, stream: TextIO, mark: Callable[[], str]) -> None:
        self._stream = stream
        self._mark = mark
        self._begun = ""

    def write(self, text: str) -> int:
        """Print the lines that are complete; the rest waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            mark = self._mark()
            with _whole:
                self._stream.write("".join(f"{mark}{line}\n" for line in lines))
                self._stream.flush()
        return len(text)

    def receive(self, pipe: int) -> None:
        """Print what comes through a pipe, under the mark of now, until nobody is left who could write into it."""
        mark = self._mark()
        with open(pipe, errors="replace", newline="\n") as lines, Prefixed(self._stream, lambda: mark) as own:
            for line in lines:
                own.write(line)

    def flush(self) -> None:
        """Flush the stream; after `close` as well, since a logger may keep this one beyond its job."""
        self._stream.flush()

    def close(self) -> None:
        """End the line that is begun; the stream itself stays open."""
        if self._begun:
            self.write("\n")
        super().close()

    def writable(self) -> bool:
        """It is."""
        return True


class Relay:
    """Has other processes print through the streams of this one, where these are `Prefixed`.

    Each gets pipes of its own, so that what it has begun waits for its end, and lines from below Python, or the last
    ones of a process that is killed, are marked as well.
    """

    def __init__(self) -> None:
        self._readers: list[Thread] = []

    @contextmanager
    def streams(self) -> Iterator[dict[str, Any]]:
        """``stdout`` and ``stderr`` for one ``Popen`` inside of the block; nothing where it may inherit them."""
        pipes: dict[str, Any] = {}
        try:
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if isinstance(stream, Prefixed):
                    ours, pipes[name] = os.pipe()
                    self._readers.append(Thread(target=stream.receive, args=(ours,), daemon=True))
                    self._readers[-1].start()
            yield pipes
        finally:
            for pipe in pipes.values():
                os.close(pipe)

    def finish(self) -> None:
        """Wait for the last lines, but not for what has outlived its process and holds the pipe still."""
        deadline = monotonic() + _LINGER
        for reader in self._readers:
            reader.join(max(0.0, deadline - monotonic()))
