from __future__ import annotations

import math
import random
import statistics
from pathlib import Path

import pytest
from runfolders import make_run, write_metrics

import lit_optim as lo
from lit_optim.runs import comparison
from lit_optim.runs.comparison import Comparison, compare
from lit_optim.runs.finding import find_runs
from lit_optim.runs.metric import Metric
from lit_optim.runs.reading import Run, read_run

NAN = math.nan


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(**more: object) -> Comparison:
    return compare([read_run(folder) for folder in find_runs(["."])], **more)  # type: ignore[arg-type]


def names(comparison: Comparison) -> list[list[str]]:
    return [[run.folder.name for run in row.runs] for row in comparison.rows]


def grid(values: dict[tuple[float, int], float]) -> None:
    for job, ((lr, seed), value) in enumerate(values.items()):
        make_run(Path(f"{job}"), lr=lr, seed=seed, metrics={"val/acc": [value, value / 2]})


def test_runs_that_differ_by_their_seeds_share_a_row() -> None:
    grid({(0.1, 1): 0.9, (0.1, 2): 0.94, (0.1, 3): 0.92, (0.2, 1): 0.8, (0.2, 2): 0.7, (0.2, 3): 0.75})
    found = compared()
    assert found.metric == Metric("val/acc", "max")
    assert names(found) == [["1", "2", "0"], ["3", "5", "4"]]
    assert found.keys == ("optimizer.lr",)
    first = found.rows[0]
    assert first.best.by_seed == {"2.0": 0.94, "3.0": 0.92, "1.0": 0.9}
    assert first.best.mean == pytest.approx(0.92)
    assert first.best.std == pytest.approx(statistics.stdev([0.9, 0.94, 0.92]))
    assert first.last.mean == pytest.approx(0.46)
    assert found.winner is first.runs[0]
    assert found.winner.folder.name == "1"
    assert found.difference is not None
    assert (found.difference.kind, found.difference.counts) == ("paired", (3, 3))
    assert found.difference.mean == pytest.approx(0.17)


def test_without_pooling_every_run_has_a_row_and_the_seed_is_a_setting() -> None:
    grid({(0.1, 1): 0.9, (0.1, 2): 0.94, (0.2, 1): 0.8})
    found = compared(pool=False)
    assert names(found) == [["1"], ["0"], ["2"]]
    assert found.keys == ("seed", "optimizer.lr")
    assert (found.difference, found.plans) == (None, None)


def test_a_job_that_was_refused_has_no_plan_to_compare() -> None:
    make_run(Path("a"))
    (make_run(Path("b"), lr=0.2, status="refused", metrics={}) / "plan.json").unlink()
    found = compared()
    assert names(found) == [["a"], ["b"]]
    assert (found.plans, found.problems) == (None, ())


def test_what_has_not_come_to_its_end_stands_behind_what_has() -> None:
    for name, status, value in (
        ("a", "running", 0.9),
        ("b", "finished", 0.5),
        ("c", "crashed", 0.8),
        ("d", "crashed", NAN),
    ):
        make_run(Path(name), lr=ord(name), status=status, metrics={"val/acc": value})
    make_run(Path("e"), lr=1.0, metrics={"val/acc": NAN})
    found = compared()
    assert names(found) == [["b"], ["a"], ["c"], ["e"], ["d"]]
    assert found.winner is found.rows[0].runs[0]
    unfinished = compare([read_run(Path(name)) for name in "ca"])
    assert names(unfinished) == [["a"], ["c"]]
    assert unfinished.winner is not None


def test_a_row_of_which_some_runs_have_finished_stands_with_those() -> None:
    make_run(Path("a"), lr=1.0, seed=1, metrics={"val/acc": 0.5})
    make_run(Path("b"), lr=1.0, seed=2, status="crashed", metrics={"val/acc": 0.9})
    make_run(Path("c"), lr=2.0, status="crashed", metrics={"val/acc": 0.8})
    assert names(compared()) == [["a", "b"], ["c"]]


def test_other_seeds_are_welchs_and_the_seeds_are_shown() -> None:
    grid({(0.1, 1): 0.9, (0.1, 2): 0.94, (0.2, 3): 0.8, (0.2, 4): 0.7})
    found = compared()
    assert found.keys == ("seed", "optimizer.lr")
    assert found.difference is not None
    assert found.difference.kind == "Welch"


