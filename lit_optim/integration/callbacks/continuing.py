"""What a checkpoint needs beside weights, optimizer and step so that a run goes on as if nothing had happened."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lit_optim.integration.checkpoint import KEY
from lit_optim.scheduler import PlanScheduler
from lit_optim.state import named

__all__ = ["Continuing", "random_state", "restore_random_state"]


class Continuing(Callback):
    """Saves optimizer state by parameter name, the plan, and every process's random-number state; restores the last.

    Lightning saves optimizer state by position, which means another parameter once groups have changed, and no
    random-number state at all.
    """

    def __init__(self) -> None:
        self._random: list[dict[str, Any]] = []
        self._mid_epoch = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See the class. Lightning calls this on every process."""
        configs = trainer.lr_scheduler_configs
        scheduler = configs[0].scheduler if configs else None
        if not isinstance(scheduler, PlanScheduler):
            return
        checkpoint[KEY] = {
            "plan": scheduler.plan.to_json(),
            "random": _of_every_process(random_state()),
            "mid_epoch": not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch,
        }
        states = checkpoint["optimizer_states"]
        checkpoint["optimizer_states"] = [named(state, scheduler.plan) or state for state in states]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the random-number states until training begins; a test has no use for them."""
        own = checkpoint.get(KEY, {}) if trainer.state.fn == TrainerFn.FITTING else {}
        self._random, self._mid_epoch = own.get("random", []), own.get("mid_epoch", False)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The order of the first epoch's samples may be drawn from here on."""
        self._restore(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """In the middle of an epoch that order had been drawn when the checkpoint was saved."""
        if self._mid_epoch:
            self._restore(trainer)
        self._random = []

    def _restore(self, trainer: Trainer) -> None:
        if len(self._random) == trainer.world_size:  # on another number of processes there is nothing to go on with
            restore_random_state(self._random[trainer.global_rank])


def random_state() -> dict[str, Any]:
    """The state of every generator of this process, in plain containers and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put every generator of this process into a state that `random_state` gave."""
    torch.set_rng_state(state["torch"].cpu())
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def _of_every_process(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states
