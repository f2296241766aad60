from __future__ import annotations

import io
import logging

import pytest

from lit_optim.cli.prefixed import Prefixed


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
