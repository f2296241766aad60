from __future__ import annotations

from pathlib import Path

import pytest

import lit_optim as lo
from lit_optim.runs.finding import find_runs, natural


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names: str) -> None:
    for name in names:
        Path(name, ".hydra").mkdir(parents=True)


def found(*given: str) -> list[str]:
    return [str(path) for path in find_runs(given)]


def refused(*given: str) -> tuple[lo.Mistake, ...]:
    with pytest.raises(lo.RunError) as refusal:
        find_runs(given)
    return refusal.value.mistakes


def test_a_run_a_sweep_and_a_whole_tree() -> None:
    make("runs/a/1", "runs/b/2026/0", "runs/b/2026/1")
    assert found("runs/a/1") == ["runs/a/1"]
    assert found("runs/b/2026") == ["runs/b/2026/0", "runs/b/2026/1"]
    assert found("runs") == ["runs/a/1", "runs/b/2026/0", "runs/b/2026/1"]


def test_jobs_are_in_the_order_of_their_numbers() -> None:
    make(*(f"s/{job}" for job in range(12)))
    assert found("s") == [f"s/{job}" for job in range(12)]
    assert natural(Path("a/job10b")) > natural(Path("a/job9c"))


def test_metrics_alone_are_a_run_too() -> None:
    Path("copied").mkdir()
    Path("copied/metrics.json").touch()
    assert found("copied") == ["copied"]


def test_what_a_run_holds_is_not_searched_but_for_runs_below_it() -> None:
    make("a", "a/checkpoints/x", "a/.cache/x", "a/b")
    assert found("a") == ["a", "a/b"]


def test_patterns_match_folders_and_leave_files_alone() -> None:
    make("runs/a/1", "runs/b/1", "runs/c/2")
    Path("runs/notes.txt").touch()
    Path("runs/empty").mkdir()
    assert found("runs/[ab]/*") == ["runs/a/1", "runs/b/1"]
    assert found("runs/*") == ["runs/a/1", "runs/b/1", "runs/c/2"]
    assert found("**/1") == ["runs/a/1", "runs/b/1"]


def test_a_folder_whose_name_is_a_pattern_is_that_folder() -> None:
    make("runs/lr[1]", "runs/lr1")
    assert found("runs/lr[1]") == ["runs/lr[1]"]


def test_a_run_that_several_paths_lead_to_is_there_once(here: Path) -> None:
    make("runs/x/1", "runs/x/2")
    Path("runs/a_link").symlink_to("x/1")
    assert found("runs/x/1", "runs", "./runs/x/1", str(here / "runs"), "runs/*") == ["runs/x/1", "runs/x/2"]
    assert found("runs/a_link") == ["runs/a_link"]
    assert found("runs") == ["runs/x/1", "runs/x/2"]


def test_links_are_followed_and_loops_end() -> None:
    make("elsewhere/exp/sweep/0", "runs/1")
    Path("runs/linked").symlink_to("../elsewhere/exp")
    Path("runs/again").symlink_to(".")
    Path("runs/around").symlink_to("../runs")
    Path("runs/itself").symlink_to("itself")
    assert found("runs") == ["runs/1", "runs/linked/sweep/0"]


def test_a_link_upwards_does_not_lead_out_of_what_was_given() -> None:
    make("other/1", "runs/1")
    Path("runs/root").symlink_to("/")
    Path("runs/up").symlink_to("..")
    assert found("runs") == ["runs/1"]


def test_a_path_that_is_not_there_is_told_with_what_is(here: Path) -> None:
    make("runs/default/1", "runs/tuned/1")
    [mistake] = refused("runs/defualt/1")
    assert str(mistake).splitlines() == [
        "RUN: no such folder: 'defualt' in runs",
        "    given:   runs/defualt/1",
        "    allowed: default, tuned",
        "    nearest: default",
        "    fix:     correct the path",
    ]
    [mistake] = refused("runs/*/2026-*")
    assert mistake.problem == "no folder matches: '2026-*'"
    assert mistake.allowed == ("1",)
    [mistake] = refused(f"{here}/rnus")
    assert mistake.problem == f"no such folder: 'rnus' in {here}"
    assert mistake.nearest == ("runs",)


def test_a_folder_without_a_run_is_told_with_what_was_looked_for() -> None:
    Path("runs/default/lr-find").mkdir(parents=True)
    [mistake] = refused("runs")
    assert str(mistake).splitlines() == [
        "RUN: there is no run here: no folder in it holds .hydra/ or metrics.json",
        "    given:   runs",
        "    fix:     name the folder of a run, or one that holds runs at any depth: lit-optim compare runs",
    ]


def test_a_file_is_no_run() -> None:
    make("a")
    Path("a/metrics.json").touch()
    [mistake] = refused("a/metrics.json")
    assert mistake.problem == "this is a file, and a folder is needed"


@pytest.mark.parametrize("text", ["", "~nobody-of-that-name/runs", "../nowhere", "x" * 300, "a\0b", "[", "/nowhere/*"])
def test_odd_paths_are_refused_as_others_are(text: str) -> None:
    make("a")
    [mistake] = refused(text)
    assert mistake.given == text


def test_all_that_leads_nowhere_is_told_at_once() -> None:
    make("a")
    assert [mistake.given for mistake in refused("x", "a", "y/*")] == ["x", "y/*"]
