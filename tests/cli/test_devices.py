"""Two gloo ranks train what one process does on the same global batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_optim.measurement import QUANTITIES

# whole batches only: what is left at an epoch's end can't be shared out evenly
COMMON = ("data=digits", "trainer.max_epochs=2", "trainer.limit_train_batches=11", "model.hidden_dims=[16]")
EACH = ("every", "zero_grads", "effective_step", "dead_relu", "histograms")
MONITORED = (*(f"callbacks.monitor.{name}=5" for name in EACH), "trainer.gradient_clip_val=0.5")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(forked: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, batches of 128; in a process of its own, as the others are."""
    folder = tmp_path_factory.mktemp("alone")
    command = ("-m", "lit_optim", "train", *COMMON, *MONITORED, "data.batch_size=128", "hydra.run.dir=run")
    forked.run(*command, cwd=folder).check_returncode()
    return folder / "run"


def state_of(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def check_same(run: Path, alone: Path) -> None:
    ours, theirs = state_of(run), state_of(alone)
    assert ours["global_step"] == theirs["global_step"] == 22
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)
    assert len(list(run.glob("events.out.tfevents.*"))) == 1
    metrics, its_metrics = (json.loads((folder / "metrics.json").read_text()) for folder in (run, alone))
    assert metrics["status"] == "finished"
    assert metrics["final"] == {tag: pytest.approx(value, abs=1e-4) for tag, value in its_metrics["final"].items()}
    assert (run / "plan.json").read_text() == (alone / "plan.json").read_text()
    events, reference = (EventAccumulator(str(folder), {"histograms": 0}).Reload() for folder in (run, alone))
    losses, others = ([point.value for point in each.Scalars("train/loss")] for each in (events, reference))
    assert losses == pytest.approx(others, rel=1e-3)
    check_same_figures(events, reference)


def check_same_figures(events: EventAccumulator, reference: EventAccumulator) -> None:
    """What the monitor says of each group's steps is about whole tensors and all samples, wherever they lie."""
    tags = [tag for tag in reference.Tags()["scalars"] if tag.split("/")[0] in {*QUANTITIES, "total", "dead_relu"}]
    assert len(tags) == 3 * len(QUANTITIES) + 2
    for tag in tags:
        ours, theirs = ([(point.step, point.value) for point in each.Scalars(tag)] for each in (events, reference))
        assert [step for step, _ in ours] == [step for step, _ in theirs] == [0, 5, 10, 15, 20]
        assert dict(ours) == pytest.approx(dict(theirs), rel=1e-3, abs=1e-9), tag
    assert reference.Tags()["histograms"] == events.Tags()["histograms"]
    for tag in reference.Tags()["histograms"]:
        ours, theirs = ([point.histogram_value for point in each.Histograms(tag)] for each in (events, reference))
        assert [one.num for one in ours] == [one.num for one in theirs]
        assert [one.sum_squares for one in ours] == pytest.approx([one.sum_squares for one in theirs], rel=1e-3)


STRATEGIES = {
    "ddp": ("trainer=ddp_cpu",),
    "fsdp": ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2"),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_end_with_the_weights_of_one_process(
    fresh: Any, process: Any, tmp_path: Path, alone: Path, strategy: str
) -> None:
    command = fresh if strategy == "ddp" else process  # once with all that a start is
    ended = command("train", *STRATEGIES[strategy], *COMMON, *MONITORED, "data.batch_size=64", timeout=180)
    assert ended.code == 0, ended.err
    [run] = (tmp_path / "runs" / "default").iterdir()  # one folder for both
    check_same(run, alone)
    assert ended.out.count("dashboard  tensorboard --logdir runs") == 1
    assert ended.out.count(" optimizer steps, ") == 1  # the plan, once
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


FREEZING = (
    "rules.stem.match=layer.0",
    "rules.stem.freeze_until=1epochs",
    "rules.bias.match=layer.2.bias",
    "rules.bias.freeze=true",
    "rules.hidden={match: net.layer.0.weight, optimizer: {_target_: torch.optim.Muon, lr: 0.02}}",
)


def test_freezing_and_two_classes_under_ddp_end_as_in_one_process(
    process: Any, lit_optim_: Any, tmp_path: Path
) -> None:
    two = ("trainer=ddp_cpu", "data.batch_size=64", "hydra.run.dir=ddp")
    ended = process("train", *COMMON, *FREEZING, *two, timeout=180)
    assert ended.code == 0, ended.err
    ended = lit_optim_("train", *COMMON, *FREEZING, "data.batch_size=128", "hydra.run.dir=alone")
    assert ended.code == 0, ended.err
    ours, theirs = (state_of(tmp_path / name)["state_dict"] for name in ("ddp", "alone"))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)


HIDDEN = "rules.hidden={match: {module: linear, ndim: 2, not: {module: head}}, optimizer: {_target_: torch.optim.%s}}"
CLIPPED = ("rules.head={match: {module: head}, clip_norm: 0.1}", "trainer.gradient_clip_val=0.5")


