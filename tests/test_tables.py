import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.tables import shortened, table, terminal_width, wrapped

ROWS = [["default", "AdamW", "10", "0.1 → 0"], ["head.no_decay", "SGD", "1,000", "0.05"], ["frozen", "–", "7", "–"]]
WORDS = st.text("ab. →", max_size=50)


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    assert table(["group", "optimizer", "tensors", "lr"], ROWS, width=80).splitlines() == [
        "group          optimizer  tensors       lr",
        "──────────────────────────────────────────",
        "default        AdamW           10  0.1 → 0",
        "head.no_decay  SGD          1,000     0.05",
        "frozen         –                7        –",
    ]


def test_a_column_of_numbers_below_0_or_without_any_cell_that_says_something() -> None:
    assert table(["group", "rho", "lacking"], [["a", "-0.05", "–"], ["b", "1", "–"]], width=80).splitlines()[2:] == [
        "a      -0.05  –",
        "b          1  –",
    ]


def test_columns_that_do_not_fit_go_on_below_with_the_names_and_without_rows_that_say_nothing() -> None:
    assert table(["group", "optimizer", "tensors", "lr"], ROWS, width=36).splitlines() == [
        "group          optimizer  tensors",
        "─────────────────────────────────",
        "default        AdamW           10",
        "head.no_decay  SGD          1,000",
        "frozen         –                7",
        "",
        "group               lr",
        "──────────────────────",
        "default        0.1 → 0",
        "head.no_decay     0.05",
    ]


def test_a_row_that_says_nothing_stays_in_the_first_table() -> None:
    assert "frozen" in table(["group", "lr"], [["frozen", "–"]], width=80)


def test_a_table_that_just_fits_stays_one() -> None:
    assert len(table(["group", "optimizer", "tensors", "lr"], ROWS, width=42).splitlines()) == 5


@pytest.mark.parametrize(("width", "longest"), [(80, 34), (160, 50)])
def test_a_long_name_is_cut_in_the_middle_and_keeps_its_end(width: int, longest: int) -> None:
    names = [f"backbone_of_the_model.no_decay.of_all.depth{depth:02}" for depth in range(60)]
    lines = table(["group", "lr"], [[name, "0.1"] for name in names], width).splitlines()
    shown = [line.split()[0] for line in lines[2:]]
    assert {len(name) for name in shown} == {min(longest, len(names[0]))}
    assert [name[-8:] for name in shown] == [f".depth{depth:02}" for depth in range(60)]
    assert all(name.startswith("backbone") for name in shown)


@pytest.mark.parametrize(
    ("cells", "tables", "longest"),
    [((43,), 1, 34), ((50,), 1, 28), ((20, 30), 1, 26), ((20, 36), 1, 20), ((20, 37), 2, 34), ((70,), 1, 20)],
)
def test_names_give_way_down_to_a_quarter_where_that_saves_a_table(
    cells: tuple[int, ...], tables: int, longest: int
) -> None:
    columns = [f"{number}" for number in range(len(cells))]
    parts = table(["group", *columns], [["x" * 40, *("1" * cell for cell in cells)]], width=80).split("\n\n")
    assert len(parts) == tables
    assert {part.splitlines()[2].index("  ") for part in parts} == {longest}


def test_a_line_has_20_characters_at_least() -> None:
    rows = [["x" * 40, "0.1"]]
    assert table(["group", "lr"], rows, width=1) == table(["group", "lr"], rows, width=20)


def test_names_that_have_the_room_are_whole() -> None:
    name = "x" * 33 + "y"
    assert name in table(["group", "lr"], [[name, "0.1"]], width=80)


def test_a_cell_that_no_line_can_hold_is_cut() -> None:
    assert table(["a", "text"], [["b", "y" * 50 + "end"]], width=30).splitlines()[2] == "b  yyyyyyyyyy…yyyyyyyyyyyyyend"


@given(
    st.integers(0, 5).flatmap(lambda n: st.lists(st.tuples(*[WORDS] * (n + 1)), min_size=1, max_size=8)),
    st.integers(20, 120),
)
def test_no_line_is_longer_than_the_width_and_none_ends_in_spaces(rows: list[tuple[str, ...]], width: int) -> None:
    [columns, *rows] = rows
    lines = table(columns, rows, width).split("\n")
    assert all(len(line) <= width for line in lines)
    assert all(line == line.rstrip() for line in lines)


@given(st.lists(st.text("ab.", max_size=50), max_size=12), st.integers(8, 40))
def test_shortened_names_fit_and_different_ones_stay_different(names: list[str], limit: int) -> None:
    short = shortened(names, limit)
    assert all(len(text) <= limit for text in short)
    assert len({*zip(names, short, strict=True)}) == len({*names}) == len({*short})
    assert all(text == name for name, text in zip(names, short, strict=True) if len(name) <= limit)


def test_names_are_cut_near_their_start_but_where_they_differ() -> None:
    assert shortened(["backbone.norm.of.all.depth10", "backbone.norm.of.all.depth11"], 14) == [
        "backb….depth10",
        "backb….depth11",
    ]
    assert shortened(["backbone.norm.of.all.depth11", "backbone.bias.of.all.depth11"], 14) == [
        "backbone.n…h11",
        "backbone.b…h11",
    ]


def test_names_that_no_cut_tells_apart_are_numbered() -> None:
    names = [f"backbone.long_before{number}long_behind.depth11" for number in range(3)]
    assert shortened(names, 20) == ["backbon…hind.depth11", "backbo…2…ind.depth11", "backbo…3…ind.depth11"]


def test_a_shortened_name_is_never_that_of_another_group() -> None:
    names = ["aaaaaaaa1bbbbbbbb", "aaaaaaaa2bbbbbbbb", "aa…bbbbb"]
    assert shortened(names, 8) == ["aa…2…bbb", "aa…3…bbb", "aa…bbbbb"]


@pytest.mark.parametrize(("columns", "width"), [("40", 80), ("100", 100), ("200", 200)])
def test_the_width_is_the_terminals_and_at_least_80(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == width
    text = table(["name", "text"], [["a", "x" * 500]])
    assert max(map(len, text.splitlines())) == width


def test_markup_is_left_as_it_is() -> None:
    assert "[bold]layer.[02][/bold] :smile:" in table(["m"], [["[bold]layer.[02][/bold] :smile:"]], width=80)


def test_without_rows_there_are_headings() -> None:
    assert table(["a", "b"], [], width=80).splitlines() == ["a  b", "────"]


def test_a_paragraph_is_wrapped_with_a_hanging_indent() -> None:
    assert wrapped("one two four-five six", 12) == "one two\n    four-five\n    six"


def test_a_word_that_is_too_long_stays_whole() -> None:
    assert wrapped("see model.layers.attention.weight there", 12).splitlines()[1:] == [
        "    model.layers.attention.weight",
        "    there",
    ]


def test_a_no_break_space_holds_words_together() -> None:
    assert wrapped("one two\N{NO-BREAK SPACE}three", 9) == "one\n    two three"
