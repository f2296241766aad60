import pytest

from lit_optim.tables import table

ROWS = [["default", "AdamW", "10", "0.1 → 0"], ["head.no_decay", "SGD", "1,000", "0.05"]]


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    assert table(["group", "optimizer", "tensors", "lr"], ROWS, width=80).splitlines() == [
        " group          optimizer  tensors       lr",
        " ──────────────────────────────────────────",
        " default        AdamW           10  0.1 → 0",
        " head.no_decay  SGD          1,000     0.05",
    ]


def test_a_long_cell_is_folded_and_none_is_cut() -> None:
    assert table(["name", "n"], [["x" * 50 + "end", "1"]], width=40).splitlines() == [
        " name                                 n",
        " ──────────────────────────────────────",
        " " + "x" * 35 + "  1",
        " " + "x" * 15 + "end",
    ]


@pytest.mark.parametrize(("columns", "width"), [("40", 80), ("100", 100), ("200", 200)])
def test_the_width_is_the_terminals_and_at_least_80(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = table(["name"], [["x" * 500]])
    assert max(map(len, text.splitlines())) == width - 1  # a space at the end is stripped


def test_markup_is_left_as_it_is() -> None:
    assert "[bold]layer.[02][/bold] :smile:" in table(["m"], [["[bold]layer.[02][/bold] :smile:"]], width=80)


def test_no_line_ends_in_spaces_and_none_is_empty_at_the_ends() -> None:
    lines = table(["a", "b"], [["1", ""], ["22", "x"]], width=80).splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert lines[0]
    assert lines[-1]


def test_without_rows_there_are_headings() -> None:
    assert table(["a", "b"], [], width=80).splitlines()[0].split() == ["a", "b"]
