"""What a checkpoint needs beside weights, optimizer and step so that a run goes on as if nothing had happened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lit_optim.integration.after_batch import do_what_follows
from lit_optim.integration.catch_up import ask_again, needs_catching_up, skip
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
        self._loaded: dict[str, Any] = {}  # what a checkpoint says, until training begins
        self._asked: dict[str, Any] = {}  # the random-number state in which the loaders were first asked for samples
        self._epoch_began: dict[str, Any] = {}  # and that in which the current epoch began

    def on_asking(self) -> None:
        """To be called before anything looks into the loaders: an order of samples may be drawn from here on."""
        self._asked = random_state()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """See the class. Lightning calls this on every process."""
        configs = trainer.lr_scheduler_configs
        scheduler = configs[0].scheduler if configs else None
        if not isinstance(scheduler, PlanScheduler):
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress
        checkpoint[KEY] = {"plan": scheduler.plan.to_json(), "random": _of_every_process(random_state())}
        if not progress.is_last_batch:
            before = {"asked": self._asked, "began": self._epoch_began}
            checkpoint[KEY]["epoch"] = {"batches": progress.current.ready, "random": _of_every_process(before)}
        states = checkpoint["optimizer_states"]
        checkpoint["optimizer_states"] = [named(state, scheduler.plan) or state for state in states]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the random-number states until training begins; a test has no use for them."""
        self._loaded = checkpoint.get(KEY, {}) if trainer.state.fn == TrainerFn.FITTING else {}
        if self._loaded and trainer.strategy.restore_checkpoint_after_setup:  # and so after `on_fit_start`
            trainer.fit_loop._combined_loader = None  # set up for the horizon, before there was a position to go to
            self._restore(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The order of the first epoch's samples may be drawn from here on."""
        self._restore(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """In the middle of an epoch that order had been drawn when the checkpoint was saved."""
        epoch = self._loaded.get("epoch", {})
        before = _own(trainer, epoch.get("random", ()))
        if before:
            self._asked, self._epoch_began = before["asked"], before["began"]
            if self._asked and self._epoch_began and needs_catching_up(trainer):
                first = trainer.current_epoch == 0  # whose samples were asked for before it began
                restore_random_state(self._asked if first else self._epoch_began)
                ask_again(trainer)
                if first:
                    restore_random_state(self._epoch_began)
                skip(trainer, epoch["batches"])
        fit_loop = trainer.fit_loop  # which has drawn once more for an epoch that its last validation had left to end
        ends = fit_loop.restarted_mid_epoch and fit_loop.epoch_loop.restarted_on_last
        if do_what_follows(trainer) or epoch or ends:
            self._restore(trainer)
        self._loaded = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember how the epoch began: from here on the order of its samples may be drawn."""
        self._epoch_began = random_state()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch of which only the end was left to do has had no batch after which Lightning says that it goes on."""
        trainer.fit_loop.epoch_loop.restarting = False

    def _restore(self, trainer: Trainer) -> None:
        own = _own(trainer, self._loaded.get("random", ()))
        if own:
            restore_random_state(own)


def _own(trainer: Trainer, states: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """This process's; None on another number of processes, where there is nothing to go on with."""
    return states[trainer.global_rank] if len(states) == trainer.world_size else None


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
