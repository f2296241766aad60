"""One network, one optimizer, one schedule and one data set, trained in seven ways.

Each contestant is written the way its own documentation says. All of them train the 784-300-200-10 MLP from the same
weights on MNIST in batches of 128 with fused AdamW in two param groups, a warm-up and a cosine at every step; validate
on 5,000 digits after each epoch; and save the last and the best weights with their optimizer state. What one of them
can't do is said beside it in `NAMES`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from peers import LR, Plain, Samples, Silent, Template, optimizer_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lit_optim.data import MNIST, TensorLoader
from lit_optim.models import MLP

__all__ = ["NAMES", "Change", "Clock", "Work", "ours", "seconds", "train"]

BATCH, EVAL_BATCH = 128, 1024
WARMUP = 0.05  # of conf/schedule/warmup_cosine.yaml
PER_SAMPLE_SHARE = 5  # (d) is so slow that it trains and validates on this fraction of an epoch

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
Change = Callable[[LightningModule, MNIST], None]
"""What is done to the module and the data of lit-optim before it trains."""


@dataclass
class Clock:
    """The moments at which epochs began, and the last one's end; what a device still does is waited for."""

    device: torch.device
    read: Callable[[], float] = time.perf_counter
    moments: list[float] = field(default_factory=list)

    def note(self, *_: object) -> None:
        """Now."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.moments.append(self.read())

    def of(self, module: LightningModule) -> LightningModule:
        """The module, noting for this clock; by its own hooks, so that no contestant has one callback more."""
        module.on_train_epoch_start = self.note
        module.on_train_end = self.note
        return module


@dataclass(frozen=True)
class Work:
    """What a contestant is to do.

    Args:
        data: Loaded already.
        device: Of the network.
        epochs: How often the training data is gone through.
        steps: Of an epoch; None for all of its batches.
        compiled: Whether the network is compiled in place; of (a), (f) and (g).
        clock: `time.process_time` leaves out what others of a busy machine take; meant for one thread.
    """

    data: MNIST
    device: torch.device
    epochs: int = 1
    steps: int | None = None
    compiled: bool = False
    clock: Callable[[], float] = time.perf_counter

    @property
    def steps_per_epoch(self) -> int:
        """Batches that are trained on."""
        whole = math.ceil(len(self.data.splits.train[0]) / BATCH)
        return whole if self.steps is None else min(self.steps, whole)

    def network(self) -> nn.Module:
        """With the same weights every time."""
        torch.manual_seed(0)
        return MLP(784, (300, 200), 10)

    def factors(self) -> list[float]:
        """What the learning rate is multiplied by at each step."""
        total = self.epochs * self.steps_per_epoch
        warmup = round(WARMUP * total)
        cosine = (0.5 * (1 + math.cos(math.pi * step / (total - warmup))) for step in range(total - warmup + 1))
        return [step / warmup for step in range(warmup)] + list(cosine)


def _bare(work: Work, batches: Batches, clock: Clock, folder: Path) -> None:
    network = work.network().to(work.device)
    if work.compiled:
        network.compile()
    optimizer, factors, best, step = optimizer_of(network), work.factors(), -1.0, 0
    for epoch in range(work.epochs):
        clock.note()
        network.train()
        for x, y in islice(batches(), work.steps_per_epoch):
            for group in optimizer.param_groups:
                group["lr"] = LR * factors[step]
            loss = cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        accuracy = _validated(network, work)
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
        torch.save(state, folder / "last.ckpt")
        if accuracy > best:
            best = accuracy
            torch.save(state, folder / "best.ckpt")
    clock.note()


@torch.no_grad()
def _validated(network: nn.Module, work: Work) -> float:
    network.eval()
    x, y = work.data.splits.val
    right = torch.zeros((), device=work.device)
    total = torch.zeros((), device=work.device)
    for start in range(0, len(x), EVAL_BATCH):
        part = y[start : start + EVAL_BATCH].to(work.device)
        logits = network(x[start : start + EVAL_BATCH].to(work.device))
        total += cross_entropy(logits, part) * len(part)
        right += (logits.argmax(1) == part).sum()
    return (right / len(x)).item()


def _tensors(work: Work, clock: Clock, folder: Path) -> None:
    x, y = (one.to(work.device) for one in work.data.splits.train)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(x), device=work.device)
        for start in range(0, len(x), BATCH):
            index = order[start : start + BATCH]
            yield x.index_select(0, index), y.index_select(0, index)

    _bare(work, batches, clock, folder)


def _loader(work: Work, clock: Clock, folder: Path) -> None:
    pinned = work.device.type == "cuda"
    loader = DataLoader(TensorDataset(*work.data.splits.train), BATCH, shuffle=True, pin_memory=pinned)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in loader:
            yield x.to(work.device, non_blocking=True), y.to(work.device, non_blocking=True)

    _bare(work, batches, clock, folder)


def _trainer(work: Work, **more: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    gpu = work.device.type == "cuda"
    settings = {"accelerator": "gpu" if gpu else "cpu", "devices": 1, "max_epochs": work.epochs}
    return Trainer(**{**settings, "limit_train_batches": work.steps, **({} if "barebones" in more else quiet), **more})


def _savers(folder: Path) -> list[Any]:
    return [ModelCheckpoint(folder, monitor="val/acc", mode="max", save_last=True)]


def _plain(work: Work, clock: Clock, folder: Path) -> None:
    pinned = work.device.type == "cuda"
    train = DataLoader(TensorDataset(*work.data.splits.train), BATCH, shuffle=True, pin_memory=pinned)
    val = DataLoader(TensorDataset(*work.data.splits.val), EVAL_BATCH, pin_memory=pinned)
    callbacks = [LearningRateMonitor("step"), *_savers(folder)]
    logger = TensorBoardLogger(folder)
    trainer = _trainer(work, logger=logger, log_every_n_steps=1, callbacks=callbacks)
    trainer.fit(clock.of(Plain(work.network(), work.factors())), train, val)


def _template(work: Work, clock: Clock, folder: Path) -> None:
    train, val = Samples(*work.data.splits.train), Samples(*work.data.splits.val)
    loaders = DataLoader(train, BATCH, shuffle=True), DataLoader(val, BATCH)
    limits = {"limit_train_batches": _of_template(work), "limit_val_batches": 1 / PER_SAMPLE_SHARE}
    trainer = _trainer(work, logger=TensorBoardLogger(folder), callbacks=_savers(folder), **limits)
    trainer.fit(clock.of(Template(work.network(), work.factors())), *loaders)


def _of_template(work: Work) -> int:
    return max(1, work.steps_per_epoch // PER_SAMPLE_SHARE)


def _barebones(work: Work, clock: Clock, folder: Path) -> None:
    train = TensorLoader(work.data.splits.train, BATCH, shuffle=True)
    val = TensorLoader(work.data.splits.val, EVAL_BATCH)
    _trainer(work, barebones=True).fit(clock.of(Silent(work.network(), work.factors())), train, val)


def ours(work: Work, clock: Clock, folder: Path, *overrides: str, change: Change | None = None) -> None:
    """lit-optim as `lit-optim train` runs it, but for some overrides and a change."""
    from hydra import compose, initialize_config_module

    from lit_optim.cli.assemble import callbacks_of, data_of, loggers_of, module_of, read_recipe, trainer_of
    from lit_optim.integration.callbacks import RunFiles
    from lit_optim.integration.run_folder import RunFolder

    places = [f"callbacks.{name}.dirpath='{folder}/checkpoints'" for name in ("checkpoint", "last")]
    settings = [f"data.root='{work.data.root}'", f"data.batch_size={BATCH}", f"trainer.max_epochs={work.epochs}"]
    settings += [f"trainer.limit_train_batches={work.steps or 'null'}", f"trainer.compile={work.compiled}".lower()]
    kind = "gpu" if work.device.type == "cuda" else "cpu"
    with initialize_config_module("lit_optim.conf", version_base="1.3"):
        config = compose(
            "config", ["data=mnist", f"trainer={kind}", f"logger.save_dir='{folder}'", *places, *settings, *overrides]
        )
    data = data_of(config)
    vars(data)["splits"] = work.data.splits
    recipe, _ = read_recipe(config)
    torch.manual_seed(0)
    module = clock.of(module_of(config, data, recipe))
    if change is not None:
        change(module, data)
    run = RunFolder(folder)
    run.check_free()
    files = RunFiles(run, {}, {})
    trainer = trainer_of(config, [*callbacks_of(config), files], loggers_of(config))
    trainer.fit(module, datamodule=data)
    files.finish(trainer)


def _without_monitor(work: Work, clock: Clock, folder: Path) -> None:
    ours(work, clock, folder, "callbacks.monitor=null")


_CONTESTANTS: dict[str, tuple[str, Callable[[Work, Clock, Path], None]]] = {
    "a": ("bare loop, tensors in memory; records nothing", _tensors),
    "b": ("bare loop, DataLoader; records nothing", _loader),
    "c": ("Lightning, DataLoader, TensorBoardLogger, LearningRateMonitor; loss and lr of every step", _plain),
    "d": ("in the shape of lightning-hydra-template; means of an epoch", _template),
    "e": ("Lightning barebones, tensors in memory; records nothing, saves nothing", _barebones),
    "f": ("lit-optim without OptimizerMonitor; loss and hyperparameters of every step", _without_monitor),
    "g": ("lit-optim at its defaults: (f) and OptimizerMonitor", ours),
}
NAMES = {letter: told for letter, (told, _) in _CONTESTANTS.items()}
"""What each of them is, and what it records."""


def train(letter: str, work: Work) -> list[float]:
    """Seconds a step in each epoch of one of `NAMES`."""
    taken = seconds(_CONTESTANTS[letter][1], work)
    return [one * work.steps_per_epoch / _of_template(work) for one in taken] if letter == "d" else taken


def seconds(contestant: Callable[[Work, Clock, Path], None], work: Work) -> list[float]:
    """Seconds a step in each epoch, validation and checkpoints included; setting up is not."""
    clock, logger = Clock(work.device, work.clock), logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(io.StringIO()):  # where no terminal is, a line an epoch
                contestant(work, clock, Path(folder))
    finally:
        logger.setLevel(level)
    return [(end - start) / work.steps_per_epoch for start, end in zip(clock.moments, clock.moments[1:], strict=False)]
