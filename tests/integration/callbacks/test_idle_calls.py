"""Hooks that nobody has written: not called while batches train, and there again afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from digitnet import Net, loader, same
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler

import lit_optim as lo
from lit_optim.integration.callbacks.idle_calls import SkipIdleCalls

RECIPE = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01}}
HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)


class Idle(Callback):
    """Has no hook of a batch."""


class Looks(Callback):
    """Has one, in which it looks at all others; may fail in it."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.seen: list[Any] = []

    def on_after_backward(self, trainer: Any, pl_module: LightningModule) -> None:
        hooks = {type(one).__name__: [h for h in HOOKS if getattr(one, h) is not None] for one in trainer.callbacks}
        hooks["module"] = [hook for hook in HOOKS if getattr(pl_module, hook) is not None]
        self.seen.append((hooks, type(trainer.profiler)))
        if self.fails and len(self.seen) == 2:
            raise KeyError("stop")


class Starts(Net):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.started = batch_idx


@pytest.mark.parametrize("fails", [False, True])
def test_they_are_gone_while_batches_train_and_there_afterwards(fails: bool, trainer: Any) -> None:
    looks, idle, module = Looks(fails), Idle(), Starts()
    one = trainer(callbacks=[idle, looks])
    profiler, loop = one.profiler, one.fit_loop.epoch_loop
    if fails:
        with pytest.raises(KeyError):
            one.fit(lo.attach(module, RECIPE), loader(3))
    else:
        one.fit(lo.attach(module, RECIPE), loader(3))
    hooks, of_profiler = looks.seen[-1]
    assert hooks["Idle"] == hooks["SkipIdleCalls"] == []
    assert hooks["Looks"] == ["on_after_backward"]
    assert hooks["module"] == ["on_train_batch_start"]
    assert of_profiler is not PassThroughProfiler
    assert one.profiler is profiler
    assert one.fit_loop.epoch_loop is loop
    for owner in (idle, looks, module):
        assert not {*HOOKS} & vars(owner).keys()
    assert not any({*HOOKS} & vars(callback).keys() for callback in one.callbacks)
    assert module.started == len(looks.seen) - 1


def test_what_stands_on_an_object_is_called(trainer: Any) -> None:
    calls = []
    anonymous = LambdaCallback(on_before_zero_grad=lambda *_: calls.append("callback"))
    module = Net()
    module.on_train_batch_end = lambda *_: calls.append("module")  # type: ignore[method-assign]
    trainer(callbacks=[anonymous]).fit(lo.attach(module, RECIPE), loader(2))
    assert calls == ["callback", "module"] * 2
    assert "on_train_batch_end" in vars(module)


def test_a_hook_that_comes_while_batches_train_is_called_and_stays(trainer: Any) -> None:
    calls: list[int] = []

    class Late(Callback):
        def on_before_backward(self, trainer: Any, *_: Any) -> None:
            self.on_after_backward = lambda trainer, *_: calls.append(trainer.global_step)  # type: ignore[method-assign]

    late = Late()
    trainer(callbacks=[late]).fit(lo.attach(Net(), RECIPE), loader(2))
    assert calls == [0, 1]
    assert "on_after_backward" in vars(late)


@pytest.mark.parametrize(("every", "skips"), [(None, True), (2, False)])
def test_a_checkpoint_of_epochs_is_not_asked_at_batches(
    every: int | None, skips: bool, trainer: Any, tmp_path: Any
) -> None:
    looks = Looks()
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=every, save_top_k=-1)
    trainer(callbacks=[looks, saver], enable_checkpointing=True).fit(lo.attach(Net(), RECIPE), loader(4))
    hooks, _ = looks.seen[0]
    assert hooks["ModelCheckpoint"] == ([] if skips else ["on_train_batch_end"])
    assert len([*tmp_path.glob("*.ckpt")]) == (1 if skips else 2)


def test_a_profiler_of_the_users_sees_all_there_is(trainer: Any, tmp_path: Any) -> None:
    profiler = SimpleProfiler(dirpath=tmp_path)
    trainer(profiler=profiler, callbacks=[Looks()]).fit(lo.attach(Net(), RECIPE), loader(3))
    assert len(profiler.recorded_durations["run_training_batch"]) == 3
    assert len(profiler.recorded_durations["[Callback]Looks.on_after_backward"]) == 3
    assert "[Callback]Looks.on_before_backward" not in profiler.recorded_durations


def test_a_second_fit_with_another_module_and_the_same_trainer(trainer: Any) -> None:
    idle, first, second, twin = Idle(), Net(), Net(), Net()
    one = trainer(callbacks=[idle])
    one.fit(lo.attach(first, RECIPE), loader(3))
    one.fit_loop.max_epochs = 2
    one.fit(lo.attach(second, RECIPE), loader(3))
    trainer().fit(lo.attach(twin, RECIPE), loader(3))
    assert same(first, twin)
    assert sum(isinstance(callback, SkipIdleCalls) for callback in one.callbacks) == 1
    assert not {*HOOKS} & (vars(first).keys() | vars(second).keys() | vars(idle).keys())
