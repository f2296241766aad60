"""Lightning's training loop for the plain case: the same calls in the same order, without the layers between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from types import FunctionType, MethodType
from typing import Any

import lightning
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from lightning.pytorch.loops.optimization.automatic import Closure, ClosureResult, _AutomaticOptimization
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["DirectLoop"]

_READ = ("2.6.6",)  # the releases of lightning whose loop this one was held against
_TRANSFERS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_INHERITED = ("optimizer_step", "toggle_optimizer", *_TRANSFERS)  # what is passed over, so nobody may have written it
_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_CLIPPING = "configure_gradient_clipping"
_FUNCTIONS = (FunctionType, MethodType, partial)


class DirectLoop(_TrainingEpochLoop):
    """Runs the batches of an epoch as Lightning's own loop does, with one call where Lightning makes six.

    Between a batch and ``training_step`` lie the strategy, the precision plugin, their contexts and the profiler's, a
    search for written hooks and an inspection of signatures; on one device in float32 all of these do nothing. Every
    hook that somebody has written is called as by Lightning: in the same order, with the same arguments, and with
    ``self.log`` knowing where it is. Whatever is not plain goes through Lightning's own loop: several devices, mixed
    precision, a profiler, accumulated gradients, the rest of a batch that a checkpoint cut in two, another release.

    The object shares its state with the loop that it stands in for, so that either may go on where the other stopped.
    """

    @classmethod
    def of(cls, trainer: Trainer, module: LightningModule) -> DirectLoop | None:
        """What can stand in for the Trainer's loop over batches in this fit; None where it has to be Lightning's."""
        loop, strategy = trainer.fit_loop.epoch_loop, trainer.strategy
        kinds = {
            _TrainingEpochLoop: loop,
            _AutomaticOptimization: loop.automatic_optimization,
            SingleDeviceStrategy: strategy,
            Precision: trainer.precision_plugin,
            PassThroughProfiler: trainer.profiler,  # type: ignore[attr-defined]  # set in its constructor by a helper
        }
        if lightning.__version__ not in _READ or any(type(one) is not kind for kind, one in kinds.items()):
            return None
        if any(isinstance(value, _FUNCTIONS) for one in kinds.values() for value in vars(one).values()):
            return None  # somebody has put a method of his own on one of them
        data = getattr(trainer, "datamodule", None)
        written = any(is_overridden(hook, module) for hook in _INHERITED)
        written |= data is not None and any(is_overridden(hook, data) for hook in _TRANSFERS)
        if written or not module.automatic_optimization or strategy.model is not module or module._compiler_ctx:
            return None
        direct = cls.__new__(cls)
        direct.__dict__ = loop.__dict__
        direct._listen(trainer)
        return direct

    def _listen(self, trainer: Trainer) -> None:
        """Find out who has written which hook."""
        self._callbacks: list[Callback] = [*trainer.callbacks]  # type: ignore[attr-defined]  # set by a helper
        self._listeners = {
            hook: [(one, _is_written(one, hook, Callback) and not _does_nothing(one, hook)) for one in self._callbacks]
            for hook in _HOOKS
        }

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """One batch."""
        trainer = self.trainer
        is_plain = type(data_fetcher) is _PrefetchDataFetcher and trainer.accumulate_grad_batches == 1
        if self.restarting or not is_plain or self.automatic_optimization._skip_backward:
            super().advance(data_fetcher)
            return
        progress, connector, module = self.batch_progress, trainer._logger_connector, trainer.lightning_module
        if self.val_loop.restarting:
            self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        batch_idx = progress.current.ready
        progress.is_last_batch = data_fetcher.done
        batch = _on_device(batch, trainer.strategy.root_device)
        progress.increment_ready()
        connector.on_batch_start(batch)
        outputs, ends = None, False
        if batch is None:
            self._warning_cache.warn("the loader gave None for a batch, and nothing is trained on it")
        elif ends := self._hook("on_train_batch_start", batch, batch_idx) == -1:
            progress.increment_by(0, is_last_batch=True)
        else:
            progress.increment_started()
            outputs = self._optimize(module, batch, batch_idx)
        progress.increment_processed()
        self._step_scheduler(module)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        if ends:
            raise StopIteration
        self._hook("on_train_batch_end", outputs, batch, batch_idx)
        if self._results:
            connector.on_batch_end()
        else:  # what was logged so far is nothing
            self._results.batch = self._results.batch_size = None
        progress.increment_completed()
        connector.update_train_step_metrics()

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        """Whether to validate now: Lightning is asked unless the batch's number alone says no."""
        trainer, every = self.trainer, self.trainer.val_check_batch
        by_number = type(every) is int and trainer.check_val_every_n_epoch is not None
        by_number = by_number and type(data_fetcher) is _PrefetchDataFetcher
        by_number = by_number and trainer._val_check_time_interval is None and not trainer.should_stop
        if by_number and self.batch_progress.current.ready % every:
            return False
        return super()._should_check_val_fx(data_fetcher)

    def _step_scheduler(self, module: LightningModule) -> None:
        configs = self.trainer.lr_scheduler_configs
        if any((one.interval, one.frequency, one.reduce_on_plateau) != ("step", 1, False) for one in configs):
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            return
        for one in configs:
            self.scheduler_progress.increment_ready()
            _named(module, "lr_scheduler_step", module.lr_scheduler_step, one.scheduler, None)
            self.scheduler_progress.increment_completed()

    def _optimize(self, module: LightningModule, batch: Any, batch_idx: int) -> dict[str, Any]:
        """One step of the optimizer, which runs the rest; returns what hooks get as outputs."""
        optimizer, progress = self.trainer.optimizers[0], self.automatic_optimization.optim_progress.optimizer.step
        arguments = (batch, batch_idx) if _takes_index(_function(module.training_step)) else (batch,)
        evaluate = _Closure(
            partial(self._forward, module, arguments),
            partial(self._backward, module),
            partial(self._zero_grad, module, batch_idx, optimizer),
        )
        progress.increment_ready()
        _named(module, "optimizer_step", optimizer.step, partial(self._gradients, module, optimizer, evaluate))
        progress.increment_completed()
        result = evaluate.consume_result()
        return {} if result.loss is None else result.asdict()

    def _gradients(self, module: LightningModule, optimizer: Optimizer, evaluate: Closure) -> Tensor | None:
        """What the optimizer calls for a loss, with the gradients of its parameters in place."""
        loss = evaluate()
        self._hook("on_before_optimizer_step", optimizer)
        trainer = self.trainer
        written = (_is_written(module, name, LightningModule) for name in ("clip_gradients", _CLIPPING))
        if trainer.gradient_clip_val is not None or any(written):
            how: dict[str, Any] = {"gradient_clip_val": trainer.gradient_clip_val}
            how["gradient_clip_algorithm"] = trainer.gradient_clip_algorithm
            _named(module, _CLIPPING, partial(module.configure_gradient_clipping, optimizer, **how))
        return loss

    def _forward(self, module: LightningModule, arguments: tuple[Any, ...]) -> ClosureResult:
        output = _named(module, "training_step", module.training_step, *arguments)
        if type(output) is Tensor:
            return ClosureResult(output)
        return ClosureResult.from_training_step_output(output)

    def _zero_grad(self, module: LightningModule, batch_idx: int, optimizer: Optimizer) -> None:
        progress = self.automatic_optimization.optim_progress.optimizer.zero_grad
        progress.increment_ready()
        self._hook("on_before_zero_grad", optimizer)
        progress.increment_started()
        zero_grad = module.optimizer_zero_grad
        _named(module, "optimizer_zero_grad", zero_grad, self.trainer.current_epoch, batch_idx, optimizer)
        progress.increment_completed()

    def _backward(self, module: LightningModule, loss: Tensor) -> None:
        self._hook("on_before_backward", loss)
        _named(module, "backward", module.backward, loss)
        self._hook("on_after_backward")

    def _hook(self, name: str, *arguments: Any) -> Any:
        """Call what callbacks and the module have for a moment; returns what the module's returns."""
        trainer, module = self.trainer, self.trainer.lightning_module
        if self._callbacks != trainer.callbacks:
            self._listen(trainer)
        for callback, is_written in self._listeners[name]:
            if is_written or name in vars(callback):
                _named(module, name, getattr(callback, name), trainer, module, *arguments)
        if _is_written(module, name, LightningModule):
            return _named(module, name, getattr(module, name), *arguments)
        return None


