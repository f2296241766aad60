from __future__ import annotations

import os
from pathlib import Path

import pytest

from lit_optim.integration.tracker import AtFirstUse, keep_id, kept_id, names_of, unchanged


def test_ids_are_kept_by_tracker(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert kept_id(folder, "wandb") is None
    keep_id(folder, "wandb", "a")
    keep_id(folder, "mlflow", "b")
    keep_id(folder, "wandb", "c")
    assert (kept_id(folder, "wandb"), kept_id(folder, "mlflow"), kept_id(folder, "other")) == ("c", "b", None)
    assert [path.name for path in folder.iterdir()] == ["trackers.json"]


def test_a_damaged_file_of_ids_is_none(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"wandb": 3}', "\xff"):
        (tmp_path / "trackers.json").write_text(text, encoding="latin-1")
        assert kept_id(tmp_path, "wandb") is None


def test_a_job_is_called_after_its_sweep(tmp_path: Path) -> None:
    assert names_of(tmp_path / "2026-11-28" / "3") == ("3", None)
    (tmp_path / "2026-11-28").mkdir()
    (tmp_path / "2026-11-28" / "multirun.yaml").touch()
    assert names_of(tmp_path / "2026-11-28" / "3") == ("2026-11-28/3", "2026-11-28")


def test_nothing_begins_before_it_is_used() -> None:
    begun: list[str] = []

    def begin() -> str:
        begun.append("now")
        return "a run"

    experiment = AtFirstUse(begin)
    assert begun == []
    assert experiment.upper() == "A RUN"
    assert begun == ["now"]


def test_a_variable_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_BEFORE", "a")
    monkeypatch.delenv("OF_NOW", raising=False)
    with unchanged("OF_BEFORE"), unchanged("OF_NOW"):
        os.environ |= {"OF_BEFORE": "b", "OF_NOW": "c"}
    assert os.environ["OF_BEFORE"] == "a"
    assert "OF_NOW" not in os.environ
