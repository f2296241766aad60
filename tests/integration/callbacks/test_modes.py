"""An optimizer with modes is in the right one, and what is saved is what was evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import HIDDEN, Evaluated, Net, batches, loader, same
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from pytorch_optimizer import ScheduleFreeAdamW

import lit_optim as lo

FREE = {"_target_": "pytorch_optimizer.ScheduleFreeAdamW", "lr": 0.05}
ALONE = {"optimizer": FREE}
MIXED = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01}, "rules": {"hidden": {**HIDDEN, "optimizer": FREE}}}
WRAPPED = {
    "optimizer": {"_target_": "pytorch_optimizer.ScheduleFreeWrapper", "optimizer": "torch.optim.SGD", "lr": 0.1}
}
RECIPES = {"alone": ALONE, "mixed": MIXED, "wrapped": WRAPPED}


def trains(trainer: Trainer) -> bool:
    optimizer: Any = trainer.optimizers[0]
    groups = [group["train_mode"] for group in optimizer.param_groups if "train_mode" in group]
    return bool(groups[0]) if groups else bool(optimizer.train_mode)


class Watch(Callback):
    """Notes the mode wherever Lightning calls, and the weights that validation saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []
        self.validated: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append(("train", trains(trainer)))

    on_train_batch_start = on_before_optimizer_step = on_train_batch_end = on_train_start

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.seen.append(("eval", trains(trainer)))

    on_save_checkpoint = on_test_batch_start = on_predict_batch_start = on_train_end = on_validation_end

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.on_validation_end(trainer)
        if not trainer.sanity_checking:
            self.validated[trainer.global_step] = weights_of(pl_module)


def weights_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("sanity", [0, 1])
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_trains_in_one_mode_and_is_used_in_the_other(recipe: str, sanity: int, trainer: Any, tmp_path: Path) -> None:
    watch, saver = Watch(), ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    options = {"enable_checkpointing": True, "val_check_interval": 4, "num_sanity_val_steps": sanity}
    one = trainer(callbacks=[watch, saver], max_epochs=2, **options)
    net = lo.attach(Evaluated(), RECIPES[recipe])
    one.fit(net, loader(8), loader(2, seed=5))
    one.test(net, loader(1), verbose=False)
    one.predict(net, loader(1))
    assert {hook for hook, _ in watch.seen} == {"train", "eval"}
    assert [(hook, mode) for hook, mode in watch.seen if mode != (hook == "train")] == []
    assert "save_checkpoint" not in vars(one)


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_checkpoint_holds_the_weights_that_were_validated(
    recipe: str, weights_only: bool, trainer: Any, tmp_path: Path
) -> None:
    saver = ModelCheckpoint(tmp_path, monitor="val/loss", save_top_k=-1, save_weights_only=weights_only)
    net, watch = Evaluated(), Watch()
    one = trainer(callbacks=[watch, saver], enable_checkpointing=True, max_epochs=4, num_sanity_val_steps=0)
    one.fit(lo.attach(net, RECIPES[recipe]), loader(5), loader(1, seed=5))
    saved = sorted(tmp_path.glob("*.ckpt"), key=lambda path: torch.load(path, weights_only=True)["global_step"])
    assert len(saved) == len(net.validated) == 4
    for path, loss in zip(saved, net.validated, strict=True):
        content = torch.load(path, weights_only=True)
        fresh = Evaluated(9)
        fresh.load_state_dict(content["state_dict"])
        [result] = trainer().validate(fresh, loader(1, seed=5), verbose=False)
        assert fresh.validated == [loss]
        assert result["val/loss"] == pytest.approx(loss)
        seen = watch.validated[content["global_step"]]
        assert all(torch.equal(value, content["state_dict"][name]) for name, value in seen.items())
    assert len(set(net.validated)) == 4


