import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digitnet import HIDDEN, Net, loader
from digitnet import batches as digits
from lightning.pytorch import Callback, LightningModule, Trainer
from nested import identical
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lit_optim as lo
from lit_optim.integration.callbacks.continuing import random_state, restore_random_state

SGD = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}}
ADAMW = {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01}}
MUON = ADAMW | {"rules": {"hidden": {**HIDDEN, "optimizer": {"_target_": "torch.optim.Muon", "lr": 0.01}}}}
COSINE = {"schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine"}}}


class Noisy(Net):
    """Draws from all generators in every step, as dropout and augmentation do."""

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        x = nn.functional.dropout(x, 0.2) + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return super().loss((x, y))


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fitted(
    trainer: Callable[..., Trainer], recipe: Any, resume: Path | None = None, **more: Any
) -> tuple[Net, Trainer]:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    module = lo.attach(Noisy(), recipe)
    made = trainer(max_epochs=2, **more)
    made.fit(module, loader(6), ckpt_path=resume, weights_only=True if resume else None)
    return module, made  # type: ignore[return-value]


class Augmented(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """The digits one by one, each with noise that is drawn when it is asked for."""

    def __init__(self, batches: int) -> None:
        self.x, self.y = (torch.cat(parts) for parts in zip(*digits(batches), strict=True))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index] + 0.1 * torch.rand(()), self.y[index]


class Draws(Callback):
    """Draws once the loaders have been asked, and before the first epoch begins."""

    def on_fit_start(self, *args: Any) -> None:
        torch.rand(3)


def with_own_loader(
    trainer: Callable[..., Trainer], resume: Path | None = None, workers: int = 0, **more: Any
) -> tuple[Net, Trainer]:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    module = lo.attach(Noisy(), SGD | COSINE)
    made = trainer(max_epochs=2, **{**more, "callbacks": [Draws(), *more.get("callbacks", ())]})
    data = DataLoader(Augmented(6), batch_size=8, shuffle=True, num_workers=workers)
    made.fit(module, data, ckpt_path=resume, weights_only=True if resume else None)
    return module, made  # type: ignore[return-value]


@pytest.mark.parametrize("step", [1, 3, 5, 7, 8, 11])
def test_a_plain_loader_that_shuffles_goes_on_where_it_stood(
    step: int, trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    paths = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    whole, ran = with_own_loader(trainer, callbacks=[SaveAt(step, paths[0]), SaveAt(step + 1, paths[1])])
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    again = tmp_path / "again.ckpt"
    resumed, made = with_own_loader(trainer, paths[0], callbacks=[SaveAt(step + 1, again)])
    assert made.global_step == ran.global_step == 12
    assert identical(dict(resumed.state_dict()), dict(whole.state_dict()))
    assert made.current_epoch == ran.current_epoch
    if step not in (5, 11):  # killed a second time in the same epoch
        twice, _ = with_own_loader(trainer, again)
        assert identical(dict(twice.state_dict()), dict(whole.state_dict()))


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 8])
def test_a_loader_with_workers_goes_on_where_it_stood(
    step: int, trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    path = tmp_path / "first.ckpt"
    whole, _ = with_own_loader(trainer, workers=1, callbacks=[SaveAt(step, path)])
    resumed, _ = with_own_loader(trainer, path, workers=1)
    assert identical(dict(resumed.state_dict()), dict(whole.state_dict()))


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
@pytest.mark.parametrize("recipe", [SGD, ADAMW, MUON], ids=["sgd", "adamw", "muon_adamw"])
def test_random_numbers_go_on_at_the_end_of_an_epoch(
    recipe: Any, trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    path = tmp_path / "six.ckpt"
    whole, _ = fitted(trainer, recipe | COSINE, callbacks=[SaveAt(6, path)])
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    resumed, made = fitted(trainer, recipe | COSINE, path)
    assert made.global_step == 12
    assert identical(whole.state_dict(), resumed.state_dict())
    assert identical(whole.optimizers().state_dict(), resumed.optimizers().state_dict())  # type: ignore[union-attr]


def test_a_checkpoint_says_names_plan_and_generators(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    path = tmp_path / "six.ckpt"
    module, made = fitted(trainer, MUON, callbacks=[SaveAt(6, path)])
    content = torch.load(path, weights_only=True)
    [state] = content["optimizer_states"]
    assert {*state["state"]} == {name for name, _ in module.named_parameters()}
    assert {group["optimizer"] for group in state["param_groups"]} == {"torch.optim.Muon", "torch.optim.AdamW"}
    plan = made.lr_scheduler_configs[0].scheduler.plan  # type: ignore[union-attr]
    assert lo.Plan.from_json(content["lit_optim"]["plan"]) == plan
    assert len(content["lit_optim"]["random"]) == 1


def test_groups_in_another_order_and_number_keep_their_states(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    path = tmp_path / "six.ckpt"
    rules = {name: {"match": f"layers.{name[1]}", "lr": 0.01} for name in ("l0", "l2", "l4")}
    whole, _ = fitted(trainer, ADAMW, callbacks=[SaveAt(6, path)])
    turned = {name: {**rules[name], "eps": 1e-8 * (1 + 1e-9 * n)} for n, name in enumerate(("l4", "l0", "l2"))}
    resumed, made = fitted(trainer, ADAMW | {"rules": turned}, path)
    assert len(made.optimizers[0].param_groups) == 3
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


class Watch(Callback):
    def __init__(self) -> None:
        self.lrs: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        self.lrs.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("before", "after", "lrs"),
    [
        (SGD, {"optimizer": {**SGD["optimizer"], "lr": 0.3}}, [0.3] * 6),
        (SGD | COSINE, SGD, [0.1] * 6),
        (
            SGD | COSINE,
            SGD | {"schedule": {"lr": {"_target_": "lit_optim.schedules.Exponential", "rate": 0.5, "every": 1}}},
            [0.1 * 0.5**step for step in range(6, 12)],
        ),
    ],
    ids=["another lr", "a schedule removed", "another schedule"],
)
def test_what_is_written_is_what_runs(
    before: Any, after: Any, lrs: list[float], trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    path = tmp_path / "six.ckpt"
    fitted(trainer, before, callbacks=[SaveAt(6, path)])
    watch = Watch()
    fitted(trainer, after, path, callbacks=[watch])
    assert watch.lrs == pytest.approx(lrs, abs=1e-15)


def test_a_checkpoint_that_is_only_tested_leaves_the_next_fit_alone(
    trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    class Tested(Noisy):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.loss(batch)

    drawn = []
    for path in (None, tmp_path / "six.ckpt"):
        module, made = lo.attach(Tested(), SGD), trainer(max_epochs=1)
        made.fit(module, loader(6))
        made.save_checkpoint(tmp_path / "six.ckpt")
        if path is not None:
            made.test(module, loader(2), ckpt_path=path, weights_only=True, verbose=False)
        torch.manual_seed(7)
        made.fit_loop.max_epochs = 2
        made.fit(module, loader(6))
        drawn.append(torch.get_rng_state())
    assert torch.equal(*drawn)


def test_every_generator_is_restored() -> None:
    state = random_state()
    drawn = (random.random(), float(np.random.rand()), torch.rand(3))
    restore_random_state(state)
    assert random.random() == drawn[0]
    assert float(np.random.rand()) == drawn[1]
    assert torch.equal(torch.rand(3), drawn[2])
