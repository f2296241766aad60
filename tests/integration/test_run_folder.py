from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

import lit_optim as lo
from lit_optim.integration.run_folder import RunFolder

TEXTS = {"config.yaml": "seed: 1\n", "overrides.yaml": "[]\n"}


def contents(folder: Path) -> dict[str, Any]:
    """Every path below a folder with its bytes and the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def test_claim_makes_the_folder_and_says_what_the_run_was_started_with(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "mine" / "1"
    RunFolder(path).claim(TEXTS)
    assert {file.name: file.read_text() for file in (path / ".hydra").iterdir()} == TEXTS


@pytest.mark.parametrize(
    "sign", [".hydra/config.yaml", "metrics.json", "plan.json", "checkpoints/last.ckpt", "events.out.tfevents.1.host.2"]
)
@pytest.mark.parametrize("act", ["check_free", "claim"])
def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path: Path, sign: str, act: str) -> None:
    path = tmp_path / "run"
    (path / sign).parent.mkdir(parents=True)
    (path / sign).write_text("theirs")
    (path / "notes.txt").write_text("theirs too")
    before = contents(tmp_path)
    folder = RunFolder(path, [path, tmp_path])
    with pytest.raises(lo.RunError, match="already holds a run") as refusal:
        folder.check_free() if act == "check_free" else folder.claim(TEXTS)
    folder.withdraw()
    [mistake] = refusal.value.mistakes
    assert mistake.key == "hydra.run.dir"
    assert sign.partition("/")[0] in str(mistake.given)
    assert str(path) in str(mistake.given)
    assert contents(tmp_path) == before


def test_a_folder_with_other_files_may_hold_a_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder(tmp_path).claim(TEXTS)
    assert (tmp_path / ".hydra" / "config.yaml").exists()


def test_of_two_launches_that_saw_the_folder_free_one_gets_it(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.check_free()
    second.check_free()
    first.claim(TEXTS)
    before = contents(tmp_path)
    with pytest.raises(lo.RunError, match="already holds a run"):
        second.claim({"config.yaml": "seed: 2\n"})
    assert contents(tmp_path) == before


def test_withdraw_removes_all_that_the_launch_made(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "mine" / "1"
    folder = RunFolder(path, [path, path.parent, path.parent.parent])
    folder.check_free()
    path.mkdir(parents=True)
    (path / f"events.out.tfevents.1.host.{os.getpid()}.0").write_text("opened early")
    folder.claim(TEXTS)
    folder.write("plan.json", "{}")
    (path / "plan.png").write_text("…")
    folder.note(path / "plan.png", path / "never_made")
    folder.withdraw()
    assert contents(tmp_path) == {}


def test_withdraw_leaves_what_others_made(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "theirs").mkdir(parents=True)
    path = runs / "mine" / "1"
    folder = RunFolder(path, [path, path.parent])
    folder.claim(TEXTS)
    (path / "notes.txt").write_text("the user's")
    folder.withdraw()
    assert set(contents(tmp_path)) == {"runs", "runs/theirs", "runs/mine", "runs/mine/1", "runs/mine/1/notes.txt"}


def test_withdraw_keeps_a_folder_that_was_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", [])
    (tmp_path / "run").mkdir()
    folder.claim(TEXTS)
    folder.withdraw()
    assert set(contents(tmp_path)) == {"run"}


def test_withdraw_stops_at_a_folder_that_somebody_else_uses_too(tmp_path: Path) -> None:
    path, sibling = tmp_path / "runs" / "a", tmp_path / "runs" / "b"
    folder = RunFolder(path, [path, path.parent])
    folder.claim(TEXTS)
    sibling.mkdir()
    folder.withdraw()
    assert set(contents(tmp_path)) == {"runs", "runs/b"}


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, target = RunFolder(tmp_path), tmp_path / "metrics.json"
    folder.write("metrics.json", "old")
    synced: list[bytes] = []
    fsync = os.fsync

    def seen_while_writing(descriptor: int) -> None:
        assert target.read_text() == "old"
        synced.append((tmp_path / "metrics.json.tmp").read_bytes())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen_while_writing)
    with target.open() as reader:  # the old file stays whole for who has it open
        folder.write("metrics.json", "new: Ä")
        assert reader.read() == "old"
    assert synced == ["new: Ä".encode()]
    assert target.read_text(encoding="utf-8") == "new: Ä"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write("metrics.json", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write("metrics.json", "new")
    assert (tmp_path / "metrics.json").read_text() == "old"


def test_a_launch_that_loses_leaves_the_winner_s_files(tmp_path: Path) -> None:
    winner, loser = RunFolder(tmp_path), RunFolder(tmp_path)
    winner.check_free()
    loser.check_free()
    winner.claim(TEXTS)
    (tmp_path / "events.out.tfevents.1.host.1.0").write_text("the winner's")
    with pytest.raises(lo.RunError):
        loser.claim(TEXTS)
    loser.withdraw()
    assert {path.name for path in tmp_path.iterdir()} == {".hydra", "events.out.tfevents.1.host.1.0"}


def test_who_only_looks_whether_a_run_is_held_keeps_nobody_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".hydra").mkdir()
    look = os.open(tmp_path / ".hydra", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(look, fcntl.LOCK_UN))
    folder = RunFolder(tmp_path, goes_on=True)
    folder.claim({})
    folder.release()
    fcntl.flock(look, fcntl.LOCK_EX)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(lo.RunError, match="another process is training this run"):
        folder.claim({})
    os.close(look)
