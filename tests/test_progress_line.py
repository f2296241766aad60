from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.progress_line import (
    Field,
    Pace,
    ProgressLine,
    bar_line,
    duration_text,
    is_notebook,
    is_terminal,
    number_text,
)

FIELDS = [Field("0:12 left"), Field("loss 0.5"), Field("best 0.9", 1), Field("val/f1 0.25", 2), Field("9 it/s", 3)]


def test_a_wide_line_has_all_in_its_order() -> None:
    line = bar_line("epoch 3/10", 0.255, FIELDS, 120)
    assert line == f"epoch 3/10   25%|{'█' * 7}▋{' ' * 22}|  0:12 left  loss 0.5  best 0.9  val/f1 0.25  9 it/s"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "epoch 3/10   25%|██▌       |  0:12 left  loss 0.5  best 0.9  val/f1 0.25  9 it/s"),
        (79, "epoch 3/10   25%|████▎            |  0:12 left  loss 0.5  best 0.9  val/f1 0.25"),
        (60, "epoch 3/10   25%|██▊        |  0:12 left  loss 0.5  best 0.9"),
        (50, "epoch 3/10   25%|██▊        |  0:12 left  loss 0.5"),
        (42, "epoch 3/10   25%|▊  |  0:12 left  loss 0.5"),
        (40, "epoch 3/10   25%  0:12 left  loss 0.5"),
        (30, "epoch 3/10   25%  0:12 left"),
        (20, "epoch 3/10   25%"),
        (12, "epoch 3/10"),
        (4, "epoc"),
    ],
)
def test_what_matters_least_gives_way_first(width: int, line: str) -> None:
    assert bar_line("epoch 3/10", 0.255, FIELDS, width) == line


@given(
    st.integers(1, 200), st.none() | st.floats(0, 1), st.lists(st.tuples(st.text("ab", max_size=30), st.integers(0, 4)))
)
def test_a_line_is_never_longer_than_the_terminal(
    width: int, share: float | None, fields: list[tuple[str, int]]
) -> None:
    line = bar_line("epoch 1", share, [Field(*field) for field in fields], width)
    assert len(line) <= width
    assert ("%" in line) == (share is not None and width >= len("epoch 1  100%"))
    *_, behind = re.split(r"^epoch 1 *(?:\d+%)?(?:\|.*\|)?", line)
    assert set(behind.split()) <= {text for text, _ in fields} or width < len("epoch 1  100%")  # whole, or not at all
    kept = sum(2 + len(text) for text, rank in fields if not rank)
    if len("epoch 1  100%") + kept <= width:
        assert all(f"  {text}".rstrip() in line for text, rank in fields if not rank)


def test_of_what_is_not_known_there_is_no_bar() -> None:
    assert bar_line("epoch 3", None, FIELDS, 80) == "epoch 3  0:12 left  loss 0.5  best 0.9  val/f1 0.25  9 it/s"


def test_a_terminal_without_blocks_gets_a_bar_all_the_same() -> None:
    assert bar_line("a", 0.5, [], 20, only_ascii=True) == "a   50%|#####5     |"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (59.6, "1:00"), (3_599, "59:59"), (3_727, "1:02:07"), (172_799, "47:59:59"), (183_600, "2 d 03 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_numbers_have_four_digits_and_names_have_an_end() -> None:
    assert number_text("val/acc", 0.913749) == "val/acc 0.9137"
    assert number_text("n", 12_345) == "n 12345"
    assert number_text("val/one_of_many_long_names", 1.0) == "val/one…y_long_names 1"


class TestPace:
    def test_the_time_left_goes_by_the_mean_speed_since_the_first_question(self) -> None:
        pace = Pace()
        assert pace.left({"steps": 0.5}, 100.0) is None
        assert pace.left({"steps": 0.6}, 110.0) == pytest.approx(40.0)
        assert pace.left({"steps": 0.6}, 120.0) == pytest.approx(80.0), "what takes time between steps counts"
        assert pace.left({"steps": 1.0}, 130.0) == 0.0

    def test_of_several_ends_the_first_counts_and_each_may_become_known_later(self) -> None:
        pace = Pace()
        pace.left({"steps": 0.0}, 0.0)
        assert pace.left({"steps": 0.1, "epochs": 0.8}, 10.0) == pytest.approx(90.0)
        assert pace.left({"steps": 0.2, "epochs": 0.9}, 20.0) == pytest.approx(10.0)

    def test_nothing_is_said_in_the_first_second_or_without_an_end(self) -> None:
        pace = Pace()
        pace.left({"steps": 0.0}, 0.0)
        assert pace.left({"steps": 0.5}, 0.9) is None
        assert pace.left({"steps": 0.5}, 1.0) == pytest.approx(1.0)
        assert pace.left({}, 10.0) is None


class Terminal(io.StringIO):
    encoding = "utf-8"


def test_it_writes_over_itself_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Terminal()
    line = ProgressLine(screen)
    line.show("reading", 0.5, [Field("a")])
    line.show("reading", None, [])
    line.finish()
    states = screen.getvalue().split("\r")
    assert [state.strip() for state in states if state.strip()] == [
        "reading   50%|███████████           |  a",
        "reading",
    ]
    assert [state.strip() for state in states[-3:]] == ["reading", "", ""]
    assert len(states[-2]) == len("reading")


def test_it_stays_where_it_shall() -> None:
    screen = Terminal()
    line = ProgressLine(screen)
    line.show("done", None, [])
    line.finish(leave=True)
    assert screen.getvalue().endswith("\rdone\n")


def test_it_shows_on_a_terminal_that_does_not_tell_its_height(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as screen:
        assert is_terminal(screen)
        line = ProgressLine(screen)
        line.show("head", 1.0, [])
        line.finish(leave=True)
        seen = b""
        while not seen.endswith(b"\n"):
            seen += os.read(ours, 1_000)
        assert f"head  100%|{'█' * 30}|" in seen.decode()
    os.close(ours)


def test_what_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_terminal(None)
    assert not is_notebook()
    with (tmp_path / "log").open("w") as file:
        assert not is_terminal(file)
    monkeypatch.setattr(sys, "stdout", type("OutStream", (Terminal,), {"__module__": "ipykernel.iostream"})())
    assert is_notebook()
