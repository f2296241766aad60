"""What an optimizer keeps in its state may be loaded, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_optimizer
import torch
from digitnet import Net, loader, same
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.serialization import clear_safe_globals, get_safe_globals

import lit_optim as lo
from lit_optim.state_types import state_types, trust
from lit_optim.traits import traits_of


@pytest.fixture(autouse=True)
def _nothing_trusted() -> Any:
    clear_safe_globals()
    yield
    clear_safe_globals()


WITH_OBJECTS = ("Conda", "SCION", "SCIONLight", "ScalableShampoo")


@pytest.mark.parametrize("name", WITH_OBJECTS)
def test_a_state_with_objects_is_resumed(name: str, trainer: Any, tmp_path: Path) -> None:
    recipe = {"optimizer": {"_target_": f"pytorch_optimizer.{name}", "lr": 1e-2}}
    whole, again = Net(), Net(3)

    def saver(folder: str) -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / folder, save_top_k=-1, filename="{epoch}")

    options = {"max_epochs": 2, "enable_checkpointing": True}
    trainer(callbacks=[saver("a")], **options).fit(lo.attach(whole, recipe), loader(12))
    clear_safe_globals()
    path = tmp_path / "a" / "epoch=0.ckpt"
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=True)
    one = trainer(callbacks=[saver("b")], **options)
    one.fit(lo.attach(again, recipe), loader(12), ckpt_path=path, weights_only=True)
    assert one.global_step == 24
    assert same(whole, again)


def test_plain_states_need_no_trust() -> None:
    assert state_types(traits_of(torch.optim.AdamW)) == state_types(traits_of(torch.optim.LBFGS)) == []
    trust(lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.AdamW"}}))
    assert get_safe_globals() == []


def test_only_the_types_that_the_class_itself_keeps_are_trusted() -> None:
    trust(lo.Recipe.from_config({"optimizer": {"_target_": "pytorch_optimizer.Conda"}}))
    assert {cls.__module__.partition(".")[0] for cls in get_safe_globals()} == {"pytorch_optimizer"}
    assert len(get_safe_globals()) == 1


def test_the_state_of_long_tensors_is_looked_at_as_well() -> None:
    """Shampoo keeps the blocks that it cuts them into."""
    names = {cls.__name__ for cls in state_types(traits_of(pytorch_optimizer.ScalableShampoo))}
    assert {"BlockPartitioner", "PreConditioner"} <= names


def test_a_state_that_torch_never_loads_is_not_saved(trainer: Any, tmp_path: Path) -> None:
    recipe = {"optimizer": {"_target_": "pytorch_optimizer.AdaShift"}}
    saver = ModelCheckpoint(tmp_path / "whole")
    with pytest.raises(lo.PlanError, match=r"its checkpoints would be lost: Can only .* lists, but got"):
        trainer(callbacks=[saver], enable_checkpointing=True).fit(lo.attach(Net(), recipe), loader(2))
    assert not (tmp_path / "whole").exists()
    saver = ModelCheckpoint(tmp_path / "weights", save_weights_only=True)
    trainer(callbacks=[saver], enable_checkpointing=True).fit(lo.attach(Net(), recipe), loader(2))
    assert torch.load(saver.best_model_path, weights_only=True)["global_step"] == 2


def test_what_can_not_be_used_is_passed_over() -> None:
    trust(lo.Recipe.from_config({"optimizer": {"_target_": "pytorch_optimizer.LOMO"}}))
    trust(lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.Adamm"}}))
    assert get_safe_globals() == []


def test_what_is_said_may_bring_other_types() -> None:
    traits = traits_of(pytorch_optimizer.ScalableShampoo)
    plain = {cls.__name__ for cls in state_types(traits)}
    assert {cls.__name__ for cls in state_types(traits, {"graft_type": 3})} - plain == {"RMSPropGraft"}


def test_what_a_rule_says_may_bring_other_types() -> None:
    galore = {"_target_": "pytorch_optimizer.GaLore", "lr": 0.1}
    rank = {"match": "x", "rank": 2, "update_proj_gap": 5, "scale": 0.5, "projection_type": "std"}
    trust(lo.Recipe.from_config({"optimizer": galore}))
    assert get_safe_globals() == []
    trust(lo.Recipe.from_config({"optimizer": galore, "rules": {"a": rank}}))
    assert [cls.__name__ for cls in get_safe_globals()] == ["GaLoreProjector"]
