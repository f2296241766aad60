"""Where findings go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lit_optim.findings import Finding
from lit_optim.integration.findings_file import FINDINGS, causes_since, run_folder_of, tell
from lit_optim.integration.run_folder import RunFolder
from lit_optim.integration.tensorboard import RunLogger

TOLD = [Finding(1, "a", "b", "c"), Finding(2, "d", "e", "f")]


def test_each_is_a_line_in_the_terminal_and_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    tell([], folder)
    assert not folder.exists()
    tell(TOLD[:1], folder)
    tell(TOLD[1:], folder)
    assert (folder / FINDINGS).read_text() == "step 1: a: b; c\nstep 2: d: e; f\n"
    out, err = capsys.readouterr()
    assert (out, err) == ("", "lit-optim: step 1: a: b; c\nlit-optim: step 2: d: e; f\n")
    assert causes_since(folder, 2) == {"d"}
    assert causes_since(tmp_path, 0) == set()


def test_a_folder_that_takes_no_file_stops_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    tell(TOLD, tmp_path / "file")
    assert f"lit-optim: {FINDINGS} can't be written: " in capsys.readouterr().err


class Owning(Callback):
    """Keeps a run's folder, as RunFiles does."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)


def test_the_folder_is_the_runs_the_loggers_or_the_trainers(trainer: Any, tmp_path: Path) -> None:
    board = TensorBoardLogger(tmp_path / "logs", "name", 3)
    csv = CSVLogger(tmp_path / "logs", "name", "v")
    assert run_folder_of(trainer(logger=board, callbacks=[Owning(tmp_path / "run")])) == tmp_path / "run"
    assert run_folder_of(trainer(logger=board)) == tmp_path / "logs/name/version_3"
    assert run_folder_of(trainer(logger=[csv, board])) == tmp_path / "logs/name/v"
    assert run_folder_of(trainer(logger=RunLogger(tmp_path / "run"))) == tmp_path / "run"
    assert run_folder_of(trainer()) == tmp_path
