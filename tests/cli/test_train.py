from __future__ import annotations

import json
import math
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lit_optim as lo

FAST = ("data=mnist_5k", "data.batch_size=128", "trainer.max_epochs=1")
TINY = ("data=digits", "trainer.max_epochs=1", "data.batch_size=256", "model.hidden_dims=[8]")
STEPS = 32


def only_run(folder: Path) -> Path:
    [metrics] = (folder / "runs").rglob("metrics.json")
    return metrics.parent


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def state_of(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, weights_only=True)


# --- the default run -------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(lit_optim_: Any, tmp_path: Path) -> tuple[Any, Path]:
    ended = lit_optim_("train", *FAST, "optimizer.lr=0.002", "rules.head.match=layer.4", "rules.head.lr=0.02")
    assert ended.code == 0, ended.err
    return ended, only_run(tmp_path)


def test_a_run_leaves_the_folder_of_the_design(trained: Any, tmp_path: Path) -> None:
    ended, run = trained
    assert run.parent == tmp_path / "runs" / "default"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", run.name)
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    [events] = [name for name in names if name.startswith("events.out.tfevents.")]
    assert names == {
        ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "plan.json", "plan.png", "metrics.json",
        "checkpoints/last.ckpt", "checkpoints/best-000.ckpt", events,
    }  # fmt: skip
    assert not [path for path in tmp_path.rglob("*") if "=" in path.name]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]

    # every step is recorded, with what it used
    scalars = events_of(run)
    plan = lo.Plan.from_json((run / "plan.json").read_text())
    assert {group.name for group in plan.groups} == {"default", "no_decay", "head", "head.no_decay"}
    for group in plan.groups:
        for tag, values in {
            f"lr/{group.name}": plan.curve(group.name, "lr"),
            f"weight_decay/{group.name}": plan.curve(group.name, "weight_decay"),
            f"momentum/{group.name}": np.full(STEPS, group.hyperparameters["betas"][0]),
        }.items():
            points = scalars.Scalars(tag)
            assert [point.step for point in points] == list(range(STEPS)), tag
            np.testing.assert_array_equal(np.float32([point.value for point in points]), np.float32(values))
    losses = scalars.Scalars("train/loss")
    assert [point.step for point in losses] == list(range(STEPS))
    assert losses[0].value == pytest.approx(math.log(10), abs=0.1)
    assert losses[-1].value < 1.5
    assert set(scalars.Tags()["scalars"]) >= {"val/loss", "val/acc", "test/loss", "test/acc"}
    assert "hp_metric" not in scalars.Tags()["scalars"]
    assert plan.curve("head", "lr").max() == pytest.approx(10 * plan.curve("default", "lr").max())

    # the numbers, and the last lines of the terminal
    metrics = metrics_of(run)
    assert metrics["status"] == "finished"
    assert (metrics["steps"], metrics["epochs"]) == (STEPS, 1)
    assert metrics["final"].keys() == {"val/loss", "val/acc", "test/loss", "test/acc"}
    assert metrics["final"]["test/acc"] > 0.6
    assert metrics["final"]["test/acc"] == pytest.approx(scalars.Scalars("test/acc")[-1].value)
    *_, result, folder, dashboard = ended.out.splitlines()
    assert result.startswith(f"result     test/acc {metrics['final']['test/acc']:.4f}  test/loss ")
    assert result.endswith("(tested: best-000.ckpt)")
    assert folder == f"run        {STEPS} steps, {run.relative_to(tmp_path)}"
    assert dashboard == "dashboard  tensorboard --logdir runs"
    assert str(plan) in ended.out
    assert ended.err == ""

    # what it was started with
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert config.rules.head == {"match": "layer.4", "lr": 0.02}
    assert "${" not in (run / ".hydra" / "config.yaml").read_text()
    overrides = OmegaConf.load(run / ".hydra" / "overrides.yaml")
    assert [one.removeprefix("++data") for one in overrides[:3]] == [
        one.removeprefix("data") if one.startswith("data.") else one for one in FAST
    ]
    assert overrides[3:] == ["++optimizer.lr=0.002", "++rules.head.match=layer.4", "++rules.head.lr=0.02"]

    # checkpoints hold plain data only
    last = state_of(run / "checkpoints" / "last.ckpt")
    assert last["global_step"] == STEPS
    assert set(last["state_dict"]) == {
        f"net.layer.{index}.{kind}" for index in (0, 2, 4) for kind in ("weight", "bias")
    }


def test_the_same_seed_gives_the_same_weights_and_another_does_not(lit_optim_: Any, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert lit_optim_("train", *TINY, f"hydra.run.dir={name}", f"seed={seed}", "test=false").code == 0
    a, b, c = (state_of(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"] for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a)


def test_the_dashboard_command_can_be_pasted_into_a_shell(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "hydra.run.dir='my run;x'")
    assert ended.code == 0, ended.err
    command = ended.out.splitlines()[-1].removeprefix("dashboard  ")
    program, flag, folder = shlex.split(command)
    assert (program, flag, folder) == ("tensorboard", "--logdir", "my run;x")
    assert (tmp_path / folder / "metrics.json").exists()


# --- Hydra's own flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--cfg", "job", "optimizer=sgd"), ("optimizer=sgd", "--cfg", "job")])
def test_cfg_prints_the_config_and_runs_nothing(lit_optim_: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = lit_optim_("train", *arguments)
    assert ended.code == 0
    assert OmegaConf.create(ended.out).optimizer._target_ == "torch.optim.SGD"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "says"), [("--help", "optimizer: adafactor, adagrad, adam, adamw"), ("--info", "Defaults Tree")]
)
def test_help_and_info_run_nothing(lit_optim_: Any, tmp_path: Path, flag: str, says: str) -> None:
    ended = lit_optim_("train", flag)
    assert ended.code == 0
    assert says in ended.out
    assert list(tmp_path.iterdir()) == []


# --- where to start --------------------------------------------------------------------------------------------------


def test_ckpt_continues_in_a_new_run_and_weights_brings_the_weights_alone(lit_optim_: Any, tmp_path: Path) -> None:
    def run(name: str, *more: str) -> Path:
        ended = lit_optim_("train", *TINY, "optimizer=adam", "test=false", f"hydra.run.dir={name}", *more)
        assert ended.code == 0, ended.err
        return tmp_path / name / "checkpoints" / "last.ckpt"

    whole = run("whole", "trainer.max_epochs=2")
    # the same two epochs, of which every one's checkpoint is kept
    run("kept", "trainer.max_epochs=2", "callbacks.checkpoint.save_top_k=-1")
    first = tmp_path / "kept" / "checkpoints" / "best-000.ckpt"
    continued = run("continued", "trainer.max_epochs=2", f"ckpt={first}")
    assert state_of(continued)["global_step"] == state_of(whole)["global_step"]
    for name, tensor in state_of(whole)["state_dict"].items():
        assert torch.equal(tensor, state_of(continued)["state_dict"][name])
    steps = [point.step for point in events_of(tmp_path / "continued").Scalars("train/loss")]
    assert steps == list(range(state_of(first)["global_step"], state_of(whole)["global_step"]))

    fresh = run("fresh", f"weights={first}", "optimizer.lr=1e-12")
    assert state_of(fresh)["global_step"] == state_of(first)["global_step"]  # one epoch, counted from 0
    assert events_of(tmp_path / "fresh").Scalars("train/loss")[0].step == 0
    for name, tensor in state_of(first)["state_dict"].items():
        assert torch.allclose(tensor, state_of(fresh)["state_dict"][name], atol=1e-9)


def test_last_is_the_last_even_where_it_is_not_the_best(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "trainer.max_epochs=3", "optimizer.lr=0", "schedule=none")  # nothing improves
    assert ended.code == 0, ended.err
    folder = only_run(tmp_path) / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best-000.ckpt", "last.ckpt"]
    assert state_of(folder / "last.ckpt")["global_step"] == metrics_of(folder.parent)["steps"] == 18
    assert state_of(folder / "best-000.ckpt")["global_step"] == 6
    assert ended.out.count("(tested: best-000.ckpt)") == 1


# --- less of everything ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key:UserWarning")  # no validation, so no val/acc
def test_without_validation_the_last_weights_are_tested(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "trainer.limit_val_batches=0")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path)
    assert set(metrics_of(run)["final"]) == {"test/loss", "test/acc"}
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert "Traceback" not in ended.err


def test_without_callbacks_nothing_is_recorded_or_saved(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "callbacks=none")
    assert ended.code == 0, ended.err
    run = only_run(tmp_path)
    assert not (run / "checkpoints").exists()
    assert "train/loss" not in events_of(run).Tags()["scalars"]
    assert "Epoch 0" not in ended.out  # nor Lightning's own bar
    assert metrics_of(run)["status"] == "finished"


def test_without_a_logger_there_is_no_events_file(lit_optim_: Any, tmp_path: Path) -> None:
    assert lit_optim_("train", *TINY, "logger=none").code == 0
    run = only_run(tmp_path)
    assert list(run.glob("events.*")) == []
    assert metrics_of(run)["final"]["test/acc"] > 0
    assert (tmp_path / "lightning_logs").exists() is False


def test_the_output_relu_of_the_tutorial_is_found(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", "data=digits", "model.output_activation=relu", "callbacks.monitor.dead_relu=4",
                       "trainer.max_epochs=1", "logger=none", "test=false", "hydra.run.dir=run")  # fmt: skip
    assert ended.code == 0, ended.err
    [line] = (tmp_path / "run" / "findings.txt").read_text().splitlines()
    assert re.match(r"step 8: dead_relu/net\.layer\.5: \d of 10 units were 0 for every sample, 3 logs in a row", line)
    assert f"lit-optim: {line}\n" in ended.err


def test_one_callback_can_be_switched_off(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *TINY, "callbacks.checkpoint=null", "callbacks.last=null", "callbacks.progress=null",
                       "test=false")  # fmt: skip
    assert ended.code == 0, ended.err
    assert not (only_run(tmp_path) / "checkpoints").exists()
    assert "epoch 1/1" not in ended.out
    assert "test/acc" not in metrics_of(only_run(tmp_path))["final"]


# --- the user's own classes, in the working directory ----------------------------------------------------------------


def write(path: Path, text: str) -> None:
    path.write_text(textwrap.dedent(text))


def test_own_module_data_and_lightning_module(lit_optim_: Any, tmp_path: Path) -> None:
    write(
        tmp_path / "mine_all.py",
        """
        import torch
        from lightning.pytorch import LightningDataModule, LightningModule
        from torch.utils.data import DataLoader, TensorDataset

        X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
        SET = TensorDataset(X, (X.sum(1) > 0).long())

        class Data(LightningDataModule):
            in_dim, out_dim = 5, 2
            def __init__(self, size):
                super().__init__()
                self.size = size
            def train_dataloader(self):
                return DataLoader(SET, batch_size=self.size)
            val_dataloader = test_dataloader = train_dataloader

        class Net(torch.nn.Module):
            def __init__(self, in_dim, out_dim, wide):
                super().__init__()
                self.layer = torch.nn.Sequential(
                    torch.nn.Linear(in_dim, wide), torch.nn.ReLU(), torch.nn.Linear(wide, out_dim))
            def forward(self, x):
                return self.layer(x)

        class Lit(LightningModule):
            def __init__(self, wide=3):
                super().__init__()
                self.net = Net(5, 2, wide)
            def training_step(self, batch, _):
                return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            def validation_step(self, batch, _):
                self.log("val/mine", 0.5)
            def test_step(self, batch, _):
                self.log("test/mine", 0.25)
            def configure_optimizers(self):
                raise AssertionError("the recipe takes its place")
        """,
    )
    data = ("~data", "+data._target_=mine_all.Data", "+data.size=8", "trainer.max_epochs=2")
    net = ("~model", "+model._target_=mine_all.Net", "+model.in_dim=null", "+model.out_dim=null", "+model.wide=4")
    ended = lit_optim_("train", *data, *net, "hydra.run.dir=net")
    assert ended.code == 0, ended.err
    assert metrics_of(tmp_path / "net")["steps"] == 10
    assert metrics_of(tmp_path / "net")["final"]["test/acc"] > 0
    shapes = {
        name: list(tensor.shape)
        for name, tensor in state_of(tmp_path / "net" / "checkpoints" / "last.ckpt")["state_dict"].items()
    }
    assert shapes == {"net.layer.0.weight": [4, 5], "net.layer.0.bias": [4], "net.layer.2.weight": [2, 4],
                      "net.layer.2.bias": [2]}  # fmt: skip

    lit = (
        "~model",
        "+model._target_=mine_all.Lit",
        "callbacks.checkpoint.monitor=val/mine",
        "optimized_metric=val/mine",
    )
    ended = lit_optim_("train", *data, *lit, "hydra.run.dir=lit")
    assert ended.code == 0, ended.err
    assert metrics_of(tmp_path / "lit")["final"] == {"val/mine": 0.5, "test/mine": 0.25}
    assert "optimized_metric" not in ended.err
    ended = lit_optim_("train", *data, *lit[:2], "optimized_metric=val/min", "callbacks=none", "hydra.run.dir=odd")
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[-6:] == [
        "lit-optim: warning",
        "optimized_metric: the run has no such metric",
        "    given:   val/min",
        "    allowed: val/mine, test/mine",
        "    nearest: val/mine",
        "    fix:     name a metric of the run, or set it to null",
    ]


def test_own_schedule(lit_optim_: Any, tmp_path: Path) -> None:
    write(
        tmp_path / "mine_schedule.py",
        """
        from dataclasses import dataclass
        from lit_optim.schedules import Schedule

        @dataclass(frozen=True)
        class Saw(Schedule):
            teeth: int = 2
            def curve(self, start, horizon):
                return lambda step: start * (1 + step % self.teeth)
        """,
    )
    ended = lit_optim_(
        "train", *TINY, "schedule=none", "rules=none", "optimizer=sgd", "hydra.run.dir=run",
        "schedule.lr._target_=mine_schedule.Saw", "schedule.lr.teeth=3",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    lrs = [point.value for point in events_of(tmp_path / "run").Scalars("lr/default")]
    assert lrs == pytest.approx([0.1 * (1 + step % 3) for step in range(len(lrs))])
    assert len(lrs) == 6


# --- what may go wrong on the way ------------------------------------------------------------------------------------


def test_a_run_that_dies_stays_and_says_so(lit_optim_: Any, tmp_path: Path) -> None:
    write(
        tmp_path / "mine_dies.py",
        """
        from lightning.pytorch import Callback

        class Dies(Callback):
            def on_train_batch_end(self, trainer, *_):
                if trainer.global_step == 3:
                    raise RuntimeError("the power went")
        """,
    )
    ended = lit_optim_("train", *TINY, "+callbacks.dies._target_=mine_dies.Dies")
    assert ended.code == 1
    assert "the power went" in ended.err
    run = only_run(tmp_path)
    assert (metrics_of(run)["status"], metrics_of(run)["steps"]) == ("crashed", 3)
    assert [point.step for point in events_of(run).Scalars("train/loss")] == [0, 1, 2]


def test_the_process_is_left_as_it_was(lit_optim_: Any) -> None:
    import os
    import sys

    argv, value = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    assert lit_optim_("train", *TINY, "optimizer.lr=-1").code == 1
    assert lit_optim_("plan", "optimizer=nope").code == 1
    assert sys.argv == argv
    assert os.environ.get("HYDRA_FULL_ERROR") == value