@pytest.mark.parametrize(("strategy", "child"), [("fsdp", "Muon"), ("fsdp", "SGD")])
def test_several_optimizers_and_clipped_groups_end_as_in_one_process(
    process: Any, lit_optim_: Any, tmp_path: Path, strategy: str, child: str
) -> None:
    common = ["data=digits", "model.hidden_dims=[16]", "trainer.max_epochs=1", "schedule=none", *CLIPPED]
    common += [
        HIDDEN % child,
        "rules.hidden.lr=0.02",
        "rules.hidden.momentum=0.9",
        f"trainer.limit_train_batches={8 if child == 'SGD' else 2}",
    ]
    ended = process("train", *common, *STRATEGIES[strategy], "data.batch_size=64", "hydra.run.dir=two", timeout=180)
    assert ended.code == 0, ended.err
    ended = lit_optim_("train", *common, "data.batch_size=128", "hydra.run.dir=alone")
    assert ended.code == 0, ended.err
    ours, theirs = (state_of(tmp_path / name)["state_dict"] for name in ("two", "alone"))
    close = {"SGD": 1e-6, "Muon": 3e-4}[child]  # Muon orthogonalizes in bfloat16, and moves by 2.5e-3 a step
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=close)


def test_an_optimizer_without_state_is_tested_and_resumed_under_fsdp(process: Any, tmp_path: Path) -> None:
    common = [*COMMON, *STRATEGIES["fsdp"], "optimizer=sgd", "schedule=none", "data.batch_size=64"]
    first = process("train", *common, "trainer.max_epochs=1", "hydra.run.dir=first", timeout=180)
    assert first.code == 0, first.err
    ended = process("train", *common, "ckpt=first/checkpoints/last.ckpt", "hydra.run.dir=second", timeout=180)
    assert ended.code == 0, ended.err
    assert [state_of(tmp_path / name)["global_step"] for name in ("first", "second")] == [11, 22]
    assert "test/acc" in ended.out


EQUAL = (
    "data=digits",
    "model.hidden_dims=[10,10]",
    "trainer.limit_train_batches=6",
    "optimizer=momentum",
    "schedule=none",
)
FIRST, SECOND = (f"rules.layer{n}={{match: net.layer.{n}, lr: 0.0{n}, weight_decay: 0}}" for n in (4, 2))


def test_state_goes_with_its_parameter_from_one_strategy_to_the_next(
    process: Any, lit_optim_: Any, tmp_path: Path
) -> None:
    """Layers of one shape, their groups in another order each time: by position their moments would be swapped."""
    one, two = ("data.batch_size=128",), ("data.batch_size=64",)
    legs = [
        (one, (FIRST, SECOND)),
        ((*STRATEGIES["ddp"], *two), (SECOND, FIRST)),
        ((*STRATEGIES["fsdp"], *two), (FIRST, SECOND)),
        (one, (SECOND, FIRST)),
    ]
    for number, (devices, rules) in enumerate(legs, 1):
        go_on = () if number == 1 else (f"ckpt=leg{number - 1}/checkpoints/last.ckpt",)
        own = (*rules, *go_on, f"trainer.max_epochs={number}", f"hydra.run.dir=leg{number}", "test=false")
        ended = process("train", *EQUAL, *devices, *own, timeout=180)
        assert ended.code == 0, ended.err
    whole = (*EQUAL, *one, FIRST, SECOND, f"trainer.max_epochs={len(legs)}", "hydra.run.dir=whole", "test=false")
    assert lit_optim_("train", *whole).code == 0
    ours, theirs = state_of(tmp_path / f"leg{len(legs)}"), state_of(tmp_path / "whole")
    assert ours["global_step"] == theirs["global_step"] == 6 * len(legs)
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=1e-4, atol=1e-6)
    for name, state in theirs["optimizer_states"][0]["state"].items():
        momentum = ours["optimizer_states"][0]["state"][name]["momentum_buffer"]
        torch.testing.assert_close(momentum, state["momentum_buffer"], rtol=1e-3, atol=1e-6)


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


def test_a_refusal_is_told_once_and_ends_every_rank(process: Any, tmp_path: Path) -> None:
    ended = process("train", "trainer=ddp_cpu", *COMMON, "rules.a.match=nope", "rules.a.lr=1", timeout=120)
    assert ended.code == 1
    assert ended.err.count("lit-optim: PlanError") == 1
    assert "rules.a.match" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("trainer", ["gpu", "ddp", "fsdp"])
def test_a_gpu_that_is_not_there_is_told(lit_optim_: Any, tmp_path: Path, trainer: str) -> None:
    ended = lit_optim_("train", *COMMON, f"trainer={trainer}")
    assert ended.code == 1
    assert "trainer" in ended.err
    assert "gpu" in ended.err.lower()
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []
