"""The wheel holds what the command needs, and works away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import lit_optim.conf
import pytest

import lit_optim

pytestmark = pytest.mark.slow

ROOT = Path(lit_optim.conf.__file__).parent.parent
PARTS = ("lit_optim", "conf", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("this is not a checkout")
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"  # a copy: building writes beside the sources
    source.mkdir()
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source)
    if not (source / "README.md").exists():
        (source / "README.md").write_text("")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*pip, "--no-index", "--wheel-dir", str(folder / "dist"), str(source)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    [built] = (folder / "dist").glob("*.whl")
    return built


def test_holds_every_config_and_module_and_says_that_it_is_typed(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    configs = {f"lit_optim/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "lit_optim").rglob("*.py")}
    assert len(configs) > 25
    assert held == {*configs, *modules, "lit_optim/py.typed", "lit_optim/conf/__init__.py"}


def test_names_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [entries] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert archive.read(entries).decode().split("\n")[:2] == ["[console_scripts]", "lit-optim = lit_optim.cli:main"]


def test_works_from_an_unrelated_folder(wheel: Path, tmp_path: Path) -> None:
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(installed), str(wheel)], check=True, capture_output=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def python(*arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    homes = python("-c", "import lit_optim, lit_optim.conf; print(lit_optim.__file__); print(lit_optim.conf.__file__)")
    assert [Path(home).parent for home in homes.split()] == [installed / "lit_optim", installed / "lit_optim" / "conf"]
    assert "optimizer steps" in python("-m", "lit_optim", "plan", "data=digits")
    assert list(elsewhere.iterdir()) == []
