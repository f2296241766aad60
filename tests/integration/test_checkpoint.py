from pathlib import Path
from typing import Any

import pytest
import torch

import lit_optim as lo
from lit_optim.integration.checkpoint import Checkpoint
from lit_optim.models import MLP
from lit_optim.scheduler import PlanScheduler

ADAMW = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3}}
HEAD = {"rules": {"head": {"match": "layer.2", "lr": 1e-2}}}


def built(recipe: dict[str, Any], steps: int = 10) -> PlanScheduler:
    model = MLP(4, (3,), 2)
    scheduler = lo.build(model, lo.make_plan(model, recipe, lo.Horizon(steps)))[1]
    assert isinstance(scheduler, PlanScheduler)
    return scheduler


def saved(path: Path, recipe: dict[str, Any], step: int = 5) -> Checkpoint:
    scheduler = built(recipe)
    state = scheduler.optimizer.state_dict()
    content = {"state_dict": {}, "optimizer_states": [state], "lr_schedulers": [], "loops": {}}
    torch.save({**content, "global_step": step, "lit_optim": {"plan": scheduler.plan.to_json()}}, path / "some.ckpt")
    return Checkpoint.read("ckpt", str(path / "some.ckpt"))


def test_the_state_of_the_same_recipe_fits(tmp_path: Path) -> None:
    assert saved(tmp_path, ADAMW | HEAD).check_fits(built(ADAMW | HEAD), "error") == []


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (ADAMW, "head: group removed"),
        (ADAMW | {"rules": {"last": {"match": "layer.2", "lr": 3e-2}}}, "2 tensors moved from head to last"),
        (ADAMW | {"rules": {"head": {"match": "layer.2", "lr": 3e-2}}}, "head: lr 0.01 → 0.03"),
        (
            {"optimizer": {"_target_": "torch.optim.SGD"}} | HEAD,
            "head: optimizer torch.optim.AdamW → torch.optim.SGD",
        ),
        (
            ADAMW | HEAD | {"schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine"}}},
            "head: schedule of lr none → Cosine()",
        ),
    ],
)
def test_what_changed_is_told_or_refused(recipe: dict[str, Any], told: str, tmp_path: Path) -> None:
    checkpoint, scheduler = saved(tmp_path, ADAMW | HEAD), built(recipe)
    assert told in checkpoint.check_fits(scheduler)
    with pytest.raises(lo.RunError, match=r"resume\.on_change=error refuses that") as refused:
        checkpoint.check_fits(scheduler, "error")
    assert told in str(refused.value)


def test_a_state_that_names_no_parameters_is_refused(tmp_path: Path) -> None:
    optimizer = torch.optim.AdamW(MLP(4, (3,), 2).parameters())
    content = {"state_dict": {}, "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [], "loops": {}}
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(lo.RunError, match="its optimizer state doesn't say which parameters it belongs to") as refused:
        Checkpoint.read("ckpt", str(tmp_path / "foreign.ckpt")).check_fits(built(ADAMW))
    assert "weights=PATH" in str(refused.value)


WRAPPED = {"_target_": "pytorch_optimizer.Lookahead", "optimizer": "torch.optim.SGD", "lr": 0.1}
OWN_GROUPS = {"_target_": "pytorch_optimizer.AdamMini", "lr": 0.1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"optimizer": WRAPPED} | HEAD, {"optimizer": WRAPPED}),
        ({"optimizer": WRAPPED}, {"optimizer": WRAPPED} | HEAD),
        (ADAMW, {"optimizer": WRAPPED}),
        ({"optimizer": WRAPPED}, ADAMW),
        (ADAMW, {"optimizer": OWN_GROUPS}),
        ({"optimizer": OWN_GROUPS}, ADAMW),
    ],
)
def test_a_state_that_goes_by_position_fits_the_same_groups_alone(before: Any, after: Any, tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, before)
    checkpoint.check_fits(built(before))
    scheduler = built(after)
    with pytest.raises(lo.RunError, match=r"goes by position|doesn't say which parameters"):
        checkpoint.check_fits(scheduler)
    with pytest.raises(lo.RunError, match=r"goes by position|doesn't say which parameters"):
        scheduler.optimizer.load_state_dict(checkpoint.content["optimizer_states"][0])


def test_a_run_that_is_over_is_refused(tmp_path: Path) -> None:
    with pytest.raises(lo.RunError, match="it stands at step 10 of a run of 10: nothing is left to train"):
        saved(tmp_path, ADAMW, step=10).check_fits(built(ADAMW))
    saved(tmp_path, ADAMW, step=10).check_fits(built(ADAMW, steps=11))
    saved(tmp_path, ADAMW, step=10).check_fits(built(ADAMW), over=True)


@pytest.mark.parametrize("given", [5, True, ["a"], {}])
def test_what_is_no_path_is_refused(given: object) -> None:
    with pytest.raises(lo.RunError, match="weights: the path of a checkpoint is needed"):
        Checkpoint.read("weights", given)


def test_a_file_of_weights_alone_is_no_full_state(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "w.ckpt")
    assert Checkpoint.read("weights", str(tmp_path / "w.ckpt")).content == {"state_dict": {}}
    with pytest.raises(lo.RunError, match="it has no optimizer_states, lr_schedulers, loops"):
        Checkpoint.read("ckpt", str(tmp_path / "w.ckpt"))


def test_what_is_loaded_is_plain(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "more": Path("code")}, tmp_path / "w.ckpt")
    with pytest.raises(lo.RunError, match="this file can't be read"):
        Checkpoint.read("weights", str(tmp_path / "w.ckpt"))
