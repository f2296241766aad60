from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Server
from torch import nn

import lit_optim as lo
from lit_optim.integration.agreement import agreed, check_same_model

PLAN = lo.Plan((lo.Group("default", "torch.optim.SGD", {"lr": 0.1}, {}, ("w",), 4, ()),), lo.Horizon(10))


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stands in for rank 1, which says something else in its turn."""

    def says(*turns: Callable[[Any], Any]) -> None:
        left = list(turns)

        def gather(parts: list[Any], mine: Any) -> None:
            parts[:] = [mine, left.pop(0)(mine)]

        monkeypatch.setattr(torch.distributed, "all_gather_object", gather)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    return says


def test_one_process_agrees_with_itself() -> None:
    assert agreed(lambda: PLAN) is PLAN


def test_the_same_plan_and_seed_are_agreed_on(other: Any) -> None:
    other(lambda mine: mine)
    assert agreed(lambda: PLAN) is PLAN


def test_another_plan_is_told_in_words(other: Any) -> None:
    its = replace(PLAN, groups=(replace(PLAN.groups[0], hyperparameters={"lr": 0.2}),), horizon=lo.Horizon(20))
    other(lambda mine: replace(mine, hash=its.hash), lambda mine: its.to_json())
    with pytest.raises(lo.PlanError, match="different plans") as stopped:
        agreed(lambda: PLAN)
    [mistake] = stopped.value.mistakes
    assert mistake.given == "from rank 0 to rank 1: horizon: total_steps 10 → 20; default: lr 0.1 → 0.2"


def test_of_many_differences_some_are_told(other: Any) -> None:
    groups = tuple(replace(PLAN.groups[0], name=f"group{n}", parameters=(f"w{n}",)) for n in range(9))
    its = replace(PLAN, groups=groups)
    other(lambda mine: replace(mine, hash=its.hash), lambda mine: its.to_json())
    with pytest.raises(lo.PlanError, match=r"; and \d+ more"):
        agreed(lambda: PLAN)


def test_another_seed_is_told(other: Any) -> None:
    other(lambda mine: replace(mine, seed="2"))
    with pytest.raises(lo.PlanError, match="seeded differently") as stopped:
        agreed(lambda: PLAN)
    [mistake] = stopped.value.mistakes
    assert (mistake.key, mistake.given) == ("seed", "rank 0: 1, rank 1: 2")


def test_a_refusal_of_another_process_is_this_ones_as_well(other: Any) -> None:
    its = lo.Mistake("rules.head.match", "no parameter matches")
    other(lambda mine: replace(mine, hash=None, refusal=(its,)))
    with pytest.raises(lo.PlanError, match="rank 1 was refused") as stopped:
        agreed(lambda: PLAN)
    assert stopped.value.mistakes[1:] == (its,)


def test_whoever_is_refused_tells_the_others(other: Any) -> None:
    heard = []
    other(lambda mine: heard.append(mine) or mine)
    refusal = lo.PlanError(lo.Mistake("optimizer.lr", "too large"))

    def make() -> lo.Plan:
        raise refusal

    with pytest.raises(lo.PlanError) as stopped:
        agreed(make)
    assert stopped.value is refusal
    assert [(said.hash, said.refusal) for said in heard] == [(None, refusal.mistakes)]


def test_another_model_is_told_in_words(other: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LazyLinear(1))
    other(lambda mine: mine)
    check_same_model(model)
    its = {"0.weight": "(2, 3) float32", "0.bias": "(3,) float32 frozen", "1.weight": "uninitialized float32"}
    other(lambda mine: its)
    with pytest.raises(lo.PlanError, match="different models") as stopped:
        check_same_model(model)
    [mistake] = stopped.value.mistakes
    told = (
        "0.weight (3, 2) float32 → (2, 3) float32",
        "0.bias (3,) float32 → (3,) float32 frozen",
        "1.bias uninitialized float32 → absent",
    )
    assert (mistake.key, mistake.given) == ("model", f"from rank 0 to rank 1: {'; '.join(told)}")


def test_a_buffer_of_another_shape_is_told_as_well(other: Any) -> None:
    """It is sent to all from rank zero, under DDP and FSDP2 alike."""
    model = nn.Module()
    model.register_buffer("mask", torch.zeros(3))
    other(lambda mine: {"mask": mine["mask"].replace("(3,)", "(4,)")})
    with pytest.raises(lo.PlanError, match=r"mask \(3,\) float32 buffer → \(4,\) float32 buffer"):
        check_same_model(model)


APP = """
import os, sys
import torch
from lightning.pytorch import LightningModule, Trainer
import lit_optim as lo

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
        if sys.argv[1] == "model" and os.environ.get("LOCAL_RANK") == "1":
            self.more = torch.nn.Linear(2, 2)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

rank = int(os.environ.get("LOCAL_RANK", "0"))
lr = {"same": 0.1, "lr": 0.1 * (1 + rank), "refused": 0.1 - rank}.get(sys.argv[1], 0.1)
module = lo.attach(Net(), {"optimizer": {"_target_": "torch.optim.SGD", "lr": lr}})
quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, **quiet)
trainer.fit(module, torch.utils.data.DataLoader(torch.randn(16, 4), 4))
print("trained")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("same", None),
        ("lr", "from rank 0 to rank 1: default: lr 0.1 → 0.2"),
        ("model", "more.weight absent → (2, 2) float32"),
        ("refused", "optimizer.lr: torch.optim.SGD refuses this: Invalid learning rate: -0.9"),
    ],
)
def test_ranks_of_an_app_of_ones_own(how: str, said: str | None, forked: Server, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    ended = forked.run("-m", "app", how, cwd=tmp_path)
    assert (ended.returncode == 0) == (said is None), ended.stderr
    assert ended.stdout.count("trained") == (2 if said is None else 0)
    assert said is None or said in ended.stderr
