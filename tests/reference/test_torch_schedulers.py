"""What a plan says of torch's schedulers, and what these do when they are stepped over a real optimizer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from schedulers import falling_factor
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

import lit_optim as lo
from lit_optim.data.loader import TensorLoader
from lit_optim.names import find
from lit_optim.simulation import TorchSchedule
from lit_optim.targets import allowing

TOTAL, EPOCH = 60, 6
RUN = lo.Horizon(TOTAL, EPOCH)
RATES = (0.3, 0.03)


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"torch.optim.lr_scheduler.{name}", **arguments}


WARMUP = node("LinearLR", start_factor=0.1, total_iters=4)
FACTOR = {"_target_": "schedulers.falling_factor", "rate": 0.99}
KEEPING = [  # a lr of its own for each group
    node("StepLR", step_size=7, gamma=0.5),
    node("MultiStepLR", milestones=[3, 9, 9, 30], gamma=0.3),
    node("ConstantLR", factor=0.25, total_iters=8),
    node("LinearLR", start_factor=0.5, end_factor=0.1, total_iters=20),
    node("ExponentialLR", gamma=0.93),
    node("PolynomialLR", total_iters=40, power=1.7),
    node("CosineAnnealingLR", T_max=60, eta_min=1e-3),
    node("CosineAnnealingLR", T_max=7),
    node("CosineAnnealingWarmRestarts", T_0=4, T_mult=2, eta_min=1e-3),
    node("SequentialLR", schedulers=[WARMUP, node("CosineAnnealingLR", T_max=56)], milestones=[4]),
    node("SequentialLR", schedulers=[WARMUP, node("StepLR", step_size=3), WARMUP], milestones=[4, 20]),
    node("ChainedScheduler", schedulers=[WARMUP, node("ExponentialLR", gamma=0.97)]),
    node("LambdaLR", lr_lambda=FACTOR),
    node("MultiplicativeLR", lr_lambda=FACTOR),
    {"_target_": "schedulers.Halving", "floor": 0.001},
    {"_target_": "schedulers.OtherName"},
]
FLATTENING = [  # the same for every group, which is refused where they differ
    node("OneCycleLR", max_lr=1.0, total_steps=60, cycle_momentum=False),
    node("OneCycleLR", max_lr=0.5, epochs=10, steps_per_epoch=7, three_phase=True, cycle_momentum=False),
    node("OneCycleLR", max_lr=0.5, total_steps=60, anneal_strategy="linear", cycle_momentum=False),
    node("CyclicLR", base_lr=0.01, max_lr=0.2, step_size_up=5, cycle_momentum=False),
    node("CyclicLR", base_lr=0.01, max_lr=0.2, step_size_up=5, mode="triangular2", cycle_momentum=False),
    node("CyclicLR", base_lr=0.01, max_lr=0.2, step_size_down=3, mode="exp_range", gamma=0.9, cycle_momentum=False),
]


def by_hand(what: Any, optimizer: Optimizer) -> Any:
    """The scheduler that a node stands for, as a user would construct it."""
    if isinstance(what, list):
        return [by_hand(item, optimizer) for item in what]
    if not isinstance(what, dict):
        return what
    arguments = {name: by_hand(item, optimizer) for name, item in what.items() if name != "_target_"}
    cls: Any = find(what["_target_"], (), "")
    if cls in (falling_factor, lr_scheduler.ChainedScheduler):
        return cls(**arguments)
    return cls(optimizer, **arguments)


def stepped(what: Any, is_due: Callable[[int], bool], rates: tuple[float, ...] = RATES) -> list[list[float]]:
    """The learning rates that each step of a real optimizer uses, its scheduler stepped wherever it is due."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = by_hand(what, optimizer)
    used = []
    for step in range(TOTAL):
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if is_due(step):
            scheduler.step()
    return used


def planned(what: dict[str, Any], rates: tuple[float, ...] = RATES) -> lo.Plan:
    recipe = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": rates[0]},
        "rules": {"head": {"match": "1", "lr": rates[-1]}} if len(rates) > 1 else {},
        "schedule": {"lr": what},
    }
    with allowing("schedulers.falling_factor"):
        return lo.make_plan(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), recipe, RUN)


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # by hand, in older torch
@pytest.mark.parametrize("what", [*KEEPING, *FLATTENING], ids=str)
def test_the_plan_tells_every_value(what: dict[str, Any]) -> None:
    rates = RATES if what in KEEPING else RATES[:1]
    for interval, frequency, is_due in (
        ("step", 1, lambda step: True),
        ("step", 4, lambda step: step % 4 == 3),
        ("epoch", 1, lambda step: step % EPOCH == EPOCH - 1),
        ("epoch", 2, lambda step: step % (2 * EPOCH) == 2 * EPOCH - 1),
    ):
        with allowing("schedulers.falling_factor"):
            plan = planned({**what, "interval": interval, "frequency": frequency}, rates)
            curves = [plan.curve(group.name, "lr").tolist() for group in plan.groups]
        assert [list(both) for both in zip(*curves, strict=True)] == stepped(what, is_due, rates)


def test_every_class_of_torch_is_among_these() -> None:
    tested = {what["_target_"].rpartition(".")[2] for what in (*KEEPING, *FLATTENING)}
    bases = {"LRScheduler", "ReduceLROnPlateau"}
    assert {*lr_scheduler.__all__} - bases <= tested


@pytest.mark.parametrize("what", KEEPING[:9], ids=str)
def test_any_step_in_any_order(what: dict[str, Any]) -> None:
    curve = TorchSchedule(what).curve(0.3, lo.Horizon(-1))
    steps = [*range(0, TOTAL, 3), *range(TOTAL)]
    random.Random(0).shuffle(steps)
    values = stepped(what, lambda step: True)
    assert [curve(step) for step in steps] == [values[step][0] for step in steps]


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.head(self.base(batch[0])).square().mean()


class Used(Callback):
    def __init__(self) -> None:
        self.values: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.values.append([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize("frequency", [1, 2])
@pytest.mark.parametrize("what", [KEEPING[0], KEEPING[6], KEEPING[9]], ids=str)
def test_a_fit_uses_them(trainer: Callable[..., Trainer], what: dict[str, Any], frequency: int) -> None:
    recipe = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": RATES[0]},
        "rules": {"head": {"match": "head", "lr": RATES[1]}},
        "schedule": {"lr": {**what, "interval": "epoch", "frequency": frequency}},
    }
    used = Used()
    made = trainer(max_epochs=10, accumulate_grad_batches=2, callbacks=[used])
    made.fit(lo.attach(Net(), recipe), TensorLoader((torch.ones(44, 3),), 4))  # 11 batches, 6 steps
    assert made.global_step == TOTAL
    assert used.values == stepped(what, lambda step: step % (EPOCH * frequency) == EPOCH * frequency - 1)
