from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lit_optim.schema import recipe_schema


def test_prints_the_schema(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("schema")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == json.dumps(recipe_schema(), indent=2) + "\n"
    assert list(tmp_path.iterdir()) == []


def test_what_it_prints_is_ascii_and_checks_a_recipe(process: Any) -> None:
    ended = process("schema", PYTHONIOENCODING="ascii:strict")
    assert (ended.code, ended.err) == (0, "")
    validator = Draft202012Validator(json.loads(ended.out))
    assert validator.is_valid({"optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3}})
    assert not validator.is_valid({"optimizr": {"_target_": "torch.optim.AdamW", "lr": 1e-3}})


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["optimizer=sgd", "--help"]])
def test_help_says_how_an_editor_finds_it(lit_optim_: Any, arguments: list[str]) -> None:
    ended = lit_optim_("schema", *arguments)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("usage: lit-optim schema > recipe.schema.json\n")
    assert "  # yaml-language-server: $schema=recipe.schema.json\n" in ended.out


@pytest.mark.parametrize("arguments", [["recipe.json"], ["--json"], ["-m", "optimizer=sgd"], [""]])
def test_any_argument_is_refused(lit_optim_: Any, arguments: list[str]) -> None:
    ended = lit_optim_("schema", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "lit-optim schema: it takes no argument",
        f"    given:   {' '.join(arguments)}",
        "    fix:     leave it out; lit-optim schema > recipe.schema.json writes the schema into a file",
    ]


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from lit_optim.cli import main; assert main(['schema']) == 0;"
        "heavy = {'torch', 'lightning', 'hydra', 'omegaconf', 'matplotlib', 'numpy'};"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "[]\n"
