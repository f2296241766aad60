from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from runfolders import make_run, plan_of, write_events, write_metrics

from lit_optim.runs import reading
from lit_optim.runs.reading import Unreadable, config_folder_of, overrides_of, read_run
from lit_optim.runs.reading import plan_of as plan_in


def test_a_run_says_what_it_was_and_what_came_of_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lr=0.2, seed=3, metrics={"val/acc": [0.9, 0.8]}, steps=46, seconds=1.5)
    run = read_run(folder)
    assert (run.folder, run.status, run.seed, run.problems) == (folder, "finished", 3, ())
    assert (run.final, run.best) == ({"val/acc": 0.8}, {"val/acc": 0.9})
    assert (run.steps, run.epochs, run.seconds) == (46, 2, 1.5)
    assert run.config is not None
    assert run.config["callbacks.checkpoint.monitor"] == "val/acc"
    assert run.settings == {
        "seed": 3,
        "data._target_": "lit_optim.data.Digits",
        "data.batch_size": 64,
        "data.seed": "= seed",
        "optimizer._target_": "torch.optim.SGD",
        "optimizer.lr": 0.2,
        "callbacks.checkpoint.monitor": "val/acc",
        "callbacks.checkpoint.mode": "max",
    }


@pytest.mark.parametrize("status", ["running", "crashed", "finished", "refused"])
def test_the_status_is_the_one_that_it_said_last(tmp_path: Path, status: str) -> None:
    assert read_run(make_run(tmp_path / "run", status=status)).status == status


def test_a_run_that_says_it_runs_and_that_no_process_holds_was_killed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", status="running", host=platform.node())
    held = os.open(folder / ".hydra", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert (read_run(folder).status, read_run(folder).may_be_cut_off) == ("running", True)
    os.close(held)
    assert (read_run(folder).status, read_run(folder).may_be_cut_off) == ("killed", True)
    assert read_run(make_run(tmp_path / "far", status="running", host=f"not-{platform.node()}")).status == "running"
    assert read_run(make_run(tmp_path / "done", host=platform.node())).status == "finished"


def test_the_steps_of_a_run_that_was_killed_are_those_that_it_recorded(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", status="running", host=platform.node(), steps=3)
    assert read_run(folder).steps == 3  # none is recorded
    events = folder / "events.out.tfevents.1700000000.host.1.0"
    write_events(events, {"lr/default": [0.1] * 8, "test/acc": [0.5] * 9})
    assert read_run(folder).steps == 8
    events.write_bytes(events.read_bytes()[:-1])
    assert read_run(folder).steps == 8
    write_events(folder / "events.out.tfevents.1700000001.host.2.0", {"lr/default": [0.1]}, first=5, mark=True)
    assert read_run(folder).steps == 6
    for path in folder.glob("events*"):
        path.write_bytes(b"no events")
    assert read_run(folder).steps == 3
    write_metrics(folder, "finished", {}, 3, host=platform.node())
    write_events(events, {"lr/default": [0.1] * 8})
    assert read_run(folder).steps == 3


def test_a_run_that_ends_between_two_looks_was_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "run", status="running", host=platform.node())

    def ends(*_: object) -> None:
        write_metrics(folder, "finished", {"val/acc": [0.5]}, host=platform.node())

    monkeypatch.setattr(reading.fcntl, "flock", ends)
    assert read_run(folder).status == "finished"


def test_what_kept_a_run_from_its_end_is_there_as_it_said_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert read_run(folder).error is None
    (folder / "metrics.json").write_text('{"status": "refused", "error": "PlanError: lr\\n    given: -1"}')
    assert read_run(folder).error == "PlanError: lr\n    given: -1"


def test_without_metrics_it_has_started_or_is_empty(tmp_path: Path) -> None:
    assert read_run(make_run(tmp_path / "run", status=None)).status == "started"
    (tmp_path / "empty" / ".hydra").mkdir(parents=True)
    run = read_run(tmp_path / "empty")
    assert (run.status, run.config, run.settings, run.seed, run.problems) == ("empty", None, None, None, ())
    gone = read_run(tmp_path / "gone")
    assert (gone.status, gone.problems) == ("empty", ())


def test_what_was_not_finite_is_nan(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", metrics={"val/acc": [0.5, math.nan], "val/loss": math.inf}))
    assert math.isnan(run.final["val/acc"])
    assert run.best == {"val/acc": 0.5}
    (run.folder / "metrics.json").write_text('{"status": "finished", "final": {"a": NaN, "b": Infinity}}')
    run = read_run(run.folder)
    assert math.isnan(run.final["a"])
    assert run.final["b"] == math.inf


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "3", '"text"', "{}", '{"status": null}', '{"status": "fine"}', "\udcff",
        '{"status": "finished", "final": []}', '{"status": "finished", "final": {"a": "0.5"}}',
        '{"status": "finished", "final": {"a": true}}', '{"status": "finished", "best": {"a": 0.5}}',
        '{"status": "finished", "best": {"a": {}}}', '{"status": "finished", "steps": "many"}',
        '{"status": "finished", "seconds": []}', '{"status": "finished", "final": {"a": 1' + "0" * 400 + "}}",
        '{"status": "finished", "steps": NaN}', "[" * 100_000,
    ],
)  # fmt: skip
def test_damaged_metrics_are_told_and_the_config_is_there(tmp_path: Path, text: str) -> None:
    folder = make_run(tmp_path / "run", lr=0.3)
    (folder / "metrics.json").write_bytes(text.encode(errors="surrogateescape"))
    run = read_run(folder)
    assert (run.status, run.final, run.best) == ("unreadable", {}, {})
    assert [problem.partition(": ")[0] for problem in run.problems] == [str(folder / "metrics.json")]
    assert "\n" not in run.problems[0]
    assert run.settings is not None
    assert run.settings["optimizer.lr"] == 0.3


