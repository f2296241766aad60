"""SIGTERM where there is nothing to save: the process ends at once, by an exception that others hear of."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "end_at_once", "ending_at_once", "is_told_to_end"]


class Terminated(SystemExit):
    """This process was told to end."""


def is_told_to_end(error: BaseException) -> bool:
    """Whether it comes of a SIGTERM: `Terminated`, or Lightning's, which is a kind of exit as well."""
    return isinstance(error, SystemExit) and type(error) is not SystemExit


def end_at_once(*_: Any) -> None:
    """A handler of SIGTERM. Lightning's, which waits for a batch's end, calls it as well, and then decides itself."""
    if signal.getsignal(signal.SIGTERM) is end_at_once:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a further signal is not to reach what is told of the first
        raise Terminated


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Have SIGTERM raise wherever Lightning doesn't answer it, before and between its stages."""
    is_main = threading.current_thread() is threading.main_thread()  # where alone a handler can be set
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
