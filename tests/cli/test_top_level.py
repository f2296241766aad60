"""A key at the top of the config is the package's, or something interpolates it; else it does nothing, in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import DictConfig

from lit_optim.cli.app import run_app
from lit_optim.cli.top_level import _own_keys

HERE = ["hydra.run.dir=."]


def launched(*arguments: str) -> list[DictConfig]:
    """The configs of the jobs that were let through."""
    seen: list[DictConfig] = []
    assert run_app(arguments, seen.append, extra=HERE) == (0 if seen else 1)
    return seen


def test_the_package_s_own_keys_are_those_of_its_config() -> None:
    with hydra.initialize_config_module("lit_optim.conf", version_base="1.3"):
        assert {*_own_keys()} == {*hydra.compose("config")}


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("+max_epochs=5", "trainer.max_epochs, trainer.max_steps"),
        ("++lr=0.1", "optimizer.lr, schedule.lr"),
        ("+optimiser.lr=0.1", "optimizer, optimized_metric"),
        ("+sede=3", "seed, data.seed, schedule"),
    ],
)
def test_a_key_that_nothing_reads_is_refused_with_where_it_may_belong(
    typed: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(typed) == []
    key = typed.lstrip("+").partition("=")[0].partition(".")[0]
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "lit-optim: ConfigError",
        f"{key}: nothing reads this: it is no key of the config, and nothing interpolates it (${{{key}}})",
    ]
    assert lines[-2:] == [f"    nearest: {near}", "    fix:     correct the name or remove it"]


def test_all_of_them_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert launched("+a=1", "seed=2", "++b.c=2") == []
    told = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines() if not line.startswith(" ")]
    assert told == ["lit-optim", "a", "b"]


@pytest.mark.parametrize(
    "reader",
    [
        "seed=${own}",
        "seed=${oc.select:own,3}",
        "data.batch_size='${..own}'",
        "model.hidden_dims=[8,${own}]",
        "name='run_${own}'",
        "hydra.sweep.dir='runs/${own}'",
    ],
)
def test_a_key_that_something_interpolates_is_fine(reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    [config] = launched("+own=3", reader)
    assert config.own == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("reader", ["data.batch_size=${data.own}", "name=own"])
def test_another_key_of_that_name_reads_nothing(reader: str) -> None:
    assert launched("+own=3", reader) == []


def test_a_key_that_reads_itself_is_read_by_nothing_else() -> None:
    assert launched("+mine.a=3", "+mine.b=${mine.a}") == []


def experiment(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "own" / "experiment").mkdir(parents=True)
    (folder / "own" / "experiment" / "mine.yaml").write_text(text)
    return "--config-dir", "own", "experiment=mine"


def test_a_file_s_key_whose_only_reader_was_overridden_is_no_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "# @package _global_\nwidth: 64\nmodel:\n  hidden_dims: ['${width}']\n"
    chosen = experiment(tmp_path, text)
    assert launched(*chosen)[0].model.hidden_dims == [64]
    assert launched(*chosen, "width=32")[0].model.hidden_dims == [32]
    assert capsys.readouterr().err == ""
    assert launched(*chosen, "model.hidden_dims=[8]")[0].model.hidden_dims == [8]
    assert capsys.readouterr().err.splitlines()[:2] == [
        "lit-optim: warning",
        "width: nothing reads this: it is no key of the config, and nothing interpolates it (${width})",
    ]


def test_an_experiment_without_its_header_would_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(*experiment(tmp_path, "seed: 3\n")) == []
    assert capsys.readouterr().err.splitlines() == [
        "lit-optim: ConfigError",
        "experiment: nothing reads this: it is no key of the config, and nothing interpolates it (${experiment})",
        "    fix:     begin the file with the line `# @package _global_`, so that its keys stand at the top of the "
        "config",
    ]


@pytest.mark.parametrize("value", ["${nope}", "${data.nope}", "${oc.env:NO_SUCH_VARIABLE}"])
def test_an_interpolation_that_leads_nowhere_is_told_without_traceback(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(config: DictConfig) -> Any:
        return config.seed

    assert run_app([f"seed={value}"], task, extra=HERE) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "lit-optim: ConfigError"
    assert lines[1].startswith("seed: ")
    assert lines[2:] == ["    fix:     mend the interpolation"]
