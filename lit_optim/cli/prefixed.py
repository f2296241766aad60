"""Output of jobs that run side by side: each line says whose it is, and texts stay in one piece."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TextIO

__all__ = ["Prefixed"]


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
            self._stream.write("".join(f"{mark}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

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
