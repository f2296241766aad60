from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from forked import Server

import lit_optim.cli
from lit_optim.cli import work
from lit_optim.cli.app import NewFolders

_LOGGERS = ("", "lightning.pytorch", "lightning.fabric")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _as_it_was(digits_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory; afterwards the process is as it was: a command thinks that it owns it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lit-optim"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(NewFolders, "noted", set())
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setenv("COLUMNS", "132")  # whatever terminal the tests are started from
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])  # Hydra's would write to a closed stdout
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    environment, modules = dict(os.environ), set(sys.modules)
    yield
    for name in [name for name, module in sys.modules.items() if name not in modules]:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):  # the user's own classes
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(environment)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def lit_optim_(capsys: pytest.CaptureFixture[str]) -> Command:
    """``lit-optim`` in this process."""

    def command(*arguments: str) -> Ended:
        capsys.readouterr()
        code = lit_optim.cli.main(list(arguments))
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return command


class Screen(io.StringIO):
    """A terminal that stderr is."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def states(self) -> list[str]:
        """What its line has been, one after the other."""
        return [state.strip() for state in re.split(r"[\r\n]", self.getvalue()) if state.strip()]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Screen]:
    """Makes stderr a terminal, in which the shortest work is told of."""

    def made() -> Screen:
        monkeypatch.setattr(work, "_SHORT", 0.0)
        monkeypatch.setattr(work, "_REDRAWN", 0.0)
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Command:
    """``python -m lit_optim`` as a user starts it, imports and all."""

    def command(*arguments: str, timeout: float = 120) -> Ended:
        started = [sys.executable, "-m", "lit_optim", *arguments]
        ended = subprocess.run(started, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return command


@pytest.fixture
def process(forked: Server, tmp_path: Path) -> Command:
    """``python -m lit_optim`` in a process of its own that has its imports already."""

    def command(*arguments: str, timeout: float = 120, **environment: str) -> Ended:
        ended = forked.run("-m", "lit_optim", *arguments, cwd=tmp_path, timeout=timeout, **environment)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return command