def test_the_order_does_not_depend_on_that_of_the_runs() -> None:
    grid({(lr, seed): round(lr + seed // 3, 3) for lr in (0.1, 0.2, 0.3) for seed in range(4)})
    runs = [read_run(folder) for folder in find_runs(["."])]
    first = compare(runs)
    again = compare(random.Random(0).sample(runs, len(runs)))
    assert [row.best.mean for row in first.rows] == [row.best.mean for row in again.rows]
    assert compare(runs) == first


@pytest.mark.parametrize(("mode", "order"), [(None, ["1", "0"]), ("min", ["1", "0"]), ("max", ["0", "1"])])
def test_losses_are_sorted_from_the_lowest(mode: str | None, order: list[str]) -> None:
    for job, curve in enumerate([[3.0, 2.0], [1.5, 1.75]]):
        make_run(Path(f"{job}"), lr=job + 1.0, metrics={"val/loss": curve})
    found = compared(metric="val/loss", mode=mode)
    assert names(found) == [[name] for name in order]
    best = {row.runs[0].folder.name: row.best.mean for row in found.rows}
    assert best == ({"0": 3.0, "1": 1.75} if mode == "max" else {"0": 2.0, "1": 1.5})


def test_events_are_read_only_where_the_run_kept_the_other_extreme(monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(Path("a"), metrics={"val/score": [0.3, 0.2, 0.25], "val/acc": 0.5})
    read: list[str] = []
    original = comparison.curve_of
    monkeypatch.setattr(comparison, "curve_of", lambda folder, tag: read.append(tag) or original(folder, tag))
    assert compared().rows[0].best.mean == 0.5
    assert read == []
    assert compared(metric="val/score", mode="min").rows[0].best.mean == pytest.approx(0.2)
    assert read == ["val/score"]


def test_where_no_curve_tells_the_best_the_last_value_stands_for_it_and_that_is_told() -> None:
    for job in range(3):
        [events] = make_run(Path(f"{job}"), lr=job + 1.0, metrics={"val/score": [0.3, 0.2, 0.25]}).glob("events*")
        events.unlink()
    found = compared(metric="val/score", mode="min")
    assert [row.best.mean for row in found.rows] == [0.25] * 3
    assert found.problems == (
        "0 and 2 more: no curve of val/score to find its minimum in, so the last value stands for the best",
    )


def test_numbers_come_first_then_nan_then_nothing_then_what_is_unreadable() -> None:
    make_run(Path("a"), lr=1.0, metrics={"val/acc": NAN})
    make_run(Path("b"), lr=2.0, status=None)
    make_run(Path("c"), lr=3.0, metrics={"val/acc": 0.1})
    make_run(Path("d"), lr=4.0, metrics={"val/acc": 0.9})
    Path("d/.hydra/config.yaml").write_text("[")
    make_run(Path("e"), lr=5.0, metrics={"val/acc": 0.2}, status="running")
    found = compared()
    assert names(found) == [["c"], ["e"], ["a"], ["b"], ["d"]]
    assert [next(iter(row.statuses)) for row in found.rows] == [
        "finished", "running", "finished", "started", "unreadable",
    ]  # fmt: skip
    assert found.keys == ("optimizer.lr",)
    assert len(found.problems) == 1


@pytest.mark.parametrize("metric", ["val/acc", "val/loss"])
def test_nan_is_behind_every_number_wherever_it_stood(metric: str) -> None:
    for job, value in enumerate([NAN, 0.1, 0.3, NAN, 0.2, NAN, 0.4]):
        make_run(Path(f"{job}"), lr=job + 1.0, metrics={metric: value})
    order = ["6", "2", "4", "1"] if metric == "val/acc" else ["1", "4", "2", "6"]
    assert names(compared(metric=metric)) == [[name] for name in [*order, "0", "3", "5"]]


def test_the_mean_of_a_row_with_a_nan_is_nan_and_comes_last() -> None:
    grid({(0.1, 1): 0.9, (0.1, 2): NAN, (0.2, 1): 0.1, (0.2, 2): 0.1})
    found = compared()
    assert [row.runs[0].folder.name for row in found.rows] == ["2", "0"]
    assert found.difference is None


def test_runs_that_have_not_finished_do_not_count_beside_those_that_have() -> None:
    make_run(Path("a"), seed=1, metrics={"val/acc": 0.5})
    make_run(Path("b"), seed=2, metrics={"val/acc": 0.9}, status="crashed")
    make_run(Path("c"), seed=3, status=None)
    make_run(Path("d"), lr=0.2, seed=1, metrics={"val/acc": 0.3}, status="running")
    make_run(Path("e"), lr=0.2, seed=2, metrics={"val/acc": 0.1}, status="crashed")
    first, second = compared().rows
    assert (first.best.n, first.best.mean) == (1, 0.5)
    assert [run.folder.name for run in first.left_out] == ["b", "c"]
    assert [run.folder.name for run in first.counted] == ["a"]
    assert (second.best.n, second.best.mean) == (2, pytest.approx(0.2))
    assert second.left_out == ()


def test_a_seed_that_was_run_twice_counts_once() -> None:
    for name, seed, value in [("a", 1, 0.5), ("b", 1, 0.7), ("c", 2, 0.8)]:
        make_run(Path(name), seed=seed, metrics={"val/acc": value})
    [row] = compared().rows
    assert sorted(row.best.by_seed.values()) == [pytest.approx(0.6), 0.8]


def test_runs_without_a_seed_count_one_by_one() -> None:
    for name in ("a", "b"):
        make_run(Path(name), seed=None)
    [row] = compared().rows
    assert row.best.n == 2


def test_runs_without_a_config_are_alone_and_make_no_setting_differ() -> None:
    for name in ("a", "b"):
        make_run(Path(name), seed=3)
    for name in ("c", "d"):
        (make_run(Path(name)) / ".hydra" / "config.yaml").unlink()
    found = compared()
    assert sorted(map(len, names(found))) == [1, 1, 2]
    assert found.keys == ()


def test_the_plans_of_the_two_best_are_compared_in_their_order() -> None:
    grid({(0.1, 1): 0.9, (0.1, 2): 0.94, (0.2, 1): 0.95, (0.2, 2): 0.96, (0.3, 1): 0.1})
    found = compared()
    assert found.plans is not None
    one, other, changes = found.plans
    assert (one.folder.name, other.folder.name, changes) == ("3", "1", ("default: lr 0.2 → 0.1",))


@pytest.mark.parametrize("pool", [True, False])
def test_the_plans_of_exactly_two_runs_are_compared(pool: bool) -> None:
    grid({(0.1, 1): 0.9, (0.1, 2): 0.94})
    found = compared(pool=pool)
    assert found.plans is not None
    assert [run.folder.name for run in found.plans[:2]] == ["1", "0"]
    assert found.plans[2] == ()


@pytest.mark.parametrize("text", ["{", None])
def test_a_plan_that_cannot_be_read_is_a_warning(text: str | None) -> None:
    grid({(0.1, 1): 0.9, (0.2, 1): 0.94})
    Path("0/plan.json").unlink()
    if text is not None:
        Path("0/plan.json").write_text(text)
    found = compared()
    assert found.plans is None
    [problem] = found.problems
    assert problem.startswith("0/plan.json: ")
    assert problem.endswith("; the plans are not compared")


def test_without_any_metric_there_are_rows_and_no_winner() -> None:
    make_run(Path("a"), status=None)
    make_run(Path("b"), status="running", metrics={})
    found = compared()
    assert (found.metric, found.winner, found.difference) == (None, None, None)
    assert [[run.status for run in row.runs] for row in found.rows] == [["started", "running"]]


def test_an_unknown_metric_is_refused() -> None:
    make_run(Path("a"))
    with pytest.raises(lo.ConfigError, match="--metric: no run has this metric"):
        compared(metric="val/accuracy")


def only_recorded(folder: Path, tag: str, values: list[float], **more: object) -> None:
    """A run whose ``metrics.json`` says nothing of a tag."""
    make_run(folder, metrics={tag: values}, **more)  # type: ignore[arg-type]
    write_metrics(folder, str(more.get("status", "finished")), {"val/acc": [0.5]})


def test_best_and_last_of_what_only_curves_hold_come_from_the_curves() -> None:
    only_recorded(Path("a"), "grad_norm/default", [3.0, 1.0, NAN, 2.0], lr=0.1)
    only_recorded(Path("b"), "grad_norm/default", [5.0, 4.0], lr=0.2)
    only_recorded(Path("c"), "grad_norm/default", [NAN], lr=0.3)
    make_run(Path("d"), lr=0.4)
    ticked: list[Run] = []
    found = compared(metric="grad_norm/default", mode="min", tick=ticked.append)
    assert found.metric == Metric("grad_norm/default", "min")
    assert [(row.best.mean, row.last.mean) for row in found.rows[:2]] == [(1.0, 2.0), (4.0, 4.0)]
    assert names(found) == [["a"], ["b"], ["c"], ["d"]]
    assert (math.isnan(found.rows[2].best.mean), found.rows[3].best.n) == (True, 0)
    assert len(ticked) == 4
    assert compared(metric="grad_norm/default", mode="max").rows[0].best.mean == 5.0


def test_damage_in_these_curves_is_told_but_not_of_a_run_that_is_still_writing() -> None:
    for name, status in (("a", "finished"), ("b", "running")):
        only_recorded(Path(name), "train/loss", [3.0, 2.0, 1.0], status=status)
        [events] = Path(name).glob("events*")
        events.write_bytes(events.read_bytes()[:-3])
    found = compared(metric="train/loss", pool=False)
    assert [row.best.mean for row in found.rows] == [2.0, 2.0]
    [problem] = [one for one in found.problems if "tfevents" in one]
    assert problem.startswith("a/")


def test_no_curve_is_read_where_the_metric_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    grid({(0.1, 1): 0.9, (0.2, 1): 0.94})
    make_run(Path("without"), lr=0.3, metrics={"val/loss": 0.1})
    monkeypatch.setattr(comparison, "curve_of", None)
    assert len(compared(metric="val/acc").rows) == 3
    assert len(compared().rows) == 3


def test_an_unknown_metric_is_refused_with_what_is_kept_and_what_is_recorded() -> None:
    only_recorded(Path("a"), "train/loss", [1.0])
    with pytest.raises(lo.ConfigError) as refusal:
        compared(metric="train/los")
    assert str(refusal.value).splitlines()[2:4] == ["    allowed: train/loss, val/acc", "    nearest: train/loss"]
