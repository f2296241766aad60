from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.runs.layout import Cells, folded, labelled, laid_out
from lit_optim.tables import ABSENT, terminal_width

ADAM = {"_target_": "torch.optim.AdamW", "eps": "1e-08", "amsgrad": "false", "betas": "[0.9, 0.999]"}
LION = {
    "_target_": "pytorch_optimizer.Lion",
    "use_gc": "false",
    "betas": "[0.9, 0.99]",
    "r": "0.95",
    "adanorm": "false",
}
HIDDEN = {"match.module": "linear", "match.ndim": "2", "optimizer._target_": "torch.optim.Muon", "optimizer.lr": "0.02"}


def settings(*rows: dict[str, str]) -> dict[str, list[str]]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key, ABSENT) for row in rows] for key in keys}


def run(optimizer: dict[str, str], lr: str = "0.1", **more: str) -> dict[str, str]:
    return {f"optimizer.{key}": value for key, value in {**optimizer, "lr": lr}.items()} | more


def many() -> dict[str, list[str]]:
    """Four classes with a dozen arguments each, two learning rates, and a rule that half of them have."""
    rows = []
    for number, name in enumerate(("torch.optim.AdamW", "torch.optim.SGD", "my.Lion", "my.deep.Shampoo")):
        own = {"_target_": name, **{f"argument_{number}_{index}": f"{index}" for index in range(12)}}
        for lr in ("0.1", "0.01"):
            rule = {f"rules.hidden.{key}": value for key, value in HIDDEN.items()} if number % 2 else {}
            rows.append(run(own, lr, **rule))
    return settings(*rows)


RESULTS = {"best val/acc": [f"0.{number}12 ± 0.003" for number in range(8)], "n": ["3"] * 8}
REST = {"last val/acc": RESULTS["best val/acc"], "steps": ["630"] * 8, "time": ["12 min"] * 8}
NAMES = [f"{3 * number}, {3 * number + 1}, {3 * number + 2}" for number in range(8)]


def test_few_settings_stand_beside_the_results() -> None:
    few = settings(run(ADAM, "0.1"), run(LION, "0.2"))
    text = laid_out(["a", "b"], {"best": ["1", "2"]}, {key: few[key] for key in ("optimizer._target_", "optimizer.lr")}, {"steps": ["5", "6"]}, 80)  # fmt: skip # noqa: E501
    assert text.splitlines() == [
        "run  best  optimizer  optimizer.lr  steps",
        "─────────────────────────────────────────",
        "a       1  AdamW               0.1      5",
        "b       2  Lion                0.2      6",
    ]


def test_of_two_runs_many_settings_stand_on_their_side() -> None:
    text = laid_out(["a", "b"], {"best": ["1", "2"]}, settings(run(ADAM), run(LION, "0.2")), {"steps": ["5", "6"]}, 80)
    assert text.splitlines() == [
        "run  best  steps",
        "────────────────",
        "a       1      5",
        "b       2      6",
        "",
        "setting            a             b",
        "────────────────────────────────────────────",
        "optimizer          AdamW         Lion",
        "optimizer.eps      1e-08         –",
        "optimizer.amsgrad  false         –",
        "optimizer.betas    [0.9, 0.999]  [0.9, 0.99]",
        "optimizer.lr       0.1           0.2",
        "optimizer.use_gc   –             false",
        "optimizer.r        –             0.95",
        "optimizer.adanorm  –             false",
    ]


def test_of_many_runs_what_comes_with_a_class_is_told_once_in_80_columns() -> None:
    lines = laid_out(NAMES, RESULTS, many(), REST, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:4] == [
        "run          best val/acc  n  optimizer  optimizer.lr  rules.hidden",
        "───────────────────────────────────────────────────────────────────",
        "0, 1, 2     0.012 ± 0.003  3  AdamW               0.1  –",
        "3, 4, 5     0.112 ± 0.003  3  AdamW              0.01  –",
    ]
    assert lines[11].split() == ["run", "last", "val/acc", "steps", "time"]
    assert lines[21:25] == [
        "",
        "with rules.hidden: match.module linear, match.ndim 2,",
        "    optimizer._target_ torch.optim.Muon, optimizer.lr 0.02",
        "with optimizer AdamW: argument_0_0 0, argument_0_1 1, argument_0_2 2,",
    ]
    assert " ".join(lines[24:]).count("argument_") == 4 * 12, "nothing is lost"


