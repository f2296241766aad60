from __future__ import annotations

import csv
import io
import json
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from runfolders import make_run

from lit_optim.cli import compare
from lit_optim.runs import reading


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two learning rates, two seeds."""
    folder = tmp_path / "runs" / "default" / "2026-11-25_10-10-35-726659"
    for job, (lr, seed) in enumerate([(0.1, 1), (0.1, 2), (0.01, 1), (0.01, 2)]):
        accuracy = lr + 0.5 + seed / 100
        metrics = {"val/acc": [accuracy / 2, accuracy], "train/loss": [1.0] * 60}
        make_run(folder / f"{job}", lr=lr, seed=seed, metrics=metrics)
    return folder


def test_it_tells_which_was_best_what_differed_and_how_to_run_it_again(sweep: Path, lit_optim_: Any) -> None:
    ended = lit_optim_("compare", "runs")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert " ".join(lines[0].split()) == "run best val/acc n optimizer.lr last val/acc steps time"
    assert [line.split()[:2] for line in lines[2:4]] == [["0,", "1"], ["2,", "3"]]
    assert lines[-2] == f"best run   {sweep.relative_to(Path.cwd())}/1"
    assert lines[-1] == "again      lit-optim train data=digits optimizer.lr=0.1 seed=2"
    again = lit_optim_("plan", *shlex.split(lines[-1])[3:])
    assert again.code == 0, again.err


def test_folders_flags_and_patterns_come_in_any_order(sweep: Path, lit_optim_: Any) -> None:
    one, another = f"{sweep}/0", f"{sweep}/[23]"
    said = [one, "--metric", "val/acc", another, "--mode=min", "--no-pool"]
    ended = lit_optim_("compare", *said)
    assert ended.code == 0, ended.err
    assert [line.split()[0] for line in ended.out.splitlines()[2:5]] == ["2", "3", "0"]
    assert "(lower is better)" in ended.out


def test_the_command_is_quoted_for_the_shell_and_names_the_configs_of_ones_own(sweep: Path, lit_optim_: Any) -> None:
    overrides = ['++rules.base.match="layer.[02]"', "++name=it's me", "data.root='~/my data'", "~optimizer.momentum"]
    settings = sweep / "1" / ".hydra"
    (settings / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    sources = [{"path": "/my conf", "provider": "command-line"}]
    (settings / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"config_sources": sources}}}))
    ended = lit_optim_("compare", "runs")
    typed = shlex.split(ended.out.splitlines()[-1].removeprefix("again"))
    expected = ['rules.base.match="layer.[02]"', "++name=it's me", "data.root='~/my data'", "~optimizer.momentum"]
    assert typed == ["lit-optim", "train", "--config-dir", "/my conf", *expected]


def test_without_overrides_there_is_no_command_and_that_is_told(sweep: Path, lit_optim_: Any) -> None:
    (sweep / "1" / ".hydra" / "overrides.yaml").unlink()
    ended = lit_optim_("compare", str(sweep))
    assert ended.code == 0
    assert "again" not in ended.out
    assert "overrides.yaml: it is not there; so the command that runs it again can't be told" in ended.err


def test_as_data(sweep: Path, lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("compare", "runs", "--json", "-")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert told["winner"]["command"] == "lit-optim train data=digits optimizer.lr=0.1 seed=2"
    ended = lit_optim_("compare", "runs", "--csv", "-", "--json", "all.json")
    assert (ended.code, ended.err) == (0, "written: all.json\n")
    assert len([*csv.DictReader(io.StringIO(ended.out))]) == 2
    assert json.loads((tmp_path / "all.json").read_text()) == told


@pytest.mark.parametrize(
    "arguments", [("runs", "--json"), ("--json", "runs"), ("--json", "--metric", "val/acc", "runs")]
)
def test_data_without_a_file_is_printed(arguments: tuple[str, ...], sweep: Path, lit_optim_: Any) -> None:
    expected = lit_optim_("compare", "runs", "--json", "-")
    assert lit_optim_("compare", *arguments) == expected
    assert lit_optim_("compare", "runs", "--csv").out == lit_optim_("compare", "runs", "--csv=-").out


def test_a_metric_that_only_curves_hold(sweep: Path, lit_optim_: Any) -> None:
    for run in sweep.iterdir():
        metrics = json.loads((run / "metrics.json").read_text())
        del metrics["final"]["train/loss"], metrics["best"]["train/loss"]
        (run / "metrics.json").write_text(json.dumps(metrics))
    ended = lit_optim_("compare", "runs", "--metric", "train/loss")
    assert (ended.code, ended.err) == (0, "")
    assert "by best train/loss (lower is better)" in ended.out


def test_a_file_that_is_there_is_written_over(sweep: Path, lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("old")
    ended = lit_optim_("compare", "runs", "--csv", "runs.csv")
    assert (ended.code, ended.err) == (0, "written: runs.csv\n")
    assert (tmp_path / "runs.csv").read_text().startswith("run,status,n,")
    assert "best run" in ended.out


@pytest.mark.parametrize(("tag", "suffix"), [(None, ".png"), ("train/loss", ".svg"), ("val/acc", ".PDF")])
def test_plot_draws_into_the_file(sweep: Path, lit_optim_: Any, tmp_path: Path, tag: str | None, suffix: str) -> None:
    ended = lit_optim_("compare", "runs", "--plot", f"curves{suffix}", *(["--tag", tag] if tag else []))
    assert (ended.code, ended.err) == (0, f"drawn: curves{suffix}\n")
    assert (tmp_path / f"curves{suffix}").stat().st_size > 5_000
    assert {path.name for path in tmp_path.iterdir()} == {"runs", f"curves{suffix}"}


def test_the_band_is_drawn_as_asked(sweep: Path, lit_optim_: Any, tmp_path: Path) -> None:
    pictures = []
    for number, band in enumerate(((), ("--band", "range"), ("--band=std",))):
        assert lit_optim_("compare", "runs", "--plot", f"{number}.png", *band).code == 0
        pictures.append((tmp_path / f"{number}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_what_is_damaged_is_a_warning_and_the_rest_is_compared(sweep: Path, lit_optim_: Any) -> None:
    (sweep / "0" / "metrics.json").write_text("{")
    (sweep / "1" / ".hydra" / "config.yaml").write_text("a: [")
    [events] = (sweep / "2").glob("events*")
    events.write_bytes(events.read_bytes()[:100])
    ended = lit_optim_("compare", "runs", "--plot", "a.png")
    assert ended.code == 0
    assert ended.out.count("unreadable") == 2
    lines = ended.err.splitlines()
    assert lines[0] == "drawn: a.png"
    assert [line.partition(": ")[0] for line in lines] == ["drawn", "warning", "warning", "warning"]
    assert all(name in line for name, line in zip(("metrics.json", "config.yaml", "tfevents"), lines[1:], strict=True))
    assert "Traceback" not in ended.err


def test_a_run_that_was_killed_is_told_everywhere(lit_optim_: Any) -> None:
    make_run(Path("runs/cut"), status="running", host=platform.node())
    ended = lit_optim_("compare", "runs", "--csv", "a.csv", "--json", "a.json")
    assert ended.code == 0
    assert ended.out.splitlines()[2].endswith("killed")
    assert ",killed," in Path("a.csv").read_text()
    assert json.loads(Path("a.json").read_text())["rows"][0]["status"] == "killed"


def test_many_warnings_are_counted(lit_optim_: Any) -> None:
    for number in range(25):
        Path(f"runs/{number}/.hydra").mkdir(parents=True)
        Path(f"runs/{number}/metrics.json").touch()
    ended = lit_optim_("compare", "runs")
    assert ended.code == 0
    assert len(ended.err.splitlines()) == 21
    assert ended.err.splitlines()[-1] == "warning: and 7 more"  # two plans are not there either


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "RUN: no run is named"),
        (("rnus",), "nearest: runs"),
        (("runs", "empty"), "RUN: there is no run here"),
        (("runs", "--metric", "val/ac"), "nearest: val/acc"),
        (("runs", "--metric"), "lit-optim compare: argument --metric: expected one argument"),
        (("runs", "--metrik", "a"), "lit-optim compare: no such flag\n    given:   --metrik"),
        (("runs", "--mode", "mx"), "nearest: max"),
        (("runs", "--tag", "a"), "--tag: it says what to draw, and nothing is drawn"),
        (("runs", "--plot", "a.png", "--tag", "val/ac"), "--tag: no run has recorded this"),
        (("runs", "--plot", "a.bmp"), "--plot: no format for this suffix"),
        (("runs", "--plot", "-"), "--plot: no format for this suffix"),
        (("runs", "--plot", "nowhere/a.png"), "--plot: there is no such folder"),
        (("runs", "--csv", "empty"), "RUN: there is no run here"),
        (("runs", "--plot", "empty"), "--plot: this is a folder"),
        (("runs", "--band", "std"), "--band: it says what to draw, and nothing is drawn"),
        (("runs", "--plot", "a.png", "--band", "sd"), "nearest: std"),
        (("runs", "--metric", "train/los"), "nearest: train/loss"),
        (("runs", "--json", "nowhere/a"), "--json: there is no such folder"),
        (("runs", "--json", "a", "--csv", "./a"), "two things can't go into one file"),
        (("runs", "--json", "-", "--csv", "-"), "two things can't go into one file"),
        (("runs", "--json", "x" * 300), "--json: it can't be written: File name too long"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(
    arguments: tuple[str, ...], told: str, sweep: Path, lit_optim_: Any, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    ended = lit_optim_("compare", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "empty"}


def test_a_bad_file_is_refused_before_any_run_is_read(
    sweep: Path, lit_optim_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "read_run", None)
    ended = lit_optim_("compare", "runs", "--csv", "nowhere/a.csv", "--plot", "a.txt", "--mode", "up")
    assert ended.code == 1
    assert [line.partition(":")[0] for line in ended.err.splitlines()[1:] if not line.startswith(" ")] == [
        "--mode",
        "--plot",
        "--csv",
    ]


def test_what_stands_behind_an_unknown_flag_is_none(sweep: Path, lit_optim_: Any) -> None:
    ended = lit_optim_("compare", "runs", "--metrc", "val/acc")
    assert ended.code == 1
    assert ended.err.count("no such flag") == 1
    assert "    nearest: --metric" in ended.err


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "trackers.json", "plan.json", ".hydra/config.yaml"])
def test_what_belongs_to_a_run_is_not_written_over(sweep: Path, lit_optim_: Any, name: str) -> None:
    if not (sweep / "0" / name).exists():
        (sweep / "0" / name).write_text("of a tracker")
    before = (sweep / "0" / name).read_bytes()
    ended = lit_optim_("compare", "runs", "--json", str(sweep / "0" / name))
    assert ended.code == 1
    assert "--json: this file belongs to a run" in ended.err
    assert (sweep / "0" / name).read_bytes() == before


def test_before_there_is_any_metric_there_is_a_table_and_nothing_to_draw(lit_optim_: Any) -> None:
    make_run(Path("runs/a"), status=None, metrics={})
    ended = lit_optim_("compare", "runs")
    assert ended.code == 0
    assert "1 run in runs, no run has a metric yet" in ended.out
    assert lit_optim_("compare", "runs", "--plot", "a.png").err.splitlines()[1] == "--plot: no run has a metric yet"


def test_help_tells_every_flag(lit_optim_: Any) -> None:
    for flag in ("--help", "-h"):
        ended = lit_optim_("compare", flag)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith("usage: lit-optim compare")
        assert all(one in ended.out for one in compare._FLAGS)


def test_an_interrupt_ends_it(sweep: Path, lit_optim_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reading, "read_run", interrupted)
    ended = lit_optim_("compare", "runs")
    assert (ended.code, ended.err) == (130, "lit-optim: interrupted\n")


def test_a_terminal_sees_how_far_it_is(sweep: Path, lit_optim_: Any, watched: Any) -> None:
    screen = watched()
    ended = lit_optim_("compare", "runs", "--mode", "min", "--plot", "a.png")
    assert ended.code == 0
    heads = [re.split("%| 0:", state)[0] for state in screen.states]
    done = [f"{part}/4  {25 * part:3d}" for part in range(1, 5)]
    assert heads[:-1] == [f"reading {what} {one}" for what in ("runs", "curves", "curves") for one in done]
    assert "reading" not in ended.out


def test_it_imports_nothing_heavy(sweep: Path) -> None:
    code = (
        "import sys; from lit_optim.cli import main; assert main(['compare', 'runs', '--json', 'a']) == 0;"
        "heavy = {'torch', 'lightning', 'hydra', 'omegaconf', 'matplotlib', 'numpy', 'tensorboard'};"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "written: a\n[]\n"


@pytest.mark.slow
def test_a_real_sweep_is_compared(lit_optim_: Any, tmp_path: Path) -> None:
    tiny = ("data=digits", "trainer.max_epochs=1", "model.hidden_dims=[32]")
    assert lit_optim_("train", *tiny, "-m", "optimizer.lr=1e-5,1e-2", "seed=1,2").code == 0
    ended = lit_optim_("compare", "runs", "--plot", "curves.png", "--tag", "train/loss", "--json", "all.json")
    assert ended.code == 0, ended.err
    assert ended.err == "drawn: curves.png\nwritten: all.json\n"
    told = json.loads((tmp_path / "all.json").read_text())
    assert (told["metric"], told["differing"], told["problems"]) == ("val/acc", ["optimizer.lr"], [])
    assert [row["settings"]["optimizer.lr"] for row in told["rows"]] == [0.01, 1e-05]
    assert [row["status"] for row in told["rows"]] == ["finished", "finished"]
    assert (told["difference"]["kind"], told["difference"]["n"]) == ("paired", [2, 2])
    assert "default: lr 0.01 → 1e-05" in ended.out
    metrics = json.loads((Path(told["winner"]["run"]) / "metrics.json").read_text())
    assert told["rows"][0]["best"]["values"][0] == metrics["best"]["val/acc"]["value"]
    again = shlex.split(told["winner"]["command"])
    assert lit_optim_(*again[1:], "hydra.run.dir=again").code == 0
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["final"] == metrics["final"]
