from __future__ import annotations

import csv
import io
import json
import math
import platform
from pathlib import Path

import pytest
from runfolders import make_run

from lit_optim.runs.comparison import Comparison, compare
from lit_optim.runs.finding import find_runs
from lit_optim.runs.reading import read_run
from lit_optim.runs.telling import as_csv, as_json, as_text, row_labels

ACCURACIES = {(0.1, 1): 0.9, (0.1, 2): 0.91, (0.1, 3): 0.95, (0.01, 1): 0.8, (0.01, 2): 0.82, (0.01, 3): 0.81}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(*given: str, pool: bool = True, metric: str | None = None) -> Comparison:
    return compare([read_run(folder) for folder in find_runs(given or ["runs"])], metric=metric, pool=pool)


def grid() -> None:
    for job, ((lr, seed), accuracy) in enumerate(ACCURACIES.items()):
        make_run(Path(f"runs/x/{job}"), lr=lr, seed=seed, metrics={"val/acc": [accuracy, accuracy - 0.1]})


def test_the_whole_text() -> None:
    grid()
    assert as_text(compared(), width=132).splitlines() == [
        "run      best val/acc  n  optimizer.lr  last val/acc  steps    time",
        "───────────────────────────────────────────────────────────────────",
        "0, 1, 2  0.92 ± 0.026  3           0.1  0.82 ± 0.026    100  12.5 s",
        "3, 4, 5   0.81 ± 0.01  3          0.01   0.71 ± 0.01    100  12.5 s",
        "",
        "6 runs in runs/x, all finished, by best val/acc (higher is better); mean ± standard deviation over n seeds",
        "first row less second: +0.11, 95% interval +0.04428 to +0.1757 (paired by 3 seeds), which leaves out 0",
        "plans, 2 → 4:",
        "    default: lr 0.1 → 0.01",
        "best run   runs/x/2",
    ]


def test_the_time_alone_makes_no_further_table() -> None:
    grid()
    whole = as_text(compared("."), 132).split("\n\n")[0]
    heads = [as_text(compared("."), width).splitlines()[0] for width in (len(whole.splitlines()[1]), 132)]
    assert heads == [whole.splitlines()[0]] * 2
    assert heads[0].endswith("  time")
    narrower = as_text(compared("."), len(whole.splitlines()[1]) - 1).splitlines()
    assert narrower[0] == heads[0].removesuffix("time").rstrip()
    assert sum(line.endswith(("  time", "12.5 s")) for line in narrower) == 0


def test_a_mode_that_was_guessed_is_told() -> None:
    make_run(Path("runs/a"), metrics={"val/score": 0.5}, optimized_metric="val/score")
    by = "by best val/score (higher is better, which is assumed; else lit-optim compare --mode min)"
    assert by in as_text(compared(), width=132)


def test_every_run_by_itself() -> None:
    grid()
    lines = as_text(compared(pool=False), width=132).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["run", "best", "val/acc", "seed", "optimizer.lr", "last", "val/acc", "steps", "time"],
        ["─" * len(lines[1])],
        ["2", "0.95", "3", "0.1", "0.85", "100", "12.5", "s"],
        ["1", "0.91", "2", "0.1", "0.81", "100", "12.5", "s"],
    ]
    assert lines[-2:] == ["6 runs in runs/x, all finished, by best val/acc (higher is better)", "best run   runs/x/2"]


def test_a_setting_that_a_run_lacks_is_a_dash_and_what_is_null_is_said() -> None:
    make_run(Path("runs/a"), rules={"head": {"lr": None}}, metrics={"val/acc": 0.9})
    make_run(Path("runs/b"), metrics={"val/acc": 0.8})
    first, second = (line.split() for line in as_text(compared()).splitlines()[2:4])
    assert (first[2], second[2]) == ("null", "–")


def test_what_is_damaged_or_not_there_yet_is_shown_as_that() -> None:
    make_run(Path("runs/a"), lr=1.0, metrics={"val/acc": math.nan})
    make_run(Path("runs/b"), lr=2.0, status=None)
    make_run(Path("runs/c"), lr=3.0, metrics={"val/acc": 0.5})
    make_run(Path("runs/d"), lr=4.0)
    Path("runs/d/.hydra/config.yaml").write_text("[")
    cells = [line.split() for line in as_text(compared()).splitlines()[2:6]]
    assert [line[0] for line in cells] == ["c", "a", "b", "d"]
    assert cells[1][1:4] == ["nan", "1.0", "nan"]
    assert cells[2][1:] == ["–", "2.0", "–", "–", "–", "started"]
    assert cells[3][2] == "–"
    assert cells[3][-1] == "unreadable"