def test_weights_between_validations_are_saved_as_they_would_be_evaluated(trainer: Any, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1, filename="{step}")
    trainer(callbacks=[saver], enable_checkpointing=True).fit(lo.attach(Net(), ALONE), loader(5))
    twin = Net()
    optimizer = ScheduleFreeAdamW(twin.parameters(), 0.05)
    for batch in batches(3):
        optimizer.zero_grad()
        twin.loss(batch).backward()
        optimizer.step()
    optimizer.eval()
    saved = Net(9)
    saved.load_state_dict(torch.load(tmp_path / "step=3.ckpt", weights_only=True)["state_dict"])
    assert same(saved, twin)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(recipe: str, trainer: Any, tmp_path: Path) -> None:
    whole, again = Net(), Net(9)
    options = {"enable_checkpointing": True, "max_epochs": 2}
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    trainer(callbacks=[saver], **options).fit(lo.attach(whole, RECIPES[recipe]), loader(4))
    watch, saver = Watch(), ModelCheckpoint(tmp_path / "again", save_top_k=-1)
    one = trainer(callbacks=[watch, saver], **options)
    path = tmp_path / "epoch=0.ckpt"
    one.fit(lo.attach(again, RECIPES[recipe]), loader(4), ckpt_path=path, weights_only=True)
    assert one.global_step == 8
    assert same(whole, again)
    assert all(mode == (hook == "train") for hook, mode in watch.seen)


class Fails(Evaluated):
    """Fails in its fifth step, or in its second validation."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.count = where, 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.where == "training" and self.trainer.global_step == 5:
            raise ValueError("as planned")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.count += 1
        if self.where == "validation" and self.count == 2:
            raise KeyboardInterrupt
        return super().validation_step(batch, batch_idx)


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.filterwarnings("ignore:.*ckpt_path.*:UserWarning")
def test_an_exception_leaves_the_weights_for_use(where: str, trainer: Any, tmp_path: Path) -> None:
    net, saver = Fails(where), OnExceptionCheckpoint(str(tmp_path))
    options = {"val_check_interval": 3, "num_sanity_val_steps": 0}
    one = trainer(callbacks=[saver], enable_checkpointing=True, **options)
    expected = ValueError if where == "training" else SystemExit
    with pytest.raises(expected):
        one.fit(lo.attach(net, ALONE), loader(8), loader(1))
    assert not trains(one)
    [path] = tmp_path.glob("*.ckpt")
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in net.state_dict().items())
    net.where, net.count = "nowhere", 9
    watch = Watch()
    trainer(callbacks=[watch], **options).fit(net.train(), loader(8), loader(1))
    assert all(mode == (hook == "train") for hook, mode in watch.seen)


class FailsAtOnce(Evaluated):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        raise ValueError("as planned")


def test_an_optimizer_that_has_not_stepped_is_left_alone(trainer: Any) -> None:
    """SPlus can't be put into eval mode before its first step; that must not stand before the user's own mistake."""
    recipe = {"optimizer": {"_target_": "pytorch_optimizer.SPlus", "lr": 0.1}}
    with pytest.raises(ValueError, match="as planned"):
        trainer(num_sanity_val_steps=1).fit(lo.attach(FailsAtOnce(), recipe), loader(2), loader(1))


def test_another_fit_with_the_same_trainer_is_left_alone(trainer: Any, tmp_path: Path) -> None:
    first, one, told = Net(), trainer(), []
    own = one.save_checkpoint
    one.save_checkpoint = lambda *args, **more: told.append(args) or own(*args, **more)
    mine = one.save_checkpoint
    one.fit(lo.attach(first, ALONE), loader(3))
    assert one.save_checkpoint is mine
    left = weights_of(first)

    class Looks(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            assert all(torch.equal(value, left[name]) for name, value in first.state_dict().items())

    one.callbacks.append(Looks())
    one.fit_loop.max_epochs = 2
    plain = Net(4)
    plain.configure_optimizers = lambda: torch.optim.SGD(plain.parameters(), 0.1)
    one.fit(plain, loader(3))
    one.save_checkpoint(tmp_path / "last.ckpt")
    assert len(told) == 1
    assert one.save_checkpoint is mine