class _Closure(Closure):
    """Lightning's, which switches gradients on; no context is made where the optimizer has done so already."""

    def closure(self, *args: Any, **kwargs: Any) -> ClosureResult:
        if torch.is_grad_enabled():
            return _within_grad(self)
        return super().closure()


_within_grad: Callable[[Closure], ClosureResult] = Closure.closure.__wrapped__  # type: ignore[attr-defined]  # decorated


def _named(module: LightningModule, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call something under the name by which ``self.log`` tells where it is called from."""
    before = module._current_fx_name
    module._current_fx_name = name
    result = call(*arguments)
    module._current_fx_name = before
    return result


def _on_device(batch: Any, device: torch.device) -> Any:
    if type(batch) is tuple and all(type(part) is Tensor and part.device == device for part in batch):
        return batch
    return move_data_to_device(batch, device)


@lru_cache(maxsize=8)
def _takes_index(step: Callable[..., Any]) -> bool:
    """Whether a ``training_step`` wants the batch's number: asking inspects its signature."""
    return is_param_in_hook_signature(step, "batch_idx", min_args=2)


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    return getattr(method, "__func__", method)


def _is_written(owner: object, hook: str, base: type) -> bool:
    """Whether it is another than the empty method of Lightning's own base class."""
    return _function(getattr(owner, hook)) is not getattr(base, hook)


def _does_nothing(callback: Callback, hook: str) -> bool:
    """Whether it is a checkpoint of epochs, whose hook of a batch looks at the clock and the step for nothing."""
    return (
        hook == "on_train_batch_end"
        and isinstance(callback, ModelCheckpoint)
        and not _is_written(callback, hook, ModelCheckpoint)
        and callback._every_n_train_steps < 1
        and callback._train_time_interval is None
    )
