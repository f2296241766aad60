"""Runs of two gloo ranks in which something goes wrong, and what is to be seen of them from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TWO = ("train", "trainer=ddp_cpu", "data=digits", "data.batch_size=64", "model.hidden_dims=[8]", "test=false",
       "trainer.max_epochs=3", "trainer.limit_train_batches=8", "trainer.limit_val_batches=1")  # fmt: skip
FAULTS = """
import os, signal, time, torch
from lightning.pytorch import Callback, seed_everything
from lit_optim.data import Digits

class Fault(Callback):
    def __init__(self, how, rank=1, at=12, pause=0.0, only="", moment="on_train_batch_start"):
        self.how, self.rank, self.at, self.pause, self.only = how, rank, at, pause, only
        setattr(self, moment, self.act)

    def act(self, trainer, module, *args, **more):
        open(f"alive.{os.getpid()}", "w").close()
        time.sleep(self.pause)
        here = trainer.global_rank == self.rank and trainer.global_step == self.at
        if not here or self.only not in str(trainer.default_root_dir) + str(trainer.callbacks[-1].dirpath):
            return
        if self.how == "raises":
            raise ValueError("a rank's own")
        if self.how == "exits":
            raise SystemExit(0)
        if self.how == "hangs":
            time.sleep(1000)
        if self.how in ("SIGKILL", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, self.how))

class OtherData(Digits):
    def train_dataloader(self):
        loader = super().train_dataloader()
        if os.environ.get("LOCAL_RANK") == "1":
            loader.batch_size //= 2
        return loader

class Workers(Digits):
    def train_dataloader(self):
        whole = super().train_dataloader()
        data = torch.utils.data.TensorDataset(*whole.tensors)
        return torch.utils.data.DataLoader(data, whole.batch_size, num_workers=1)

class OtherSeed(Digits):
    def __init__(self, **more):
        super().__init__(**more)
        if os.environ.get("LOCAL_RANK") == "1":
            seed_everything(7, verbose=False)

class Slow(Digits):
    def setup(self, stage):
        open(f"alive.{os.getpid()}", "w").close()
        time.sleep(1000)

class NoData(Digits):
    def __init__(self, **more):
        super().__init__(**more)
        if os.environ.get("LOCAL_RANK") == "1":
            self.load("of this rank alone")
"""


def fault(how: str, **more: Any) -> list[str]:
    return [
        f"+callbacks.fault.{name}={value}" for name, value in {"_target_": "faults.Fault", "how": how, **more}.items()
    ]


def state(run: Path) -> dict[str, Any]:
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {part: content[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops")}


def metrics(run: Path) -> dict[str, Any]:
    return json.loads((run / "metrics.json").read_text())


def of_ranks(folder: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.glob("alive.*")]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    bound = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < bound
        time.sleep(0.05)