def test_runs_that_can_go_on_are_told_with_the_command() -> None:
    make_run(Path("runs/a"), lr=1.0, metrics={"val/acc": 0.5})
    for number, status in enumerate(["crashed", "running", "crashed", "crashed", "crashed", "finished"]):
        run = make_run(Path(f"runs/my {status}{number}"), lr=2.0 + number, status=status, host=platform.node())
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "last.ckpt").touch()
    make_run(Path("runs/b"), lr=9.0, status="crashed")  # before there was a checkpoint
    comparison = compared()
    told = as_text(comparison, width=40).splitlines()
    assert [line for line in told if "resume" in line] == [
        f"    lit-optim resume 'runs/my {run}'" for run in ("crashed0", "crashed2", "crashed3")
    ]
    assert "    and likewise 2 more that were killed" in told
    assert told[-1] == "best run   runs/a"
    runs = {run["folder"]: run for row in json.loads(as_json(comparison))["rows"] for run in row["runs"]}
    assert runs["runs/my running1"]["resume"] == "lit-optim resume 'runs/my running1'"
    assert [name for name, run in runs.items() if run["resume"] is None] == ["runs/a", "runs/my finished5", "runs/b"]
    assert ", those that have finished first" in " ".join(as_text(comparison).split())


def test_the_best_of_runs_of_which_none_has_finished_is_told_as_that() -> None:
    make_run(Path("runs/a"), lr=1.0, status="running")
    make_run(Path("runs/b"), lr=2.0, status="crashed", metrics={"val/acc": 0.4})
    text = as_text(compared())
    assert text.splitlines()[-1] == "best run   runs/a (running, so far)"
    assert "finished first" not in text


def test_runs_that_lack_the_metric_are_told_with_what_they_have() -> None:
    make_run(Path("runs/a"), lr=1.0)
    assert "without" not in as_text(compared())
    make_run(Path("runs/b"), lr=2.0, metrics={"val/mae": 0.3, "train/loss": 0.4})
    make_run(Path("runs/c"), lr=3.0, metrics={"val/mae": 0.3})
    make_run(Path("runs/d"), lr=4.0, status=None)
    assert "b and 1 more without val/acc; --metric compares by train/loss, val/mae" in as_text(compared())


def test_runs_that_do_not_count_and_those_that_are_repeated_are_named() -> None:
    make_run(Path("runs/a"), seed=1)
    make_run(Path("runs/b"), seed=1)
    make_run(Path("runs/c"), seed=2, status="crashed")
    text = as_text(compared())
    assert "a, b, c" in text
    assert text.splitlines()[2].endswith("2 finished, 1 crashed")
    assert "not in the means of their rows: c (crashed)" in text
    assert "1 run with the seed and the settings of another: such runs count once, by their mean" in " ".join(
        text.split()
    )


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ([0.9], [0.8], "no interval: it takes 2 seeds or more in each row, and there are 1 and 1"),
        ([0.9, 0.5], [0.8, 0.5], "(paired by 2 seeds), which holds 0: they can't be told apart"),
        ([0.9, 0.9], [0.8, 0.8], "which has no width: so few values that don't vary tell nothing of how others would"),
    ],
)
def test_how_sure_the_difference_is(first: list[float], second: list[float], told: str) -> None:
    for lr, values in ((0.1, first), (0.2, second)):
        for seed, value in enumerate(values):
            make_run(Path(f"runs/{lr}/{seed}"), lr=lr, seed=seed, metrics={"val/acc": value})
    assert told in " ".join(as_text(compared(), width=300).split())


def test_the_best_two_of_many_are_told_to_look_better_than_they_are() -> None:
    grid()
    assert "optimistic" not in as_text(compared())
    make_run(Path("runs/x/6"), lr=0.5, metrics={"val/acc": 0.1})
    make_run(Path("runs/x/7"), lr=0.6, metrics={"val/acc": math.nan})
    assert "leaves out 0; optimistic, since they are the best two of 3 rows" in as_text(compared(), width=300)


def test_other_seeds_are_told_as_welchs() -> None:
    for job, ((lr, _), value) in enumerate(ACCURACIES.items()):
        make_run(Path(f"runs/{job}"), lr=lr, seed=job, metrics={"val/acc": value})
    text = as_text(compared(), width=300)
    assert "(Welch, n 3 and 3), which leaves out 0" in text
    assert "0, 1, 2" in text.splitlines()[2]


def test_equal_plans_and_equal_settings_are_said_to_be_equal() -> None:
    for seed in (1, 2):
        make_run(Path(f"runs/{seed}"), seed=seed)
    assert "plans, 1 → 2: the same" in as_text(compared())
    (Path("runs/1/.hydra/config.yaml")).write_text(Path("runs/2/.hydra/config.yaml").read_text())
    assert "no setting differs" in as_text(compared(pool=False), width=132)


def test_long_names_are_cut_and_stay_different() -> None:
    long = "a_very_long_name_of_an_experiment_that_somebody_has_run_over_and_over_again"
    for job in range(3):
        key = f"key_{long}"
        make_run(Path(f"runs/{long}/{long}{job}"), **{key: f"{long}{job}", f"{key}_2": job}, seed=job)
    text = as_text(compared("runs"), width=100)
    lines = text[: text.index("3 runs in")].splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line.split() for line in lines if line.startswith("a_very")]
    assert len({row[0] for row in rows}) == 3
    assert len({row[3] for row in rows[:3]}) == 3
    headings = [line for line in lines if line.startswith("run ")]
    shown = [one for line in headings for one in line.split()[1:] if one.startswith("key")]
    assert len({*shown}) == len(shown) == 2


