from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

TINY = ("data=digits", "trainer.max_epochs=1", "data.batch_size=256", "model.hidden_dims=[8]", "test=false")


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs of the one sweep below a folder, by the name of their folder."""
    [sweep] = (folder / "runs" / "default").iterdir()
    return {
        path.parent.name: json.loads(path.read_text()) for path in sorted(sweep.rglob("metrics.json"))
    }  # fmt: skip


def sweep_of(folder: Path) -> Path:
    [sweep] = (folder / "runs" / "default").iterdir()
    return sweep


def test_a_sweep_gives_a_run_for_every_choice(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "-m", "optimizer=sgd,adamw", "seed=1,2")
    assert ended.code == 0, ended.err
    assert {name: metrics["status"] for name, metrics in jobs(tmp_path).items()} == dict.fromkeys("0123", "finished")
    sweep = sweep_of(tmp_path)
    configs = {name: OmegaConf.load(sweep / name / ".hydra" / "config.yaml") for name in "0123"}
    assert [(config.optimizer._target_.rpartition(".")[2], config.seed) for config in configs.values()] == [
        ("SGD", 1), ("SGD", 2), ("AdamW", 1), ("AdamW", 2),
    ]  # fmt: skip
    for name, config in configs.items():
        run = sweep / name
        assert len(list(run.glob("events.out.tfevents.*"))) == 1
        assert json.loads((run / "plan.json").read_text())["groups"][0]["optimizer"] == config.optimizer._target_
        assert (run / "checkpoints" / "last.ckpt").exists()
    assert ended.out.count("dashboard  tensorboard --logdir runs\n") == 4
    assert not [path for path in tmp_path.rglob("*") if "=" in path.name]


def test_a_job_of_a_sweep_is_the_run_by_itself(lit_optim_: Any, tmp_path: Path) -> None:
    assert lit_optim_("train", *TINY, "-m", "seed=1,2").code == 0
    assert lit_optim_("train", *TINY, "seed=2", "hydra.run.dir=alone").code == 0
    alone, job = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (tmp_path / "alone", sweep_of(tmp_path) / "1")
    )
    assert all(torch.equal(alone[name], job[name]) for name in alone)


@pytest.mark.parametrize("first", [True, False], ids=["first fails", "last fails"])
@pytest.mark.parametrize(
    ("key", "right", "wrong", "kind"),
    [("optimizer.lr", "0.1", "-1", "PlanError"), ("data.batch_size", "256", "0", "DataError")],
    ids=["planning", "before planning"],
)
def test_a_job_that_is_refused_does_not_keep_the_others(
    lit_optim_: Any, tmp_path: Path, first: bool, key: str, right: str, wrong: str, kind: str
) -> None:
    ended = lit_optim_("train", *TINY, "-m", f"{key}={wrong},{right}" if first else f"{key}={right},{wrong}")
    assert ended.code == 1
    good, bad = ("1", "0") if first else ("0", "1")
    assert {name: metrics["status"] for name, metrics in jobs(tmp_path).items()} == {good: "finished"}
    assert not (sweep_of(tmp_path) / bad).exists()
    assert ended.err.count(f"lit-optim: {kind}") == 1
    assert key in ended.err
    assert "Traceback" not in ended.err


def test_a_sweep_that_is_refused_throughout_leaves_nothing(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "-m", "optimizer.lr=-1,-2")
    assert ended.code == 1
    assert ended.err.count("lit-optim: PlanError") == 2
    assert list(tmp_path.iterdir()) == []


def test_two_sweeps_have_folders_of_their_own(lit_optim_: Any, tmp_path: Path) -> None:
    for _ in range(2):
        assert lit_optim_("train", *TINY, "-m", "seed=1", "callbacks=none", "logger=none").code == 0
    assert len(list((tmp_path / "runs" / "default").iterdir())) == 2
