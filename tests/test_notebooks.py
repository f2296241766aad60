from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_is_a_notebook_from_recipe_to_run() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["recipe_to_run"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    ran = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in ran.cells for output in cell.get("outputs", []))
    accuracy = float(printed.split("test accuracy ")[1].split("%")[0])
    assert accuracy > 85
    assert "head.no_decay" in printed
    assert "optimizer.wieght_decay: torch.optim.AdamW has no hyperparameter 'wieght_decay'" in printed
    assert "nearest: layer.4" in printed
    assert "head: lr 0.003 → 0.01" in printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
