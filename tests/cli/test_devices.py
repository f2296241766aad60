"""Two gloo ranks train what one process does on the same global batches, with all that a recipe can ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lit_optim as lo
from lit_optim.measurement import QUANTITIES

# whole batches only: what is left at an epoch's end can't be shared out evenly
SHORT = ("data=digits", "trainer.max_epochs=2", "trainer.limit_train_batches=11")
RECIPE = (  # groups, freezing for good and for a time, two classes, clipping; beside no_decay and warmup_cosine
    "model.hidden_dims=[16,16]",
    "rules.stem={match: net.layer.0, freeze_until: 1epochs}",
    "rules.fixed={match: net.layer.2.bias, freeze: true}",
    "rules.hidden={match: net.layer.2.weight, optimizer: {_target_: torch.optim.SGD, lr: 0.05, momentum: 0.9}}",
    "rules.head={match: {module: head}, multiply: {lr: 3}, clip_norm: 0.1}",
    "schedule.weight_decay={_target_: lit_optim.schedules.Linear, final_factor: 2.0}",
    "trainer.gradient_clip_val=0.5",
)
EACH = ("every", "zero_grads", "effective_step", "dead_relu", "histograms")
COMMON = (*SHORT, *RECIPE, *(f"callbacks.monitor.{name}=5" for name in EACH))
MIXED = ("trainer.precision=bf16-mixed",)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(forked: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """One process, batches of 128, trained once for whoever asks; in a process of its own, as the others are."""
    runs: dict[tuple[str, ...], Path] = {}

    def run(*more: str) -> Path:
        if more not in runs:
            folder = tmp_path_factory.mktemp("alone")
            command = ("-m", "lit_optim", "train", *COMMON, *more, "data.batch_size=128", "hydra.run.dir=run")
            forked.run(*command, cwd=folder).check_returncode()
            runs[more] = folder / "run"
        return runs[more]

    return run


def state_of(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def check_same(run: Path, alone: Path, close: float = 1e-5) -> None:
    """Weights, losses, results, and the plan, whatever it says of how steps are computed."""
    ours, theirs = state_of(run), state_of(alone)
    assert ours["global_step"] == theirs["global_step"] == 22
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=10 * close, atol=close)
    metrics, its_metrics = (json.loads((folder / "metrics.json").read_text()) for folder in (run, alone))
    assert metrics["status"] == "finished"
    final = {tag: pytest.approx(value, abs=10 * close) for tag, value in its_metrics["final"].items()}
    assert metrics["final"] == final
    plan, its_plan = (lo.Plan.from_json((folder / "plan.json").read_text()) for folder in (run, alone))
    assert plan.hash == its_plan.hash
    assert [plan.diff(its_plan), plan.warnings] == [[], its_plan.warnings]
    losses, others = ([point.value for point in events_of(folder).Scalars("train/loss")] for folder in (run, alone))
    assert len(losses) == 22
    assert losses == pytest.approx(others, rel=100 * close)


def events_of(run: Path) -> EventAccumulator:
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    return EventAccumulator(str(run), {"histograms": 0}).Reload()


def check_same_figures(events: EventAccumulator, reference: EventAccumulator) -> None:
    """What the monitor says of each group's steps is about whole tensors and all samples, wherever they lie."""
    tags = [tag for tag in reference.Tags()["scalars"] if tag.split("/")[0] in {*QUANTITIES, "total", "dead_relu"}]
    assert {tag.split("/")[0] for tag in tags} == {*QUANTITIES, "total", "dead_relu"}
    for tag in tags:
        ours, theirs = ([(point.step, point.value) for point in each.Scalars(tag)] for each in (events, reference))
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        assert dict(ours) == pytest.approx(dict(theirs), rel=1e-3, abs=1e-9), tag
    assert reference.Tags()["histograms"] == events.Tags()["histograms"] != []
    for tag in reference.Tags()["histograms"]:
        ours, theirs = ([point.histogram_value for point in each.Histograms(tag)] for each in (events, reference))
        assert [one.num for one in ours] == [one.num for one in theirs]
        assert [one.sum_squares for one in ours] == pytest.approx([one.sum_squares for one in theirs], rel=1e-3)


