from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lit_optim as lo
from lit_optim.runs.metric import Metric, falls, known_mode, metric_of
from lit_optim.runs.reading import Run


def run(*tags: str, optimized: str | None = "val/acc", **config: Any) -> Run:
    whole = {"optimized_metric": optimized, **{key.replace("__", "."): value for key, value in config.items()}}
    return Run(Path("run"), "finished", whole, {}, dict.fromkeys(tags, 0.5))


def monitor(tag: str, mode: str) -> dict[str, str]:
    return {"callbacks__checkpoint__monitor": tag, "callbacks__checkpoint__mode": mode}


@pytest.mark.parametrize(
    ("tag", "down"),
    [("val/loss", True), ("loss", True), ("val/Loss", True), ("test/error", True), ("val/acc", False), ("f1", False),
     ("val/mae", True), ("test/RMSE", True), ("val/mse_masked", True), ("nll", True), ("val/top5_err", True),
     ("val/perplexity", True), ("val/mae2", True), ("val/maestro", False), ("val/lower", False), ("val/terrain", False),
     ("val/mae_acc", False), ("mae/linear_f1", False), ("val/acc_err", True), ("wer/val", True),
     ("grad_norm/default", True), ("total/update_norm", True), ("dead_relu/net.1", True), ("lr/grad_norms", False)],
)  # fmt: skip
def test_a_name_says_whether_less_is_better(tag: str, down: bool) -> None:
    assert falls(tag) == down


def test_it_is_what_most_of_the_runs_optimize_and_have() -> None:
    runs = [run("val/acc", "test/acc", optimized=tag) for tag in ("test/acc", "val/acc", "test/acc")]
    assert metric_of(runs) == Metric("test/acc", "max")
    assert metric_of([*runs, *[run("val/acc", optimized="never/logged")] * 9]) == Metric("test/acc", "max")


def test_it_is_what_the_checkpoints_go_by_where_no_run_has_that() -> None:
    runs = [run("val/loss", "val/score", **monitor("val/score", "min"))]
    assert metric_of(runs) == Metric("val/score", "min")


@pytest.mark.parametrize(
    ("tag", "config", "mode"),
    [
        ("val/loss", {}, "min"),
        ("val/acc", {}, "max"),
        ("val/score", {}, "max"),
        ("val/score", monitor("val/score", "min"), "min"),
        ("val/loss", monitor("val/loss", "max"), "max"),
        ("test/score", monitor("val/score", "min"), "min"),
        ("val/acc", monitor("val/score", "min"), "max"),
        ("val/acc", monitor("val/acc", "sideways"), "max"),
        ("val/acc", {"callbacks__checkpoint__monitor": None, "callbacks__checkpoint__mode": "min"}, "max"),
    ],
)
def test_the_mode_is_the_checkpoints_or_the_names(tag: str, config: dict[str, str], mode: str) -> None:
    assert metric_of([run(tag, **config)], tag) == Metric(tag, mode)
    for asked in ("min", "max"):
        assert metric_of([run(tag, **config)], tag, asked) == Metric(tag, asked)


@pytest.mark.parametrize(("tag", "is_guess"), [("val/acc", False), ("grad_norm/default", False), ("val/score", True)])
def test_a_mode_that_nothing_says_is_a_guess(tag: str, is_guess: bool) -> None:
    for mode, guessed in ((None, is_guess), ("min", False)):
        metric = metric_of([run(tag)], tag, mode)
        assert metric is not None
        assert metric.is_guess == guessed


def test_the_monitor_of_the_metric_itself_goes_before_that_of_another_stage() -> None:
    runs = [run("val/score", "test/score", **monitor("test/score", "max")) for _ in range(3)]
    runs.append(run("val/score", **monitor("val/score", "min")))
    assert metric_of(runs, "val/score") == Metric("val/score", "min")


def test_a_metric_that_no_run_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(lo.ConfigError) as refusal:
        metric_of([run("val/loss", "test/acc"), run("val/acc")], "val/ac")
    assert str(refusal.value).splitlines() == [
        "--metric: no run has this metric",
        "    given:   val/ac",
        "    allowed: test/acc, val/acc, val/loss",
        "    nearest: val/acc",
        "    fix:     name one of these",
    ]
    with pytest.raises(lo.ConfigError, match=r"no run has this metric, which their configs name\n    given:   val/acc"):
        metric_of([run("val/score")])


def test_where_no_config_says_anything_it_is_the_first_of_validation() -> None:
    assert metric_of([run("test/acc", "val/score", "val/loss", optimized=None)]) == Metric("val/loss", "min")
    assert metric_of([Run(Path("a"), "unreadable", final={"test/acc": 0.5})]) == Metric("test/acc", "max")


def test_without_any_metric_there_is_none_to_compare_by() -> None:
    assert metric_of([run(), Run(Path("a"), "empty")], "val/acc") is None


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_the_best_is_the_lowest_or_the_highest(values: list[float]) -> None:
    assert Metric("a", "min").better(values) == min(values)
    assert Metric("a", "max").better(values) == max(values)


def test_a_run_keeps_the_best_of_the_names_mode() -> None:
    kept = {(tag, mode): Metric(tag, mode).is_kept for tag in ("val/loss", "val/score") for mode in ("min", "max")}
    assert [one for one, is_kept in kept.items() if is_kept] == [("val/loss", "min"), ("val/score", "max")]


@pytest.mark.parametrize(
    ("tag", "mode"),
    [
        ("val/loss", "min"), ("val/acc", "max"), ("test/Accuracy", "max"), ("val/macro_f1", "max"), ("val/score", None),
        ("val/macc", None), ("val/acc_error", "min"),
    ],
)  # fmt: skip
def test_a_mode_is_known_where_the_name_or_a_checkpoint_says_it(tag: str, mode: str | None) -> None:
    assert known_mode(tag, {}) == mode
    said = {"callbacks.checkpoint.monitor": "val/score", "callbacks.checkpoint.mode": "min"}
    assert known_mode(tag, said) == ("min" if tag == "val/score" else mode)
