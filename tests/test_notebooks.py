from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


PRINTED = {
    "recipe_to_run": (
        "head.no_decay",
        "optimizer.wieght_decay: torch.optim.AdamW has no hyperparameter 'wieght_decay'",
        "nearest: layer.4",
        "head: lr 0.003 → 0.01",
    ),
    "mnist_best": ("best val/acc", "rules.hidden.optimizer.lr", "weight_decay", "dropout", "Muon"),
}


def test_each_notebook_says_what_it_prints() -> None:
    assert {path.stem for path in NOTEBOOKS} == {*PRINTED}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    ran = NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in ran.cells for output in cell.get("outputs", []))
    accuracy = float(printed.split("test accuracy ")[1].split("%")[0])
    assert accuracy > 85
    for text in PRINTED[path.stem]:
        assert text in printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
