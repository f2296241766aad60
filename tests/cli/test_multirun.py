from __future__ import annotations

import json
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from lit_optim.runs.reading import read_run

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
    told = jobs(tmp_path)
    assert {name: metrics["status"] for name, metrics in told.items()} == {good: "finished", bad: "refused"}
    assert told[bad]["error"].startswith(f"{kind}: {key}: ")
    assert ended.err.count(f"lit-optim: {kind}") == 1
    assert key in ended.err
    assert "Traceback" not in ended.err
    folder = sweep_of(tmp_path) / bad
    assert {path.name for path in folder.iterdir()} == {".hydra", "metrics.json"}
    assert {path.name for path in (folder / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    typed = [one.lstrip("+") for one in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
    assert f"{key}={wrong}" in typed
    assert read_run(folder).config[key] == float(wrong)


def test_a_sweep_that_is_refused_throughout_leaves_nothing(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "-m", "optimizer.lr=-1,-2", "hydra.sweep.subdir='${hydra.job.num}/deep'")
    assert ended.code == 1
    assert ended.err.count("lit-optim: PlanError") == 2
    assert "lit-optim: 2 of 2 jobs failed" in ended.err
    assert "best run" not in ended.out
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_was_refused_can_be_resumed_with_what_mends_it(lit_optim_: Any, tmp_path: Path) -> None:
    assert lit_optim_("train", *TINY, "-m", "optimizer.lr=-1,0.1").code == 1
    refused = sweep_of(tmp_path) / "0"
    assert lit_optim_("resume", str(refused), "optimizer.lr=0.2").code == 0
    assert json.loads((refused / "metrics.json").read_text()).items() >= {"status": "finished", "steps": 6}.items()
    assert read_run(refused).error is None


# --- how a sweep ends ------------------------------------------------------------------------------------------------


@pytest.fixture
def dying(tmp_path: Path) -> tuple[str, ...]:
    """A callback that ends the run with the learning rate 0.5 in its second epoch, as ``exception`` says."""
    (tmp_path / "dying.py").write_text(
        textwrap.dedent(
            """
            from lightning.pytorch import Callback

            class Dies(Callback):
                def __init__(self, exception):
                    self.exception = exception
                def on_train_epoch_start(self, trainer, module):
                    if trainer.current_epoch == 1 and module.recipe.values["lr"] == 0.5:
                        raise KeyboardInterrupt if self.exception == "interrupt" else RuntimeError("the power went")
            """
        )
    )
    return (*TINY, "trainer.max_epochs=2", "schedule=none", "+callbacks.dies._target_=dying.Dies",
            "callbacks.progress=null", "+callbacks.dies.exception=crash")  # fmt: skip


def test_the_end_tells_what_failed_and_why_then_the_table_and_the_command(
    lit_optim_: Any, dying: tuple[str, ...], tmp_path: Path
) -> None:
    ended = lit_optim_("train", *dying, "-m", "optimizer.lr=0.01,0.5,-1", "seed=1,2")
    assert ended.code == 1
    told = jobs(tmp_path)
    assert {name: one["status"] for name, one in told.items()} == {
        "0": "finished", "1": "finished", "2": "crashed", "3": "crashed", "4": "refused", "5": "refused",
    }  # fmt: skip
    assert (told["2"]["error"], told["2"]["epochs"]) == ("RuntimeError: the power went", 1)
    folder = f"runs/default/{sweep_of(tmp_path).name}"
    assert ended.err.splitlines()[-3:] == [
        f"lit-optim: 4 of 6 jobs failed, in {folder}",
        "    2, 3 (crashed): RuntimeError: the power went",
        "    4, 5 (refused): PlanError: optimizer.lr: torch.optim.AdamW refuses this: Invalid learning rate: -1",
    ]
    again = lit_optim_("compare", folder)
    assert again.code == 0
    assert again.err == ""
    assert ended.out.endswith(f"\n\n{again.out}")
    lines = again.out.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["0,", "1"], ["2,", "3"], ["4,", "5"]]
    assert [line.split()[-1] for line in lines[2:5]] == ["finished", "crashed", "refused"]
    command = shlex.split(lines[-1])
    assert command[:4] == ["again", "lit-optim", "train", "data=digits"]
    assert "optimizer.lr=0.01" in command
    assert lit_optim_(*command[2:], "hydra.run.dir=again").code == 0
    winner = lines[-2].rpartition("/")[2]
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["final"] == told[winner]["final"]


def test_a_sweep_without_a_failure_ends_with_the_command(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "callbacks=none", "logger=none", "-m", "seed=1,2")
    assert (ended.code, ended.err) == (0, "")
    assert "mean ± standard deviation over n seeds" in " ".join(ended.out.split())
    assert ended.out.splitlines()[-1].startswith("again      lit-optim train data=digits ")
    assert ended.out.count("again  ") == 1


def test_one_job_is_no_comparison(lit_optim_: Any) -> None:
    ended = lit_optim_("train", *TINY, "callbacks=none", "logger=none", "-m", "seed=1")
    assert ended.code == 0
    assert "again  " not in ended.out
    ended = lit_optim_("train", *TINY, "-m", "optimizer.lr=-1")
    assert ended.code == 1
    assert "jobs failed" not in ended.err


def test_an_interrupt_ends_the_sweep_with_a_table_of_what_is_there(
    lit_optim_: Any, dying: tuple[str, ...], tmp_path: Path
) -> None:
    ended = lit_optim_("train", *dying, "callbacks.dies.exception=interrupt", "-m", "optimizer.lr=0.01,0.5,0.1")
    assert ended.code == 130
    assert {name: one["status"] for name, one in jobs(tmp_path).items()} == {"0": "finished", "1": "crashed"}
    assert "lit-optim: interrupted\n" in ended.err
    assert "    1 (crashed): KeyboardInterrupt\n" in ended.err
    assert "again      lit-optim train " in ended.out.splitlines()[-1]


@pytest.mark.parametrize(("ends", "code"), [("KeyboardInterrupt", 130), ("Terminated", 143)])
def test_a_sweep_that_is_cut_short_tells_of_its_one_result(
    ends: str, code: int, lit_optim_: Any, tmp_path: Path
) -> None:
    (tmp_path / "ending.py").write_text(
        textwrap.dedent(
            f"""
            from lightning.pytorch import Callback
            from lit_optim.integration.terminated import Terminated

            class Ends(Callback):
                def __init__(self, seed):
                    if seed == 2:
                        raise {ends}
            """
        )
    )
    ending = ("callbacks=none", "+callbacks.ends._target_=ending.Ends", "+callbacks.ends.seed='${seed}'", "logger=none")
    ended = lit_optim_("train", *TINY, *ending, "-m", "seed=1,2,3")
    assert ended.code == code, ended.err
    assert [*jobs(tmp_path)] == ["0"]
    assert ended.out.splitlines()[-1].startswith("again      lit-optim train data=digits ")
    assert ended.out.splitlines()[-1].endswith(" seed=1")


def test_a_result_that_is_no_number_is_a_failure(lit_optim_: Any, tmp_path: Path) -> None:
    arguments = ("optimizer=sgd", "schedule=none", "optimized_metric=val/loss", "callbacks=none", "logger=none")
    ended = lit_optim_("train", *TINY, *arguments, "-m", "optimizer.lr=0.1,1e30")
    assert ended.code == 1
    assert [one["status"] for one in jobs(tmp_path).values()] == ["finished", "finished"]
    assert "    1 (finished): its val/loss is not finite\n" in ended.err
    assert "(lower is better)" in ended.out


def test_a_metric_that_is_never_logged_is_refused_before_training(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "optimized_metric=val/ac", "-m", "seed=1,2")
    assert ended.code == 1
    assert ended.err.count("optimized_metric: the run has no such metric") == 3  # of each job, and at the end
    assert "nearest: val/acc" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_a_run_turns_out_to_lack_is_a_failure(lit_optim_: Any, tmp_path: Path) -> None:
    metric = ("optimized_metric=test/acc", "callbacks=none", "logger=none")  # of a run that is not tested
    ended = lit_optim_("train", *TINY, *metric, "-m", "seed=1,2")
    assert ended.code == 1
    assert "lit-optim: 2 of 2 jobs failed" in ended.err
    assert "    0, 1 (finished): it has no test/acc\n" in ended.err


def test_only_the_jobs_of_this_launch_count(lit_optim_: Any, tmp_path: Path) -> None:
    bare = (*TINY, "callbacks=none", "logger=none", "hydra.sweep.dir=sweep")
    assert lit_optim_("train", *bare, "-m", "seed=1,2").code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    ended = lit_optim_("train", *bare, "-m", "seed=1,2")  # the same folders again
    assert ended.code == 1
    assert ended.err.count("this folder already holds a run") == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    ended = lit_optim_("train", *bare, "hydra.sweep.subdir='more/${hydra.job.num}'", "-m", "seed=3,4")
    assert (ended.code, ended.err) == (0, "")
    assert "2 runs in sweep/more, all finished, by best val/acc" in ended.out


@pytest.mark.parametrize(
    "typed", ["hydra/sweeper=tpe", "hydra/launcher=joblib", "hydra.sweeper.max_batch_size=2", "+hydra.launcher.x=1"]
)
def test_what_is_of_a_sweep_is_refused_without_one(lit_optim_: Any, typed: str, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, typed)
    assert ended.code == 1
    assert ": this is of a sweep, and here is none" in ended.err
    assert "add -m" in ended.err
    assert list(tmp_path.iterdir()) == []


# --- side by side ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_jobs_in_other_processes(process: Any, dying: tuple[str, ...], tmp_path: Path) -> None:
    """Failures are counted, factories allowed, lines told apart, and the end is told once."""
    (tmp_path / "pyproject.toml").write_text('[tool.lit-optim]\nallow = ["made.net"]\n')
    (tmp_path / "made.py").write_text(
        "from torch import nn\n\ndef net(**_):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    ended = process(
        "train", *dying, "~model", "+model._target_=made.net", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
        "-m", "optimizer.lr=0.5,0.01,-1",
    )  # fmt: skip
    assert ended.code == 1, ended.err
    assert {name: one["status"] for name, one in jobs(tmp_path).items()} == {
        "0": "crashed", "1": "finished", "2": "refused",
    }  # fmt: skip
    assert "0 │ RuntimeError: the power went\n" in ended.err
    assert "2 │ lit-optim: PlanError\n" in ended.err
    assert ended.err.endswith(
        "    0 (crashed): RuntimeError: the power went\n"
        "    2 (refused): PlanError: optimizer.lr: torch.optim.AdamW refuses this: Invalid learning rate: -1\n"
    )
    assert "1 │ result     val/acc " in ended.out
    assert ended.out.count("\nagain      lit-optim train ") == 1
    assert all(line.startswith(("0 │ ", "1 │ ", "[")) for line in ended.out.partition("\n\nrun ")[0].splitlines())


@pytest.mark.slow
def test_what_can_not_be_recorded_by_another_process_ends_the_sweep(process: Any, tmp_path: Path) -> None:
    ended = process(
        "train", *TINY, "hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "hydra.sweep.subdir=same", "-m", "seed=1,2"
    )
    assert ended.code == 1
    assert "this folder already holds a run" in ended.err
    assert {name: one["status"] for name, one in jobs(tmp_path).items()} == {"same": "finished"}


def test_two_sweeps_have_folders_of_their_own(lit_optim_: Any, tmp_path: Path) -> None:
    for _ in range(2):
        assert lit_optim_("train", *TINY, "-m", "seed=1", "callbacks=none", "logger=none").code == 0
    assert len(list((tmp_path / "runs" / "default").iterdir())) == 2