@pytest.mark.parametrize("text", ["a: [", "- 1", "a: *b", "\0", "a: \udcff", "a: &x {b: *x}", "[" * 3000])
def test_a_damaged_config_is_told_and_the_metrics_are_there(tmp_path: Path, text: str) -> None:
    folder = make_run(tmp_path / "run", metrics={"val/acc": 0.7})
    (folder / ".hydra" / "config.yaml").write_bytes(text.encode(errors="surrogateescape"))
    run = read_run(folder)
    assert (run.status, run.config, run.settings, run.final) == ("unreadable", None, None, {"val/acc": 0.7})
    assert [problem.partition(": ")[0] for problem in run.problems] == [str(folder / ".hydra" / "config.yaml")]
    assert "\n" not in run.problems[0]


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", status=None)
    (folder / "metrics.json").mkdir()
    assert read_run(folder).status == "unreadable"


def test_a_run_that_was_moved_has_the_settings_that_it_had(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", callbacks={"mine": {"file": str(tmp_path / "run" / "notes.txt")}})
    before = read_run(folder).settings
    folder.rename(tmp_path / "moved")
    assert read_run(tmp_path / "moved").settings == before
    (tmp_path / "moved" / ".hydra" / "hydra.yaml").write_bytes(b"\xff")
    assert read_run(tmp_path / "moved").settings != before


def test_what_was_said_on_the_command_line(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lr=0.1, seed=2)
    assert overrides_of(folder) == ["data=digits", "++optimizer.lr=0.1", "seed=2"]
    (folder / ".hydra" / "overrides.yaml").write_text("a: 1")
    with pytest.raises(Unreadable, match=r"overrides\.yaml: a list of texts is needed"):
        overrides_of(folder)
    (folder / ".hydra" / "overrides.yaml").unlink()
    with pytest.raises(Unreadable, match=r"overrides\.yaml: it is not there"):
        overrides_of(folder)


def test_a_seed_of_the_data_that_was_said_is_a_setting(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", seed=2)
    (folder / ".hydra" / "overrides.yaml").write_text("- ++data.seed=2\n- seed=2\n")
    settings = read_run(folder).settings
    assert settings is not None
    assert settings["data.seed"] == 2


def test_a_folder_of_configs_of_the_users_own_is_known(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert config_folder_of(folder) is None
    sources = [
        {"path": "lit_optim.conf", "provider": "main"},
        {"path": "/my conf", "provider": "command-line"},
    ]
    hydra = folder / ".hydra" / "hydra.yaml"
    hydra.write_text(yaml.safe_dump({"hydra": {"runtime": {"config_sources": sources}}}))
    assert config_folder_of(folder) == "/my conf"
    for text in ("", "hydra: 1", "- a", "hydra: {runtime: {config_sources: [1]}}", "["):
        hydra.write_text(text)
        assert config_folder_of(folder) is None
    hydra.unlink()
    assert config_folder_of(folder) is None


def test_a_plan_is_read_and_a_damaged_one_is_told_by_its_name(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", lr=0.4)
    assert plan_in(folder) == plan_of(0.4)
    path = folder / "plan.json"
    data = json.loads(path.read_text())
    for text, told in [
        ("{", "this is not a plan"),
        ("[" * 100_000, "this is not a plan"),
        (json.dumps({**data, "format": 1}), "format 1, this version reads 3"),
        (None, "it is not there"),
    ]:
        path.unlink()
        if text is not None:
            path.write_text(text)
        with pytest.raises(Unreadable) as error:
            plan_in(folder)
        assert str(error.value).startswith(f"{path}: ")
        assert told in str(error.value)
        path.touch()


def test_reading_and_comparing_plans_imports_no_torch(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        make_run(tmp_path / f"{lr}", lr=lr)
    code = (
        "import sys; from pathlib import Path; from lit_optim.runs.reading import plan_of;"
        "print(plan_of(Path('0.1')).diff(plan_of(Path('0.2'))), 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "['default: lr 0.1 → 0.2'] False False\n"
