from __future__ import annotations

import math
from pathlib import Path

import pytest
from runfolders import write_events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_optim.runs.events import curve_of, tags_of

FIRST, SECOND = "events.out.tfevents.1700000000.host.1.0", "events.out.tfevents.1700000001.host.2.0"
CURVES = {"val/acc": [0.5, 0.25, 0.75], "val/acc_top5": [1.0, 1.0], "lr/default": [0.1] * 40}


def test_a_curve_is_read_from_its_file(tmp_path: Path) -> None:
    write_events(tmp_path / FIRST, CURVES)
    assert curve_of(tmp_path, "val/acc") == ({0: 0.5, 1: 0.25, 2: 0.75}, [])
    assert curve_of(tmp_path, "val") == ({}, [])
    assert tags_of(tmp_path) == CURVES.keys()


def test_a_folder_without_events_has_no_curves(tmp_path: Path) -> None:
    assert curve_of(tmp_path, "val/acc") == ({}, [])
    assert tags_of(tmp_path) == set()


def test_what_a_resumed_run_did_again_replaces_what_it_had_done(tmp_path: Path) -> None:
    write_events(tmp_path / FIRST, {"a": [0.0, 1.0, 2.0, 3.0]})
    write_events(tmp_path / SECOND, {"a": [20.0, 30.0]}, first=2, mark=True)
    assert curve_of(tmp_path, "a")[0] == {0: 0.0, 1: 1.0, 2: 20.0, 3: 30.0}
    write_events(tmp_path / SECOND, {"a": [None, 20.0]}, first=1, mark=True)
    assert curve_of(tmp_path, "a")[0] == {0: 0.0, 2: 20.0}
    write_events(tmp_path / SECOND, {"a": [10.0]}, first=1, mark=True)
    theirs = EventAccumulator(str(tmp_path))
    theirs.Reload()
    assert curve_of(tmp_path, "a")[0] == {one.step: one.value for one in theirs.Scalars("a")} == {0: 0.0, 1: 10.0}


def test_values_that_are_not_finite_are_there(tmp_path: Path) -> None:
    write_events(tmp_path / FIRST, {"a": [math.nan, math.inf]})
    curve, _ = curve_of(tmp_path, "a")
    assert math.isnan(curve[0])
    assert curve[1] == math.inf


@pytest.mark.parametrize("kept", [0, 3, 11, 60, -1, -5])
def test_a_file_that_is_cut_off_counts_up_to_there(tmp_path: Path, kept: int) -> None:
    path = tmp_path / FIRST
    write_events(path, {"a": [0.0, 1.0, 2.0]})
    path.write_bytes(path.read_bytes()[:kept])
    curve, problems = curve_of(tmp_path, "a")
    assert {*curve} == ({0, 1} if kept < 0 else set())
    if kept == 0:
        assert problems == []
    else:
        assert problems == [f"{path}: it is cut off or damaged; what stands before that is used"]


def test_a_bit_that_has_flipped_is_noticed_and_other_files_count(tmp_path: Path) -> None:
    path = tmp_path / FIRST
    write_events(path, {"a": [0.0, 1.0, 2.0]})
    whole = path.read_bytes()
    write_events(tmp_path / SECOND, {"a": [9.0]}, first=9)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        curve, problems = curve_of(tmp_path, "a")
        assert {step: float(step) for step in curve} == curve
        assert curve[9] == 9.0
        assert len(problems) == 1
        assert problems[0].startswith(f"{path}: ")


def test_what_is_no_events_file_is_told(tmp_path: Path) -> None:
    (tmp_path / FIRST).write_text("no events, and more than a few bytes of them")
    (tmp_path / SECOND).mkdir()
    curve, problems = curve_of(tmp_path, "a")
    assert curve == {}
    assert [problem.partition(": ")[0] for problem in problems] == [str(tmp_path / FIRST), str(tmp_path / SECOND)]
