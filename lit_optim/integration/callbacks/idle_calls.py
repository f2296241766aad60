"""Calls that would do nothing are not made: what a batch costs beside the model is mostly these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler

from lit_optim.integration.direct_loop import DirectLoop

__all__ = ["SkipIdleCalls"]

_OF_BATCHES = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_NOTHING = nullcontext("")


class SkipIdleCalls(Callback):
    """Has Lightning pass over the hooks that nobody has written, for as long as a fit trains.

    At every batch Lightning calls six hooks of each callback and of the module, written or inherited, each within a
    context of its profiler and with a name made for it. It skips what is not callable: so an inherited hook is None on
    its object while batches train, and what is written, in a class or on the object, stays. A profiler that is none
    makes no contexts; and where a fit is plain enough, `DirectLoop` runs its batches. Afterwards, however the training
    ends, everything is as it was.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._end()
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a helper of its own
        for one in callbacks:
            self._skip(one, [hook for hook in _OF_BATCHES if _is_inherited(one, hook, Callback)])
            if isinstance(one, ModelCheckpoint) and _saves_at_no_batch(one):
                self._skip(one, ["on_train_batch_end"])
        self._skip(pl_module, [hook for hook in _OF_BATCHES if _is_inherited(pl_module, hook, LightningModule)])
        direct = DirectLoop.of(trainer, pl_module)
        if direct is not None:
            self._replace(trainer.fit_loop, "epoch_loop", direct)
        if type(trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]  # the same
            self._replace(trainer, "profiler", _NoContexts())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End."""
        self._end()

    def _skip(self, owner: object, hooks: Iterable[str]) -> None:
        for hook in hooks:
            vars(owner)[hook] = None
            self._undo.append(partial(_forget, owner, hook))

    def _replace(self, owner: object, name: str, other: object) -> None:
        self._undo.append(partial(setattr, owner, name, getattr(owner, name)))
        setattr(owner, name, other)

    def _end(self) -> None:
        while self._undo:
            self._undo.pop()()


class _NoContexts(PassThroughProfiler):
    """A profiler that doesn't profile, without making a context each time that it doesn't."""

    def profile(self, action_name: str) -> AbstractContextManager[str]:  # type: ignore[override]  # of no generator
        return _NOTHING


def _forget(owner: object, hook: str) -> None:
    if vars(owner).get(hook, hook) is None:  # and not set by somebody in the meantime
        del vars(owner)[hook]


def _is_inherited(owner: object, hook: str, base: type) -> bool:
    """Whether what Lightning would call is the empty method of its own base class."""
    return getattr(getattr(owner, hook), "__func__", None) is getattr(base, hook)


def _saves_at_no_batch(saver: ModelCheckpoint) -> bool:
    is_own: Any = _is_inherited(saver, "on_train_batch_end", ModelCheckpoint)
    return is_own and saver._every_n_train_steps < 1 and saver._train_time_interval is None
