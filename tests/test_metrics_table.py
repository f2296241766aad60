from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lit_optim.errors import RunError
from lit_optim.metrics_table import MetricsTable, read_column, read_tags


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    written = MetricsTable(path)
    written.append([(0, {"train/loss": 0.1 + 0.2}), (1, {"train/loss": float("nan")})])
    written.append([(1, {"val/acc": 1e-300}), (2**40, {"train/loss": float("inf"), 'odd, "tag"': 3.0})])
    assert read_tags(path) == ["train/loss", "val/acc", 'odd, "tag"']
    assert {step: repr(value) for step, value in read_column(path, "train/loss")[0].items()} == {
        0: "0.30000000000000004",
        1: "nan",
        2**40: "inf",
    }
    assert read_column(path, "val/acc") == ({1: 1e-300}, True)
    assert read_column(path, 'odd, "tag"') == ({2**40: 3.0}, True)
    assert read_column(path, "test/acc") == ({}, True)
    assert [row["step"] for row in table(path)] == ["0", "1", "1", str(2**40)]
    assert {len(line.split(",")) for line in path.read_text().splitlines()[1:]} == {4}, "each row has all cells"
    assert [one.name for one in path.parent.iterdir()] == ["metrics.csv"]


def test_what_is_there_stays_and_what_comes_again_goes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsTable(path).append([(step, {"a": float(step)}) for step in range(5)])
    again = MetricsTable(path)
    again.drop_from(3)
    again.drop_from(3)
    again.append([(3, {"a": 30.0, "b": 1.0})])
    assert read_column(path, "a") == ({0: 0.0, 1: 1.0, 2: 2.0, 3: 30.0}, True)
    assert read_column(path, "b") == ({3: 1.0}, True)


def test_nothing_is_made_of_nothing(tmp_path: Path) -> None:
    MetricsTable(tmp_path / "metrics.csv").drop_from(0)
    assert list(tmp_path.iterdir()) == []
    assert read_tags(tmp_path / "metrics.csv") == []


@pytest.mark.parametrize("end", ["", "7", "7,0.", "7,0.25"], ids=["whole", "step", "number", "no end"])
def test_a_row_that_a_kill_broke_off_is_none(tmp_path: Path, end: str) -> None:
    path = tmp_path / "metrics.csv"
    MetricsTable(path).append([(6, {"a": 6.0, "b": 0.5})])
    with path.open("a") as file:
        file.write(end)
    assert read_column(path, "a") == ({6: 6.0}, end == "")
    MetricsTable(path).append([(7, {"b": 0.75})])
    assert read_column(path, "b") == ({6: 0.5, 7: 0.75}, True)
    assert len(table(path)) == 2


def test_a_kill_while_the_header_changes_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    written = MetricsTable(path)
    written.append([(0, {"a": 1.0})])
    before = path.read_bytes()

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        written.append([(1, {"b": 1.0})])
    monkeypatch.undo()
    assert path.read_bytes() == before
    written.append([(1, {"b": 2.0})])
    assert read_column(path, "b") == ({1: 2.0}, True)


def test_another_kind_of_table_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("name,price\napple,1\n")
    with pytest.raises(RunError, match=r"metrics.csv: its first column is not 'step'"):
        MetricsTable(path).append([(0, {"a": 1.0})])
    assert path.read_text() == "name,price\napple,1\n"


def test_what_is_damaged_counts_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n0,1.0\n1,?\n2,3.0\n")
    assert read_column(path, "a") == ({0: 1.0}, False)