def test_rows_of_many_runs_are_named_by_the_first() -> None:
    for seed in range(40):
        make_run(Path(f"runs/{seed}"), seed=seed)
    assert as_text(compared()).splitlines()[2].startswith("0 and 39 more   ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.0, "59.0 s"), (61, "1 min"), (3599, "1 h 00 min"), (90000, "25 h 00 min")],
)
def test_times_are_told_as_a_person_would(seconds: float, text: str) -> None:
    make_run(Path("runs/a"), seconds=seconds)
    assert f"  {text}\n" in as_text(compared())


def test_as_csv_it_has_a_line_a_row_and_all_digits() -> None:
    grid()
    rows = [*csv.DictReader(io.StringIO(as_csv(compared())))]
    assert [row["run"] for row in rows] == ["runs/x/2;runs/x/1;runs/x/0", "runs/x/4;runs/x/5;runs/x/3"]
    assert [*rows[0]] == [
        "run", "status", "n", "best val/acc", "best val/acc std", "last val/acc", "last val/acc std", "optimizer.lr",
        "steps", "epochs", "seconds",
    ]  # fmt: skip
    assert float(rows[0]["best val/acc"]) == pytest.approx(0.92, rel=1e-15)
    assert (rows[0]["optimizer.lr"], rows[0]["n"], rows[0]["seconds"]) == ("0.1", "3", "12.5")
    [alone, *_] = csv.DictReader(io.StringIO(as_csv(compared(pool=False))))
    assert (alone["best val/acc"], alone["best val/acc std"], alone["seed"]) == ("0.95", "", "3")


def test_csv_has_nothing_for_nothing_and_nan_for_nan() -> None:
    make_run(Path("runs/a"), lr=1.0, metrics={"val/acc": math.nan}, note="with, comma")
    make_run(Path("runs/b"), lr=2.0, status=None)
    rows = [*csv.DictReader(io.StringIO(as_csv(compared())))]
    assert [row["best val/acc"] for row in rows] == ["nan", ""]
    assert [row["note"] for row in rows] == ["with, comma", ""]
    assert rows[1]["steps"] == ""


def test_as_json_it_has_all() -> None:
    grid()
    told = json.loads(as_json(compared(), "lit-optim train"))
    assert (told["metric"], told["mode"], told["differing"]) == ("val/acc", "max", ["optimizer.lr"])
    first = told["rows"][0]
    assert [run["folder"] for run in first["runs"]] == ["runs/x/2", "runs/x/1", "runs/x/0"]
    assert first["runs"][0] == {
        "folder": "runs/x/2", "seed": 3, "status": "finished", "error": None, "steps": 100, "epochs": 2,
        "seconds": 12.5, "resume": None, "counted": True,
    }  # fmt: skip
    assert (first["n"], first["settings"], first["status"]) == (3, {"optimizer.lr": 0.1}, "finished")
    assert first["best"]["values"] == [0.95, 0.91, 0.9]
    assert first["best"]["std"] == pytest.approx(0.026457513)
    assert told["difference"]["kind"] == "paired"
    assert told["difference"]["low"] == pytest.approx(0.04428, abs=1e-5)
    assert told["plans"] == {"from": "runs/x/2", "to": "runs/x/4", "changes": ["default: lr 0.1 → 0.01"]}
    assert told["winner"] == {"run": "runs/x/2", "command": "lit-optim train"}
    assert told["problems"] == []


def test_json_holds_nothing_that_json_lacks() -> None:
    make_run(Path("runs/a"), lr=math.inf, metrics={"val/acc": math.nan}, seconds=1.0)
    make_run(Path("runs/b"), lr=math.nan, status=None, mixed=[{"a": math.inf}])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    told = json.loads(as_json(compared()), parse_constant=refuse)
    assert told["winner"] is None
    assert told["rows"][0]["best"] == {"mean": None, "std": None, "values": [None]}
    assert told["rows"][1]["best"] is None
    assert [row["settings"]["optimizer.lr"] for row in told["rows"]] == ["inf", "nan"]
    assert told["rows"][1]["settings"]["mixed"] == [{"a": "inf"}]


def test_a_row_is_labelled_by_what_differs_if_that_is_little() -> None:
    grid()
    assert row_labels(compared()) == ["lr=0.1", "lr=0.01"]
    assert row_labels(compared("runs/x/0")) == ["0"]
    make_run(Path("runs/x/6"), **{f"a_setting_{number}": number for number in range(5)})
    assert row_labels(compared("runs/x/0", "runs/x/6"))[0] in ("0", "6")
    Path("runs/x/0/.hydra/config.yaml").write_text("[")
    Path("runs/x/1/.hydra/config.yaml").write_text("[")
    assert sorted(row_labels(compared("runs/x/0", "runs/x/1"))) == ["0", "1"]