def test_and_in_120_columns_with_all_results_in_one_table() -> None:
    lines = laid_out(NAMES, RESULTS, many(), REST, 120).splitlines()
    assert 80 < max(map(len, lines)) <= 120
    assert lines[0].split()[-4:] == ["last", "val/acc", "steps", "time"]
    assert [line.split(":")[0] for line in lines if line.startswith("with ")] == [
        "with rules.hidden",
        *(f"with optimizer {name}" for name in ("AdamW", "SGD", "Lion", "Shampoo")),
    ]


def test_where_room_is_short_settings_go_by_the_last_parts_of_their_keys() -> None:
    keys = (
        "optimizer.weight_decay",
        "optimizer.momentum",
        "schedule.lr.warmup",
        "optimizer.lr",
        "rules.head.lr",
        "n.n",
    )
    cells = {key: [f"{row}" for row in range(5)] for key in keys}
    results = {"best val/acc": ["0.5"] * 5, "n": ["1"] * 5}
    text = laid_out([*"abcde"], results, cells, {}, 100)
    assert text.splitlines()[0].split()[3:] == [
        "n", "weight_decay", "momentum", "warmup", "optimizer.lr", "rules.head.lr", "n.n",
    ]  # fmt: skip
    assert len(text.splitlines()) == 2 + 5
    assert "optimizer.weight_decay" in laid_out([*"abcde"], results, cells, {}, 200)
    assert laid_out([*"abcde"], results, cells, {}, 60).count("run  ") == 2, "what doesn't fit goes on below"


def test_what_differs_within_a_class_is_a_column() -> None:
    columns, notes = folded(settings(run(ADAM), run(ADAM, "0.2"), run({**LION, "r": "0.5"}), run(LION)))
    assert {key: [*cells] for key, cells in columns.items()} == {
        "optimizer": ["AdamW", "AdamW", "Lion", "Lion"],
        "optimizer.lr": ["0.1", "0.2", "0.1", "0.1"],
        "optimizer.r": [ABSENT, ABSENT, "0.5", "0.95"],
    }
    assert notes == [
        "with optimizer AdamW: eps\N{NO-BREAK SPACE}1e-08, amsgrad\N{NO-BREAK SPACE}false, "
        "betas\N{NO-BREAK SPACE}[0.9,\N{NO-BREAK SPACE}0.999]",
        "with optimizer Lion: betas\N{NO-BREAK SPACE}[0.9,\N{NO-BREAK SPACE}0.99], use_gc\N{NO-BREAK SPACE}false, "
        "adanorm\N{NO-BREAK SPACE}false",
    ]


def test_what_changes_together_by_choice_alone_is_not_folded() -> None:
    searched = {
        "optimizer.lr": ["0.1", "0.2"],
        "optimizer.weight_decay": ["0.3", "0.4"],
        "schedule.lr.warmup": ["1", "2"],
    }
    assert folded(searched) == (searched, [])


def test_one_setting_of_a_rule_is_a_column_of_its_own() -> None:
    alone = {"rules.head.lr": ["0.1", ABSENT], "seed": ["1", "2"]}
    assert folded(alone) == (alone, [])


def test_a_rule_that_all_rows_have_is_not_folded() -> None:
    rule = {"rules.head.lr": ["0.1", "0.2"], "rules.head.match": ["a", "b"]}
    assert folded(rule) == (rule, [])


def test_a_label_says_in_a_few_words_what_a_row_is() -> None:
    rows = settings(run(ADAM), run(ADAM, "0.2"), run(LION))
    assert labelled(rows) == ["AdamW lr=0.1", "AdamW lr=0.2", "Lion lr=0.1"]
    assert labelled(settings(run(ADAM), run(LION, "0.2"))) == ["AdamW", "Lion"]
    alone = {"schedule.lr._target_": ["lit_optim.schedules.Cosine", ABSENT], "seed": ["1", "2"]}
    assert labelled(alone) == ["Cosine seed=1", f"{ABSENT} seed=2"]
    assert labelled({"optimizer.lr": ["1", "2"], "rules.a.lr": ["3", "4"]})[0] == "optimizer.lr=1 rules.a.lr=3"
    assert labelled({}) == []


def test_classes_of_one_name_keep_their_modules() -> None:
    text = laid_out(["a", "b"], {}, {"optimizer._target_": ["torch.optim.Muon", "mine.Muon"]}, {}, 80)
    assert [line.split() for line in text.splitlines()[2:]] == [["a", "torch.optim.Muon"], ["b", "mine.Muon"]]


def test_where_a_schedule_is_none_its_class_keeps_its_key() -> None:
    cells = {"schedule.lr": ["null", ABSENT], "schedule.lr._target_": [ABSENT, "lit_optim.schedules.Cosine"]}
    assert laid_out(["a", "b"], {}, cells, {}, 80).splitlines()[0] == "run  schedule.lr  schedule.lr._target_"


def test_without_a_setting_that_differs_there_are_the_results() -> None:
    assert laid_out(["a"], {"best": ["1"]}, {}, {"steps": ["5"]}, 80).splitlines()[0] == "run  best  steps"
    assert laid_out(["a"], {"best": ["1" * 70], "n": ["2" * 70]}, {}, {}, 80).count("run") == 2


def test_a_setting_may_be_called_as_a_column() -> None:
    text = laid_out(["a", "b"], {"n": ["3", "4"]}, {"n": ["1", "2"], "run": ["x", "y"]}, {}, 80)
    assert [line.split() for line in text.splitlines() if "─" not in line] == [
        ["run", "n", "n", "run"], ["a", "3", "1", "x"], ["b", "4", "2", "y"]]  # fmt: skip


def test_runs_of_one_name_are_not_mixed_up() -> None:
    lines = laid_out(["a", "a"], {}, settings(run(ADAM), run(LION)), {}, 60).splitlines()
    assert ["setting", "a", "a"] in [line.split() for line in lines]


KEYS = st.sampled_from(["optimizer._target_", "optimizer.lr", "optimizer.eps", "rules.a.lr", "rules.a.match", "seed"])


@given(
    st.lists(st.dictionaries(KEYS, st.sampled_from("xyz"), max_size=6), min_size=1, max_size=5), st.integers(40, 120)
)
def test_whatever_differs_every_setting_is_told(rows: Sequence[dict[str, str]], width: int) -> None:
    cells: Cells = settings(*rows)
    columns, notes = folded(cells)
    for key, of_key in cells.items():
        folded_in = [node for node in ("optimizer", "rules.a") if node in columns and key.startswith(f"{node}.")]
        if key in columns:
            assert columns[key] == of_key
        elif not key.endswith("_target_"):
            [node] = folded_in
            said = {cell for cell in of_key if cell != ABSENT}
            name = key.removeprefix(f"{node}.")
            told = {
                note.split(f"{name}\N{NO-BREAK SPACE}")[1][0]
                for note in notes
                if note.startswith(f"with {node}") and f"{name}\N{NO-BREAK SPACE}" in note
            }
            assert told == said
    text = laid_out([f"row {number}" for number in range(len(rows))], {}, cells, {}, width)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("120", 120), (None, 120)])
def test_a_pipe_has_the_width_that_the_environment_says(columns: str | None, width: int) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    code = "from lit_optim.tables import terminal_width; print(terminal_width())"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=environment if columns is None else environment | {"COLUMNS": columns}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert int(told.stdout) == width
    assert terminal_width() >= 80