STRATEGIES = {
    "ddp": ("trainer=ddp_cpu",),
    "fsdp": ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_end_as_one_process(
    fresh: Any, process: Any, tmp_path: Path, alone: Callable[..., Path], strategy: str
) -> None:
    command = fresh if strategy == "ddp" else process  # once with all that a start is
    ended = command("train", *STRATEGIES[strategy], *COMMON, "data.batch_size=64", timeout=180)
    assert ended.code == 0, ended.err
    [run] = (tmp_path / "runs" / "default").iterdir()  # one folder for both
    check_same(run, alone())
    check_same_figures(events_of(run), events_of(alone()))
    assert ended.out.count("dashboard  tensorboard --logdir runs") == 1
    assert ended.out.count(" optimizer steps, ") == 1  # the plan, once
    assert ended.out.count("shard units: the whole model as one") == (strategy == "fsdp")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_in_mixed_precision_end_as_one_process(
    process: Any, tmp_path: Path, alone: Callable[..., Path], strategy: str
) -> None:
    two = (*STRATEGIES[strategy], *MIXED, "data.batch_size=64", "hydra.run.dir=two")
    ended = process("train", *COMMON, *two, timeout=180)
    assert ended.code == 0, ended.err
    check_same(tmp_path / "two", alone(*MIXED), close=5e-4)  # gradients of half of the samples are rounded apart
    weights, others = (state_of(run)["state_dict"]["net.layer.4.weight"] for run in (tmp_path / "two", alone()))
    assert not torch.allclose(weights, others, rtol=0, atol=1e-5)


def test_muon_takes_whole_matrices_under_fsdp(process: Any, lit_optim_: Any, tmp_path: Path) -> None:
    muon = "{match: {module: linear, ndim: 2, not: {module: head}}, optimizer: {_target_: torch.optim.Muon, lr: 0.02}}"
    common = (*SHORT, "model.hidden_dims=[16]", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    common = (*common, f"rules.hidden={muon}", "schedule=none")
    ended = process("train", *common, *STRATEGIES["fsdp"], "data.batch_size=64", "hydra.run.dir=two", timeout=180)
    assert ended.code == 0, ended.err
    assert lit_optim_("train", *common, "data.batch_size=128", "hydra.run.dir=alone").code == 0
    ours, theirs = (state_of(tmp_path / name)["state_dict"] for name in ("two", "alone"))
    for name, tensor in theirs.items():  # it orthogonalizes in bfloat16, and moves by 2.5e-3 a step
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=3e-4)


MODULE = '''
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn.functional import cross_entropy, linear


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


class Own(LightningModule):
    """With a parameter of its own, a tied one that no module is called for, and no forward."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((8,), 0.5))
        self.stem, self.blocks = nn.Linear(64, 8), nn.ModuleList(Block() for _ in range(2))
        self.ends = nn.ModuleDict({"first": nn.Linear(8, 10, bias=False), "second": nn.Linear(8, 10)})
        self.ends["second"].weight = self.ends["first"].weight

    def loss(self, batch):
        x, y = batch
        x = self.stem(x.flatten(1)) * self.scale
        for block in self.blocks:
            x = block(x)
        return cross_entropy(linear(x, self.ends["first"].weight) + self.ends["second"](x), y)

    def training_step(self, batch, batch_idx):
        return {"loss": self.loss(batch)}

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch), sync_dist=True)
'''


def test_a_module_that_does_not_shard_itself_is_sharded(process: Any, lit_optim_: Any, tmp_path: Path) -> None:
    """Schedule-free moves the weights between validation and the next batch, behind what FSDP2 has gathered."""
    (tmp_path / "mine.py").write_text(MODULE)
    common = ["data=digits", "model=own", "model._target_=mine.Own", "optimizer=schedule_free", "trainer.max_epochs=1"]
    common += ["rules.second={match: blocks.1, lr: 0.01}", "trainer.limit_train_batches=8", "optimized_metric=val/loss"]
    common += ["+trainer.val_check_interval=2", "trainer.limit_val_batches=1", "callbacks.checkpoint=null"]
    ended = process("train", *common, *STRATEGIES["fsdp"], "data.batch_size=64", "hydra.run.dir=two", timeout=180)
    assert ended.code == 0, ended.err
    assert "shard units: blocks.0, blocks.1; all else together" in ended.out
    planned = lit_optim_("plan", *common, *STRATEGIES["fsdp"], "data.batch_size=64", "--json").out
    assert planned == (tmp_path / "two" / "plan.json").read_text()
    assert json.loads(planned)["shard_units"] == ["blocks.0", "blocks.1", ""]
    ended = lit_optim_("train", *common, "data.batch_size=128", "hydra.run.dir=alone")
    assert ended.code == 0, ended.err
    ours, theirs = (state_of(tmp_path / name) for name in ("two", "alone"))
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)
    assert ours["optimizer_states"][0]["state"].keys() == theirs["optimizer_states"][0]["state"].keys()


