"""What is told and refused before parameters are shared out; that it trains as it should, two ranks tell elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from digitnet import Net, loader
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn, TrainerState
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn

import lit_optim as lo
from lit_optim.integration.sharding import listing_units, share_out, supply_configure_model
from lit_optim.models import MLP

SGD = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
PLAN = lo.Plan((), lo.Horizon(3))


class Own(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)

    def configure_model(self) -> None:
        self.made = True


def under(strategy: type, module: LightningModule, does: TrainerFn = TrainerFn.FITTING) -> LightningModule:
    parts = {"strategy": strategy(), "callbacks": [], "state": TrainerState(fn=does)}
    module._trainer = SimpleNamespace(**parts)  # type: ignore[assignment]
    return module


def test_the_hook_is_supplied_to_whatever_lacks_it() -> None:
    for module in (lo.attach(Net(), SGD), lo.LitClassifier(MLP(4, (3,), 2), SGD)):
        module.setup("fit")  # by hand, without a Trainer
        assert not is_overridden("configure_model", module)
        under(ModelParallelStrategy, module).setup("fit")
        assert is_overridden("configure_model", module)
        kind = type(module)
        module.configure_model()  # there is no mesh yet
        assert type(module) is kind


def test_elsewhere_lightning_finds_no_hook(trainer: Any) -> None:
    module = lo.attach(Net(), SGD)
    trainer().fit(module, loader(1))
    assert not is_overridden("configure_model", module)


def test_a_module_with_its_own_keeps_it() -> None:
    module = under(ModelParallelStrategy, Own())
    module.scale = nn.Parameter(torch.tensor(1.0))  # which it may leave whole
    supply_configure_model(module)
    module.configure_model()
    assert module.made  # type: ignore[union-attr]


def test_a_mesh_that_splits_layers_is_refused() -> None:
    class Mesh:
        def __getitem__(self, name: str) -> Mesh:
            return self

        def size(self) -> int:
            return 2

    module = lo.LitClassifier(MLP(4, (3,), 2), SGD)
    module._device_mesh = Mesh()  # type: ignore[assignment]
    with pytest.raises(lo.ConfigError, match="can't split a layer") as refusal:
        share_out(module)
    assert refusal.value.mistakes[0].key == "trainer.strategy.tensor_parallel_size"


def test_what_fsdp2_cannot_do_is_refused_beforehand() -> None:
    module = lo.attach(Net(), SGD)
    module.scale, module.none = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.empty(0, 3))
    module.table = nn.Embedding(3, 2, sparse=True)
    module.frozen = nn.Embedding(3, 2, sparse=True).requires_grad_(False)
    module.attention = nn.Identity()
    module.attention.sparse = True  # type: ignore[assignment]  # a word of the user's own
    strategy = ModelParallelStrategy()
    strategy._layer_sync = TorchSyncBatchNorm()
    module._trainer = SimpleNamespace(strategy=strategy, callbacks=[], state=TrainerState())  # type: ignore[assignment]
    for refused in (lambda: module.setup("fit"), lambda: listing_units(PLAN, module.trainer, module)):
        with pytest.raises(lo.ConfigError) as refusal:
            refused()
        told = [(one.key, one.given, one.remedy) for one in refusal.value.mistakes]
        assert told == [
            ("trainer.sync_batchnorm", None, "use trainer=ddp, or leave it out"),
            ("model", "table (sparse=True)", "make it dense, or use trainer=ddp"),
            ("model", "scale, of shape ()", "give it the shape (1,), or use trainer=ddp"),
            ("model", "none, of shape (0, 3)", "leave it out, or use trainer=ddp"),
        ]


@pytest.mark.parametrize("strategy", [DDPStrategy, ModelParallelStrategy])
def test_what_no_strategy_can_wrap_is_told_as_the_plan_tells_it(strategy: type) -> None:
    module = under(strategy, lo.attach(Net(), SGD))
    module.requires_grad_(False)
    with pytest.raises(lo.PlanError, match="nothing to train"):
        module.setup("fit")
    under(strategy, module, TrainerFn.TESTING).setup("test")
    module = under(strategy, lo.attach(Net(), SGD))
    module.extra = nn.LazyLinear(2)
    with pytest.raises(lo.PlanError, match=r"extra.weight has no shape yet"):
        module.setup("fit")


def test_the_plan_lists_the_units_under_fsdp2_alone(trainer: Any) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    module = lo.LitClassifier(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), SGD)
    assert listing_units(PLAN, trainer(), module) is PLAN
    sharded: Any = SimpleNamespace(strategy=ModelParallelStrategy())
    assert listing_units(PLAN, sharded, module).shard_units == ("net.layers.0", "net.layers.1", "")
    assert listing_units(PLAN, sharded, Own()).shard_units == ()  # which only its own hook knows
