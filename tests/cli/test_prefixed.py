from __future__ import annotations

import io
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from subprocess import Popen

import pytest

from lit_optim.cli import prefixed
from lit_optim.cli.prefixed import Prefixed, Relay


class Pieces(io.StringIO):
    """Keeps what is written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


def test_every_line_has_the_mark_and_a_text_goes_out_in_one_piece() -> None:
    out = Pieces()
    with Prefixed(out, lambda: "3 │ ") as stream:
        print("one\ntwo\n\nfour", file=stream)
        assert out.pieces == ["3 │ one\n3 │ two\n3 │ \n", "3 │ four\n"]


def test_a_line_waits_for_its_end() -> None:
    out = Pieces()
    with Prefixed(out, lambda: "3 │ ") as stream:
        assert stream.write("a") == 1
        assert out.pieces == []
        stream.write("b\nc")
        assert out.pieces == ["3 │ ab\n"]
    assert out.pieces == ["3 │ ab\n", "3 │ c\n"]
    assert not out.closed


def test_it_is_no_terminal_and_asks_for_the_mark_anew(capsys: pytest.CaptureFixture[str]) -> None:
    out, marks = Pieces(), iter("ab")
    stream = Prefixed(out, lambda: next(marks))
    assert not stream.isatty()
    stream.write("x\n")
    logger = logging.StreamHandler(stream)  # which keeps it
    stream.close()
    logger.emit(logging.makeLogRecord({"msg": "y"}))
    assert capsys.readouterr().err == ""  # where logging says what it could not write
    assert out.pieces == ["ax\n", "by\n"]


# --- other processes -------------------------------------------------------------------------------------------------


@contextmanager
def marked(mark: Callable[[], str] = lambda: "3 │ ") -> Iterator[Pieces]:
    """What stdout and stderr print to, marked."""
    pieces = Pieces()
    with redirect_stdout(Prefixed(pieces, mark)), redirect_stderr(Prefixed(pieces, mark)):
        yield pieces


def started(relay: Relay, script: str) -> Popen[bytes]:
    with relay.streams() as streams:
        return Popen(["sh", "-c", script], process_group=0, **streams)


def test_lines_of_processes_are_marked_and_in_one_piece() -> None:
    relay = Relay()
    with marked() as out:
        one = started(relay, "printf a; sleep 0.3; echo b")
        other = started(relay, "sleep 0.1; echo c >&2; printf d; kill -9 $$")
        assert (one.wait(), other.wait()) == (0, -9)
        relay.finish()
    assert sorted(out.pieces) == ["3 │ ab\n", "3 │ c\n", "3 │ d\n"]


def test_the_mark_is_that_of_the_job_which_has_started_the_process() -> None:
    relay, jobs = Relay(), ["0 │ "]
    with marked(lambda: jobs[-1]) as out:
        one = started(relay, "echo a; sleep 0.5; echo b")
        while not out.pieces:
            time.sleep(0.01)
        jobs.append("1 │ ")
        one.wait()
        relay.finish()
    assert out.pieces == ["0 │ a\n", "0 │ b\n"]


def test_what_outlives_its_process_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = Relay()
    with marked() as out:
        one = started(relay, "echo a; sleep 1000 & kill -9 $$")
        assert one.wait() == -9
        while not out.pieces:
            time.sleep(0.01)
        monkeypatch.setattr(prefixed, "_LINGER", 0.1)
        relay.finish()
    os.killpg(one.pid, signal.SIGKILL)
    assert out.pieces == ["3 │ a\n"]


def test_where_nothing_is_marked_processes_print_by_themselves() -> None:
    with Relay().streams() as streams:
        assert streams == {}