FEW = """
from lit_optim.data import Digits, Splits

class Few(Digits):
    def load(self):
        whole = super().load()
        return Splits(whole.train, *((x[:7], y[:7]) for x, y in (whole.val, whole.test)))
"""


def test_each_sample_of_a_validation_counts_the_same(process: Any, lit_optim_: Any, tmp_path: Path) -> None:
    """Seven on two ranks: Lightning would take the mean of their counts, 3.5, for 3."""
    (tmp_path / "few.py").write_text(FEW)
    common = ("data=own", "data._target_=few.Few", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
    for name, command, own in (
        ("one", lit_optim_, ("data.batch_size=64",)),
        ("two", process, ("data.batch_size=32", *STRATEGIES["ddp"])),
    ):
        ended = command("train", *common, *own, f"hydra.run.dir={name}")
        assert ended.code == 0, ended.err
    ours, theirs = (json.loads((tmp_path / name / "metrics.json").read_text())["final"] for name in ("two", "one"))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert {*theirs} >= {"val/loss", "val/acc", "test/loss", "test/acc"}


DRAWN = """
import os
import torch
from torch import nn

class Drawn(nn.Sequential):
    '''Its weights are each process's own, and so are the samples that its norm counts.'''

    def __init__(self):
        torch.manual_seed(int(os.environ.get("LOCAL_RANK", 0)))
        super().__init__(nn.Flatten(), nn.Linear(64, 8, bias=False), nn.BatchNorm1d(8, momentum=0.5), nn.Linear(8, 10))
        self.register_buffer("flag", torch.tensor(True))
"""


def test_parameters_and_buffers_are_rank_zeros_under_fsdp_as_under_ddp(process: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(DRAWN)
    common = [*SHORT, "model=own", "model._target_=mine.Drawn", "data.batch_size=16", "schedule=none"]
    for name, own in STRATEGIES.items():
        ended = process("train", *common, *own, f"hydra.run.dir={name}", timeout=180)
        assert ended.code == 0, ended.err
    ours, theirs = (state_of(tmp_path / name)["state_dict"] for name in ("fsdp", "ddp"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)
    final, others = (json.loads((tmp_path / name / "metrics.json").read_text())["final"] for name in ("fsdp", "ddp"))
    assert final == pytest.approx(others, rel=1e-4)


def test_an_optimizer_without_state_is_tested_and_resumed_under_fsdp(process: Any, tmp_path: Path) -> None:
    common = [*SHORT, *STRATEGIES["fsdp"], "optimizer=sgd", "schedule=none", "data.batch_size=64"]
    first = process("train", *common, "trainer.max_epochs=1", "hydra.run.dir=first", timeout=180)
    assert first.code == 0, first.err
    ended = process("train", *common, "ckpt=first/checkpoints/last.ckpt", "hydra.run.dir=second", timeout=180)
    assert ended.code == 0, ended.err
    assert [state_of(tmp_path / name)["global_step"] for name in ("first", "second")] == [11, 22]
    assert "test/acc" in ended.out


EQUAL = (
    "data=digits",
    "model.hidden_dims=[10,10]",
    "trainer.limit_train_batches=4",
    "optimizer.lr=0.01",
    "rules=none",
    "rules.second={match: net.layer.2, lr: 0.02}",
    "schedule=exponential",  # which is the same however long the run
    "schedule.lr.rate=0.7",
    "test=false",
)
ORDERS = {  # a norm that no gradient has: the layers' groups, and so their places, are all that differs
    "0, 4, 2": "rules.clipped={match: net.layer.2, clip_norm: 1000}",
    "0, 2, 4": "rules.clipped={match: net.layer.4, clip_norm: 1000}",
}
LEGS = ("single", "ddp", "ddp", "fsdp", "fsdp", "single", "fsdp", "ddp", "single")


def test_state_goes_with_its_parameter_from_every_strategy_to_every_other(
    process: Any, lit_optim_: Any, tmp_path: Path
) -> None:
    """Two layers are of one shape: by position their moments would be swapped, and nobody told."""
    assert len({*pairwise(LEGS)}) == 8  # all but from a single process to another
    one, two = ("data.batch_size=128",), ("data.batch_size=64",)
    devices = {"single": one, **{name: (*own, *two) for name, own in STRATEGIES.items()}}
    orders = [*ORDERS.values()]
    for number, strategy in enumerate(LEGS, 1):
        leg = ["train", *EQUAL, *devices[strategy], f"hydra.run.dir=leg{number}", orders[number % 2]]
        leg += [f"ckpt=leg{number - 1}/checkpoints/last.ckpt"] * (number > 1)
        command = lit_optim_ if strategy == "single" else process
        ended = command(*leg, f"trainer.max_epochs={number}")
        assert ended.code == 0, ended.err
    whole = (*EQUAL, *one, orders[0], f"trainer.max_epochs={len(LEGS)}", "hydra.run.dir=whole")
    assert lit_optim_("train", *whole).code == 0
    ours, theirs = state_of(tmp_path / f"leg{len(LEGS)}"), state_of(tmp_path / "whole")
    assert ours["global_step"] == theirs["global_step"] == 4 * len(LEGS)
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=1e-3, atol=1e-5)
    for name, state in theirs["optimizer_states"][0]["state"].items():
        for moment in ("exp_avg", "exp_avg_sq"):
            mine = ours["optimizer_states"][0]["state"][name][moment]
            torch.testing.assert_close(mine, state[moment], rtol=1e-2, atol=1e-6)


def test_what_has_no_saved_state_begins_anew_under_fsdp(process: Any, lit_optim_: Any, tmp_path: Path) -> None:
    """One layer was frozen, one is again at first, and one changes its class: torch's own loader wants all the same."""
    first = ("rules.a={match: net.layer.0, freeze: true}", "rules.b={match: net.layer.2, freeze_until: 2}")
    then = "rules.c={match: net.layer.4, optimizer: {_target_: torch.optim.SGD, lr: 0.1, momentum: 0.9}}"
    one, two = ("data.batch_size=128",), ("data.batch_size=64", *STRATEGIES["fsdp"])
    start = ("trainer.max_epochs=1", "hydra.run.dir=start")
    assert lit_optim_("train", *EQUAL, *one, "rules.second=null", *first, *start).code == 0
    for devices, command, folder in ((one, lit_optim_, "one"), (two, process, "two")):
        more = ("ckpt=start/checkpoints/last.ckpt", "trainer.max_epochs=2", f"hydra.run.dir={folder}")
        ended = command("train", *EQUAL, *devices, first[1], then, *more)
        assert ended.code == 0, ended.err
    ours, theirs = (state_of(tmp_path / name) for name in ("two", "one"))
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)
    states, others = (one["optimizer_states"][0]["state"] for one in (ours, theirs))
    steps = {name: int(state["step"]) for name, state in others.items() if "step" in state}
    assert {steps["net.layer.0.weight"], steps["net.layer.2.weight"]} == {4, 6}
    assert {name: int(state["step"]) for name, state in states.items() if "step" in state} == steps


def test_two_ranks_search_one_line(process: Any, lit_optim_: Any, tmp_path: Path) -> None:
    """L-BFGS looks at losses as well as at gradients: those of the whole step, the same on both ranks."""
    common = ("data=digits", "model.hidden_dims=[16]", "trainer.max_epochs=1", "trainer.limit_train_batches=4")
    more = ("optimizer=lbfgs", "optimizer.max_iter=4", "trainer.precision=64-true", "trainer.accumulate_grad_batches=2")
    two = ("trainer=ddp_cpu", "data.batch_size=64", "hydra.run.dir=two")
    ended = process("train", *common, *more, *two, timeout=180)
    assert ended.code == 0, ended.err
    ended = lit_optim_("train", *common, *more, "data.batch_size=128", "hydra.run.dir=alone")
    assert ended.code == 0, ended.err
    ours, theirs = (state_of(tmp_path / name) for name in ("two", "alone"))
    assert ours["global_step"] == theirs["global_step"] == 2
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("trainer=ddp_cpu", "rules.a.match=nope", "rules.a.lr=1"), "rules.a.match"),
        ((*STRATEGIES["fsdp"], "optimizer=adafactor"), "trainer.strategy: torch.optim.Adafactor can't step parameters"),
    ],
)
def test_a_refusal_is_told_once_and_ends_every_rank(
    typed: tuple[str, ...], said: str, process: Any, tmp_path: Path
) -> None:
    ended = process("train", *SHORT, *typed, timeout=120)
    assert ended.code == 1
    assert ended.err.count("lit-optim: PlanError") == 1
    assert ended.err.count(said) == 1
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("trainer", ["gpu", "ddp", "fsdp"])
def test_a_gpu_that_is_not_there_is_told(lit_optim_: Any, tmp_path: Path, trainer: str) -> None:
    ended = lit_optim_("train", *SHORT, f"trainer={trainer}")
    assert ended.code == 1
    assert "trainer" in ended.err
    assert "gpu" in ended.err.lower()
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []
