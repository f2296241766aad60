from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from lit_optim.cli import _VERBS, main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: lit-optim VERB")
    for verb, purpose in _VERBS.items():
        assert f"{verb} " in out
        assert purpose in out
    assert err == ""


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("lit-optim")


@pytest.mark.parametrize(("verb", "near"), [("trian", "train"), ("pla", "plan"), ("optimizer=sgd", None), ("-m", None)])
def test_an_unknown_verb_is_told_with_the_nearest(
    verb: str, near: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "no such verb" in err
    assert verb in err
    assert "train, plan" in err
    assert (f"nearest: {near}" in err) if near else ("nearest" not in err)


def test_takes_the_command_line_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-optim", "nope"])
    assert main() == 1
    assert "nope" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nope"]])
def test_telling_what_there_is_imports_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from lit_optim.cli import main; main(sys.argv[1:]);"
        "print(sorted({'torch', 'lightning', 'hydra', 'matplotlib', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"


def test_every_verb_has_a_file_of_its_own() -> None:
    for verb in _VERBS:
        assert callable(importlib.import_module(f"lit_optim.cli.{verb.replace('-', '_')}").run)
