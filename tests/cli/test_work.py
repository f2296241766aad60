from __future__ import annotations

import io
import sys

import pytest

from lit_optim.cli import work
from lit_optim.cli.work import Work
from lit_optim.progress_line import Field


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def worked(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch, seconds: float, parts: int = 4) -> list[str]:
    """What the line has been while so many parts were done."""
    clock = Clock()
    monkeypatch.setattr(work, "monotonic", clock)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "60")
    with Work("reading runs", 1_000) as tick:
        for part in range(parts):
            clock.now += seconds
            tick(part, [Field("more")])
    return [state.strip() for state in screen.getvalue().split("\r") if state.strip()]


def test_a_terminal_sees_how_far_it_is_and_then_no_more_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    assert worked(screen, monkeypatch, 2.0, 3) == [
        "reading runs     1/1,000    0%|          |  33:18 left  more",
        "reading runs     2/1,000    0%|          |  33:16 left  more",
        "reading runs     3/1,000    0%|          |  33:14 left  more",
    ]
    assert screen.getvalue().endswith("\r")
    assert screen.getvalue().split("\r")[-2].strip() == ""


def test_it_is_redrawn_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    states = worked(Terminal(), monkeypatch, 0.03, 30)
    assert [int(state.split()[2].split("/")[0]) for state in states] == [17, 21, 25, 29]


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worked(Terminal(), monkeypatch, 0.01) == []


def test_what_is_no_terminal_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    worked(file, monkeypatch, 2.0)
    assert file.getvalue() == ""


def test_nothing_to_do_is_done() -> None:
    with Work("reading runs", 0):
        pass
