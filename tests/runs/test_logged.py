from __future__ import annotations

import math
from pathlib import Path

from runfolders import write_events

from lit_optim.metrics_table import MetricsTable
from lit_optim.runs.logged import curve_of, tags_of

EVENTS = "events.out.tfevents.1700000000.host.1.0"


def table(folder: Path) -> MetricsTable:
    return MetricsTable(folder / "metrics.csv")


def test_a_table_is_read_where_there_are_no_events(tmp_path: Path) -> None:
    table(tmp_path).append([(2, {"val/acc": 0.75}), (0, {"val/acc": 0.5}), (1, {"train/loss": math.inf})])
    assert curve_of(tmp_path, "val/acc") == ({0: 0.5, 2: 0.75}, [])
    assert [*curve_of(tmp_path, "val/acc")[0]] == [0, 2]
    assert curve_of(tmp_path, "train/loss") == ({1: math.inf}, [])
    assert curve_of(tmp_path, "val") == ({}, [])
    assert tags_of(tmp_path) == {"val/acc", "train/loss"}


def test_events_come_first_and_the_table_adds_what_they_lack(tmp_path: Path) -> None:
    write_events(tmp_path / EVENTS, {"val/acc": [0.5, 0.25]})
    table(tmp_path).append([(0, {"val/acc": 9.0}), (1, {"mine": 1.0}), (2, {"val/acc": 0.125})])  # resumed with it
    assert curve_of(tmp_path, "val/acc") == ({0: 0.5, 1: 0.25, 2: 0.125}, [])
    assert curve_of(tmp_path, "mine") == ({1: 1.0}, [])
    assert tags_of(tmp_path) == {"val/acc", "mine"}


def test_a_folder_without_either_has_no_curves(tmp_path: Path) -> None:
    assert curve_of(tmp_path, "val/acc") == ({}, [])
    assert tags_of(tmp_path) == set()


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table(tmp_path).append([(0, {"a": 1.0})])
    with path.open("a") as file:
        file.write("1,0.")
    assert curve_of(tmp_path, "a") == ({0: 1.0}, [f"{path}: it is cut off or damaged; what stands before that is used"])
    for other in ("name,price\n", "\xff"):
        path.write_text(other, encoding="latin-1")
        curve, [problem] = curve_of(tmp_path, "a")
        assert curve == {}
        assert problem.startswith(f"{path}: it can't be read: ")
        assert tags_of(tmp_path) == set()
