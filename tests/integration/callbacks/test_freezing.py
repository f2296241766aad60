"""Under a Trainer: what is frozen stays still, before clipping, through accumulation, AMP and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lit_optim as lo
from lit_optim.integration.callbacks.freezing import DropGradients
from lit_optim.models import MLP

SILENT = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
STEM = {"stem": {"match": "layer.0", "freeze_until": 3}}


def recipe(rules: dict[str, Any]) -> lo.Recipe:
    return lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.05}, "rules": rules})


def loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 4, generator=generator)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8)


class Watch(Callback):
    """The stem after each step, and the norm of what was clipped."""

    def __init__(self) -> None:
        self.stems: list[Tensor] = []
        self.gradients: list[bool] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.gradients.append(stem_of(pl_module).grad is not None)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > len(self.stems):
            self.stems.append(stem_of(pl_module).detach().clone())


def stem_of(module: nn.Module) -> nn.Parameter:
    return next(parameter for name, parameter in module.named_parameters() if name.endswith("layer.0.weight"))


def fitted(module: LightningModule, **more: Any) -> tuple[Trainer, Watch]:
    watch = Watch()
    options = {"max_epochs": 1, "accelerator": "cpu", "devices": 1, **SILENT, **more}
    trainer = Trainer(callbacks=[watch], **options)
    trainer.fit(module, loader())
    return trainer, watch


class Theirs(LightningModule):
    """A module that knows nothing of recipes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = MLP(4, (3, 3), 2)
        self.was_set_up = False

    def setup(self, stage: str) -> None:
        self.was_set_up = True

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


class Ours(lo.RecipeModule):
    """A module that is made for recipes."""

    def __init__(self, rules: dict[str, Any]) -> None:
        super().__init__(recipe(rules))
        torch.manual_seed(0)
        self.net = MLP(4, (3, 3), 2)

    training_step = Theirs.training_step  # type: ignore[assignment]


FP16 = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"gradient_clip_val": 0.01},
        {"accumulate_grad_batches": 2, "max_epochs": 2},
        {"precision": "bf16-mixed", "gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        {"plugins": [FP16], "gradient_clip_val": 0.5},
    ],
    ids=["plain", "clipped", "accumulated", "bf16", "fp16"],
)
def test_it_moves_from_its_step_on(more: dict[str, Any]) -> None:
    module = Ours(STEM)
    start = stem_of(module).detach().clone()
    _, watch = fitted(module, **more)
    assert len(watch.stems) == 6
    assert [torch.equal(stem, start) for stem in watch.stems] == [True, True, True, False, False, False]
    assert watch.gradients == [False, False, False, True, True, True]  # so they are in no norm that is clipped


def test_a_second_fit_has_one_callback() -> None:
    module = Ours(STEM)
    trainer, _ = fitted(module)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, loader())
    assert sum(isinstance(callback, DropGradients) for callback in trainer.callbacks) == 1  # type: ignore[attr-defined]
    plain, _ = fitted(Ours({}))
    assert not any(isinstance(callback, DropGradients) for callback in plain.callbacks)  # type: ignore[attr-defined]


class SaveSecond(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings(
    "ignore:You're resuming from a checkpoint that ended before:UserWarning"
)  # that is the point
def test_resuming_in_the_frozen_time(tmp_path: Path) -> None:
    options = {"max_epochs": -1, "max_steps": 6, "accelerator": "cpu", "devices": 1, **SILENT}
    Trainer(callbacks=[SaveSecond(tmp_path / "two.ckpt")], **options).fit(Ours(STEM), loader())
    second = Ours(STEM)
    watch = Watch()
    trainer = Trainer(callbacks=[watch], **options)
    trainer.fit(second, loader(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    assert trainer.global_step == 6
    assert watch.gradients == [False, True, True, True]


def test_what_is_frozen_for_good_is_so_before_a_strategy_wraps_the_model() -> None:
    frozen = {"stem": {"match": "layer.0", "freeze": True}}

    class Seen(Callback):
        before: bool | None = None

        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.before = stem_of(pl_module).requires_grad

    for module in (lo.attach(Theirs(), recipe(frozen)), Ours(frozen)):
        start = stem_of(module).detach().clone()
        module.setup("fit")
        assert not stem_of(module).requires_grad
        trainer, watch = fitted(module)
        assert all(torch.equal(stem, start) for stem in watch.stems)
        assert not any(stem_of(module) is p for g in trainer.optimizers[0].param_groups for p in g["params"])
    theirs = lo.attach(Theirs(), recipe(frozen))
    theirs.setup("fit")
    assert theirs.was_set_up  # type: ignore[attr-defined]


def test_a_module_that_only_calls_configure_optimizers_freezes_as_well() -> None:
    class Calls(Theirs):
        def configure_optimizers(self) -> Any:
            return lo.configure_optimizers(self, recipe({"stem": {"match": "layer.0", "freeze": True}}))

    module = Calls()
    start = stem_of(module).detach().clone()
    fitted(module)
    assert torch.equal(stem_of(module), start)
    assert not stem_of(module).requires_grad
