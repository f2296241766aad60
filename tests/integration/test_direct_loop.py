"""The loop for the plain case against Lightning's own: the same calls, the same log, the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import Batch, Evaluated, Net, batches, loader, same
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

import lit_optim as lo
from lit_optim.integration import direct_loop
from lit_optim.integration.direct_loop import DirectLoop

HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_end"),
    *("on_validation_start", "on_validation_end"),
)
RECIPE = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
    "rules": {"head": {"match": "layers.4", "lr": 0.02}},
    "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": 3}},
}


def told(value: Any) -> Any:
    """What can be compared of a hook's argument."""
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {name: told(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [told(one) for one in value]
    return value if isinstance(value, (int, float, str, type(None))) else type(value).__name__


class Heard(Callback):
    """Every call of every hook: where it came, with what, and what the Trainer said of itself at that moment."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.loops: set[type] = set()

    def hear(self, who: str, name: str, trainer: Any, module: Any, arguments: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        progress = [loop.batch_progress.state_dict(), loop.automatic_optimization.optim_progress.state_dict()]
        state = (module._current_fx_name, trainer.global_step, torch.is_grad_enabled(), progress)
        self.calls.append((who, name, told(arguments), state))
        if name == "on_train_batch_end":
            self.loops.add(type(loop))


def _hook(name: str) -> Callable[..., None]:
    def hook(self: Heard, trainer: Any, module: Any, *arguments: Any) -> None:
        self.hear("callback", name, trainer, module, arguments)
        if name == "on_train_batch_end":
            module.log("of_callback", float(trainer.global_step), prog_bar=True)

    return hook


for _name in HOOKS:
    setattr(Heard, _name, _hook(_name))


class Talking(Net):
    """Has every hook, logs, and gives whatever ``training_step`` may give."""

    def __init__(self, heard: Heard, gives: str) -> None:
        super().__init__()
        self.heard, self.gives = heard, gives

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.heard.hear("module", "training_step", self.trainer, self, batch_idx)
        self.log("train/each", loss, on_step=True, on_epoch=True)
        if self.gives == "none" and batch_idx == 2:
            return None
        return {"loss": loss, "more": loss * 2} if self.gives == "dict" else loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        self.heard.hear("module", "on_train_batch_start", self.trainer, self, batch_idx)
        return -1 if self.gives == "end" and batch_idx == 3 else None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.heard.hear("module", "on_train_batch_end", self.trainer, self, outputs)

    def on_before_backward(self, loss: Tensor) -> None:
        self.heard.hear("module", "on_before_backward", self.trainer, self, loss)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        self.heard.hear("module", "optimizer_zero_grad", self.trainer, self, (epoch, batch_idx, optimizer))
        super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self.heard.hear("module", "backward", self.trainer, self, (loss, *args))
        super().backward(loss, *args, **kwargs)

    def configure_gradient_clipping(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        self.heard.hear("module", "configure_gradient_clipping", self.trainer, self, kwargs)
        super().configure_gradient_clipping(optimizer, *args, **kwargs)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        self.heard.hear("module", "lr_scheduler_step", self.trainer, self, metric)
        super().lr_scheduler_step(scheduler, metric)


class OnlyBatch(Net):
    """Wants no batch's number."""

    def training_step(self, batch: Batch) -> Tensor:  # type: ignore[override]
        return self.loss(batch)


@pytest.fixture
def trainer(trainer: Any) -> Callable[..., Trainer]:
    """One that takes the direct way wherever it can."""
    return lambda callbacks=(), **settings: trainer(callbacks=[lo.callbacks.DirectBatches(), *callbacks], **settings)


@pytest.fixture
def lightnings(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Leaves the batches to Lightning's own loop from here on."""
    return lambda: monkeypatch.setattr(direct_loop, "_READ", ())


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "a tensor": ("tensor", {}),
    "a dict": ("dict", {}),
    "nothing": ("none", {}),
    "an epoch's early end": ("end", {}),
    "clipping": ("tensor", {"gradient_clip_val": 0.05}),
    "clipping by value": ("tensor", {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}),
    "max_steps": ("tensor", {"max_steps": 8, "max_epochs": -1}),
    "validation within": ("tensor", {"val_check_interval": 2}),
    "limits": ("tensor", {"limit_train_batches": 3}),
    "validation that doesn't divide the epoch": ("tensor", {"val_check_interval": 4}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:.*returned `None`")
def test_it_does_what_lightnings_does(case: str, trainer: Any, lightnings: Callable[[], None]) -> None:
    gives, settings = CASES[case]
    runs = []
    for kind in (DirectLoop, None):
        if kind is None:
            lightnings()
        heard = Heard()
        module = Talking(heard, gives)
        one = trainer(**{"max_epochs": 2, "log_every_n_steps": 1, "callbacks": [heard], **settings})
        one.fit(lo.attach(module, RECIPE), loader(6), loader(2, seed=2))
        assert (heard.loops == {DirectLoop}) == (kind is DirectLoop)
        runs.append((module, heard.calls, one))
    (module, calls, one), (others, other_calls, other) = runs
    assert len(calls) > 30
    assert calls == other_calls
    assert same(module, others)
    assert told(one.callback_metrics) == told(other.callback_metrics)
    assert one.callback_metrics
    assert one.fit_loop.state_dict() == other.fit_loop.state_dict()


@pytest.mark.parametrize(
    "optimizer",
    [
        {"_target_": "torch.optim.LBFGS", "lr": 0.1, "max_iter": 3},
        {"_target_": "pytorch_optimizer.SAM", "lr": 0.1, "base_optimizer": "torch.optim.SGD"},
    ],
    ids=["lbfgs", "sam"],
)
def test_an_optimizer_evaluates_as_often_as_it_likes(
    optimizer: dict[str, Any], trainer: Any, lightnings: Callable[[], None]
) -> None:
    if optimizer["_target_"].startswith("pytorch_optimizer"):
        pytest.importorskip("pytorch_optimizer")
    nets, steps = [], []
    for kind in (DirectLoop, None):
        if kind is None:
            lightnings()
        net, heard = Net(), Heard()
        trainer(callbacks=[heard]).fit(lo.attach(net, {"optimizer": optimizer}), loader(4))
        nets.append(net)
        steps.append([call[:3] for call in heard.calls])
    assert same(*nets)
    assert steps[0] == steps[1]


def test_the_batch_number_is_given_to_who_wants_it(trainer: Any) -> None:
    net, heard = OnlyBatch(), Heard()
    trainer(callbacks=[heard]).fit(lo.attach(net, RECIPE), loader(3))
    twin = Net()
    trainer().fit(lo.attach(twin, RECIPE), loader(3))
    assert same(net, twin)
    assert heard.loops == {DirectLoop}


def test_a_batch_that_is_none_is_left_out(trainer: Any) -> None:
    class Holes:
        def __iter__(self) -> Iterator[Any]:
            first, second = batches(2)
            yield from (first, None, second)

        def __len__(self) -> int:
            return 3

    net, twin, heard = Net(), Net(), Heard()
    one = trainer(callbacks=[heard])
    with pytest.warns(UserWarning, match="gave None for a batch"):
        one.fit(lo.attach(net, {"optimizer": RECIPE["optimizer"]}), Holes())
    trainer().fit(lo.attach(twin, {"optimizer": RECIPE["optimizer"]}), loader(2))
    assert same(net, twin)
    assert one.global_step == 2
    assert [call[1] for call in heard.calls].count("on_train_batch_end") == 3


class Save(Callback):
    """Saves in one hook, once a step is reached."""

    def __init__(self, hook: str, step: int, path: Path) -> None:
        self.step, self.path = step, path
        setattr(self, hook, self.save)

    def save(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("hook", "step"),
    [
        *(("on_train_batch_end", step) for step in (2, 3, 4)),
        *((hook, step) for hook in ("on_validation_start", "on_validation_end") for step in (2, 4)),
        ("on_train_epoch_end", 4),
    ],
)
def test_either_goes_on_where_the_other_stopped(
    hook: str, step: int, trainer: Any, lightnings: Callable[[], None], tmp_path: Path
) -> None:
    settings = {"max_epochs": 2, "val_check_interval": 2}
    path = tmp_path / "mid.ckpt"
    data = loader(4), loader(2, seed=2)
    whole, rest, others = (Talking(Heard(), "tensor") for _ in range(3))
    trainer(**settings, callbacks=[Save(hook, step, path)]).fit(lo.attach(whole, RECIPE), *data)
    continued = []
    for module in (rest, others):
        if module is others:
            lightnings()
        heard = Heard()
        one = trainer(**settings, callbacks=[heard])
        one.fit(lo.attach(module, RECIPE), *data, ckpt_path=path, weights_only=True)
        assert same(module, whole)
        assert one.global_step == 8
        assert (heard.loops == {DirectLoop}) == (module is rest)
        continued.append((heard.calls, module.heard.calls))
    assert continued[0] == continued[1]
    assert continued[0][0]


class Iterates(Evaluated):
    """Takes its batches itself."""

    def training_step(self, dataloader_iter: Iterator[Any]) -> Tensor:  # type: ignore[override]
        batch, _, _ = next(dataloader_iter)
        return self.loss(batch)


class Clips(Evaluated):
    def clip_gradients(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters(), 0.01)


class Stops(Evaluated):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.trainer.should_stop = batch_idx == 1
        return super().training_step(batch, batch_idx)


class Copies(Evaluated):
    """Copies itself as it trains, and trains no less for it."""

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        copy = type(self)()
        copy.load_state_dict(self.state_dict())
        for callback in self.trainer.callbacks:
            callback.on_before_zero_grad(self.trainer, self, self.optimizers())  # as one that wraps others would


@pytest.mark.parametrize("kind", [Iterates, Clips, Stops, Copies])
@pytest.mark.filterwarnings(  # that it is experimental
    "ignore:You are using the `dataloader_iter` step flavor", "ignore:Found `dataloader_iter` argument"
)
def test_what_a_module_does_by_itself_is_done(
    kind: type[Evaluated], trainer: Any, lightnings: Callable[[], None]
) -> None:
    class Validations(Callback):
        def on_validation_start(self, trainer: Any, *_: Any) -> None:
            validated.append(trainer.global_step)

    ends = []
    for direct in (True, False):
        if not direct:
            lightnings()
        net = kind()
        validated: list[int] = []
        one = trainer(max_epochs=2, val_check_interval=4, callbacks=[Validations()], min_epochs=0)
        one.fit(lo.attach(net, RECIPE), loader(6), loader(2, seed=2))
        ends.append((net, validated, one.global_step))
    (net, *ours), (other, *theirs) = ends
    assert ours == theirs
    assert same(net, other)
    assert not same(net, kind())


def test_hooks_that_come_while_batches_train_are_called(trainer: Any) -> None:
    calls: list[Any] = []

    class Late(Callback):
        def on_before_backward(self, trainer: Any, *_: Any) -> None:
            self.on_after_backward = lambda trainer, *_: calls.append(trainer.global_step)  # type: ignore[method-assign]
            if trainer.global_step == 1:
                trainer.callbacks.append(Heard())

    one = trainer(callbacks=[Late()])
    one.fit(lo.attach(Net(), RECIPE), loader(3))
    assert calls == [0, 1, 2]
    assert [name for _, name, *_ in one.callbacks[-1].calls].count("on_train_batch_end") == 2


@pytest.mark.parametrize("fails", [False, True])
def test_the_trainer_has_its_own_loop_again(fails: bool, trainer: Any) -> None:
    class Fails(Heard):
        def on_after_backward(self, trainer: Any, *_: Any) -> None:
            if fails and trainer.global_step == 2:
                raise KeyError("stop")

    heard = Fails()
    one = trainer(callbacks=[heard])
    loop = one.fit_loop.epoch_loop
    with pytest.raises(KeyError) if fails else nullcontext():
        one.fit(lo.attach(Net(), RECIPE), loader(3))
    assert heard.loops == {DirectLoop}
    assert one.fit_loop.epoch_loop is loop


def test_without_the_callback_the_loop_is_lightnings(trainer: Any) -> None:
    heard = Heard()
    one = trainer(callbacks=[heard])
    one.callbacks[:] = [callback for callback in one.callbacks if not isinstance(callback, lo.callbacks.DirectBatches)]
    one.fit(lo.attach(Net(), RECIPE), loader(3))
    assert DirectLoop not in heard.loops


class Stepping(Net):
    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)


class Moving(Net):
    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


class MovingData(LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader(3)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        x, y = batch
        return 2 * x, y


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (Stepping, {}),
        (Moving, {}),
        (Net, {"precision": "bf16-mixed"}),
        (Net, {"precision": "64-true"}),
        (Net, {"profiler": "simple"}),
        (Net, {"accumulate_grad_batches": 2}),
    ],
)
def test_what_is_not_plain_is_lightnings(
    module: type[Net], settings: dict[str, Any], trainer: Any, lightnings: Callable[[], None]
) -> None:
    heard = Heard()
    one, net, twin = trainer(callbacks=[heard], **settings), module(), module()
    one.fit(lo.attach(net, RECIPE), loader(6))
    assert (DirectLoop in heard.loops) == ("accumulate_grad_batches" in settings)  # which it leaves to Lightning's own
    assert heard.calls
    lightnings()
    trainer(**settings).fit(lo.attach(twin, RECIPE), loader(6))
    assert same(net, twin)


def test_what_a_data_module_does_to_batches_is_done(trainer: Any) -> None:
    heard, seen = Heard(), []

    class Sees(Net):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            seen.append(batch[0])
            return super().training_step(batch, batch_idx)

    trainer(callbacks=[heard]).fit(lo.attach(Sees(), RECIPE), datamodule=MovingData())
    assert DirectLoop not in heard.loops
    assert [torch.equal(one, 2 * x) for one, (x, _) in zip(seen, batches(3), strict=True)] == [True] * 3


def test_lists_and_dicts_of_tensors_are_batches_too(trainer: Any, lightnings: Callable[[], None]) -> None:
    class Named(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(6, 3)

        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
            (x,), y = batch["x"], batch["y"]
            return torch.nn.functional.cross_entropy(self.layer(x), y)

    nets = []
    for direct in (True, False):
        if not direct:
            lightnings()
        net = Named()
        data = DataLoader([{"x": [x], "y": y} for x, y in batches(4)], batch_size=None)  # type: ignore[arg-type]
        trainer().fit(lo.attach(net, {"optimizer": RECIPE["optimizer"]}), data)
        nets.append(net)
    assert same(*nets)
