"""Why did it not train? Norms, shares and step sizes of each param group, and findings in words."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from lit_optim.cadence import Cadence, is_count
from lit_optim.errors import ConfigError, Mistake
from lit_optim.findings import FIRST_LOSSES, Dead, Log, Watch
from lit_optim.integration.around_steps import AroundSteps
from lit_optim.integration.callbacks.recorder import batch_loss
from lit_optim.integration.dead_units import DeadUnits
from lit_optim.integration.findings_file import causes_since, run_folder_of, tell
from lit_optim.integration.losses import Losses
from lit_optim.integration.rows import Row, log_histograms, log_rows, mark_resume
from lit_optim.measurement import QUANTITIES
from lit_optim.selection import entries_of
from lit_optim.statistics import Figures, figures

__all__ = ["OptimizerMonitor"]

_ALL = (*QUANTITIES, "dead_relu", "histograms")


class OptimizerMonitor(Callback):
    """Logs what each optimizer step does to each param group, and says in words what keeps a run from training.

    The tags are ``<quantity>/<group>``, and ``total/<quantity>`` for all groups together; groups are called as by
    `Recorder`, and the x-axis is the same: ``trainer.global_step`` before the step. Every norm is the Euclidean one
    over all elements of a group. A group that has no gradients, or no momentum, at a step has no point there.

    =====================  ============================================================================================
    ``grad_norm``          of the gradients, complete (accumulated, averaged over devices, unscaled), not yet clipped
    ``grad_norm_clipped``  of the gradients as the optimizer gets them
    ``param_norm``         of the parameters before the step
    ``update_norm``        of the difference that the step makes to them, weight decay included
    ``update_ratio``       ``update_norm / param_norm``
    ``momentum_norm``      of the running average of gradients after the step (SGD and Muon ``momentum_buffer``, Adam
                           and Lion ``exp_avg``)
    ``effective_step``     of optimizers that keep Adam's ``exp_avg_sq`` v: the mean over all elements of
                           ``lr / (sqrt(v_hat) + eps)`` with ``v_hat = v / (1 - beta2^t)`` after the step (``amsgrad``:
                           v's running maximum). A weight whose gradients are always 0 counts with ``lr / eps``
    ``zero_grads``         the share of gradient elements that are exactly 0, from 0 to 1
    ``nonfinite_grads``    the share that is infinite or NaN, from 0 to 1
    ``dead_relu``          by ReLU module in place of group: the share of its units that were 0 for every sample of the
                           last ``window`` steps. Found are modules (``nn.ReLU``, ``nn.ReLU6``) that ``torch.compile``
                           doesn't run; ``torch.nn.functional.relu`` can't be seen. `DeadUnits` says what a unit is
    ``histograms``         off by default: ``gradients/<group>`` as the optimizer gets them and ``weights/<group>``,
                           counted in powers of two; loggers of the TensorBoard family alone can show them
    =====================  ============================================================================================

    A finding is one line on stderr and in ``findings.txt`` in the run's folder, with what to do about it: gradients
    that are not finite (under a GradScaler: in three logs in a row), a loss that is not finite or far above that of the
    first steps, a group whose update ratio stays above 0.1 or below 1e-6 at its usual learning rate, ReLU units that
    are dead. Each cause is told once a run, resumed or not.

    What a log costs is paid at its steps alone, and brought from the device in one transfer; ``update_norm`` and
    ``update_ratio`` hold a copy of the parameters during such a step, ``nonfinite_grads`` one of the gradients for a
    moment. The training stays the same bit for bit. Under FSDP2 every figure is about whole tensors. An optimizer that
    evaluates its closure again (LBFGS, SAM) is measured at its first evaluation. Under manual optimization there is one
    log for a batch that stepped, with each optimizer's first step, and gradients that the module clips itself count
    as unclipped. FSDP1 and DeepSpeed hide the tensors: there it warns and does nothing.

    Args:
        every: Optimizer steps from one log to the next, starting with step 0; 0 or None for none.
        window: Optimizer steps before a log of ``dead_relu``, its own included, in which outputs are looked at.
        early: The same before the first ``every`` steps are over, where most goes wrong; None for ``every``.
        **cadence: The same for one quantity: ``update_ratio=200``; ``"every"`` stands for ``every`` and ``early``.

    Raises:
        ConfigError: An unknown quantity, or a number that is none of steps; all that is wrong at once.
    """

    def __init__(
        self, every: int | None = 50, window: int = 5, early: int | None = None, **cadence: int | str | None
    ) -> None:
        mistakes: list[Mistake] = []
        try:
            self.cadence = Cadence.of(every, {"histograms": None, **cadence}, _ALL, early)
        except ConfigError as error:
            mistakes += error.mistakes
        if not is_count(window) or window < 1:
            problem, remedy = "no output would be looked at", "give a number of optimizer steps; 5 is the default"
            mistakes.append(Mistake("window", problem, given=repr(window), remedy=remedy))
        if mistakes:
            raise ConfigError(*mistakes)
        self.window = window
        self._watch = Watch()
        self._dead_before: dict[str, Any] = {}  # what a checkpoint had seen since its last log
        self._reset()

    def _reset(self) -> None:
        self._active = False
        self._last = -1  # the step before the one to come
        self._step: int | None = None  # whose batch has not ended yet
        self._due: list[str] = []
        self._around = AroundSteps((), 1)
        self._losses = Losses(FIRST_LOSSES)
        self._dead: DeadUnits | None = None
        self._folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A new run begins with nothing told; a checkpoint that is loaded after this brings back what was."""
        if stage == "fit" and trainer.global_step == 0:
            self._watch = Watch()
            self._dead_before = {}

    def state_dict(self) -> dict[str, Any]:
        """What is told already, and what was seen on the way to the next finding."""
        return {"watch": self._watch.state(), "dead": {} if self._dead is None else self._dead.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        if {*state_dict} == {"watch", "dead"}:  # of another version there is nothing that a run couldn't go without
            self._watch.restore(state_dict["watch"])
            self._dead_before = state_dict["dead"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stand before and behind each optimizer's steps."""
        self._close()
        self._reset()
        if not self.cadence or not _is_visible(trainer):
            return
        self._active = True
        self._last = trainer.global_step - 1
        self._around = AroundSteps(trainer.optimizers, trainer.world_size)
        if self.cadence.steps["dead_relu"] and not _splits_layers(trainer) and pl_module._compiler_ctx is None:
            self._dead = DeadUnits(pl_module)
            self._dead.restore(self._dead_before)
        self._dead_before = {}
        if trainer.is_global_zero:
            self._folder = run_folder_of(trainer)
            if trainer.global_step > 0:
                self._watch.told |= causes_since(self._folder, trainer.global_step)
                mark_resume(trainer.loggers, trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the losses before: the accumulation, by which they are divided, may have changed."""
        self._losses.clear()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at the outputs of ReLU modules, if the next log is near."""
        if self._dead:
            step, cadence = trainer.global_step, self.cadence
            if cadence.is_near("dead_relu", step, self.window) or cadence.is_due("dead_relu", step, self._last):
                self._dead.begin_forward()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure what is there before the gradients are clipped; Lightning has unscaled them."""
        if not self._active:
            return
        if self._dead and pl_module.automatic_optimization:  # whatever runs from here on, runs once more
            self._dead.end_forward()
        if self._step is None:
            self._step = trainer.global_step
            self._due = self.cadence.due(self._step, self._last)
            self._around.begin(self._due)
        self._around.see_gradients(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the loss; if the batch ended in a step that is due, log."""
        if not self._active:
            return
        if self._dead:
            self._dead.end_forward()
        loss = batch_loss(outputs)
        if loss is not None:
            self._losses.add(loss, trainer.accumulate_grad_batches)
        step = self._step
        if step is None or trainer.global_step == step:  # equal: the strategy accumulates inside its `step`
            return
        if self._due:
            self._log(trainer, pl_module, step)
        self._step, self._last = None, step
        self._around.begin(())

    def _log(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        around, ranks = self._around, trainer.world_size
        measurements, histograms = [*around.measurements.values()], [*around.histograms.values()]
        lrs = [lr for lr in around.lrs.values() if isinstance(lr, Tensor)]
        watched = self._dead if "dead_relu" in self._due else None
        parts = [
            [measurement.vector() for measurement in measurements],
            [self._losses.take(trainer.accumulate_grad_batches) / ranks],
            [lr / ranks for lr in lrs],
            watched.take(ranks) if watched else [],
            *([one.vector()] for one in histograms),
        ]
        first = parts[0][0]
        vector = torch.cat([one.to(first).flatten() for part in parts for one in part])
        if ranks > 1:
            vector = trainer.strategy.reduce(vector, reduce_op="sum")
        if not trainer.is_global_zero:
            return
        values = iter(vector.tolist())  # all that is brought from the device
        of_parts = [[*islice(values, sum(one.numel() for one in part))] for part in parts]
        seen = figures(measurements, of_parts[0])
        fetched = iter(of_parts[2])
        dead = watched.read(of_parts[3]) if watched else {}
        if tags := _tags(seen, dead):
            log_rows(trainer.loggers, [Row(step, time.time(), tags)])
        for one, of_one in zip(histograms, of_parts[4:], strict=True):
            log_histograms(trainer.loggers, one.read(of_one), step)
        loss, first_losses = self._losses.read(of_parts[1])
        log = Log(
            step=step,
            figures=seen.groups,
            lrs={name: next(fetched) if isinstance(lr, Tensor) else lr for name, lr in around.lrs.items()},
            built_with=around.built_with,
            nonfinite=_in_model_order(seen, pl_module),
            scaled=getattr(trainer.precision_plugin, "scaler", None) is not None,
            dead=dead,
            loss=loss,
            first_losses=first_losses,
        )
        tell(self._watch.look(log), self._folder)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave no hook behind."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook behind."""
        self._close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave no hook behind."""
        self._close()

    def _close(self) -> None:
        self._around.remove()
        if self._dead is not None:
            self._dead.close()
        self._reset()


def _is_visible(trainer: Trainer) -> bool:
    """Whether whole tensors can be told from what each process holds, and steps have hooks."""
    hidden = isinstance(trainer.strategy, FSDPStrategy)
    if hidden or not all(isinstance(optimizer, Optimizer) for optimizer in trainer.optimizers):
        name = type(trainer.strategy).__name__
        rank_zero_warn(f"OptimizerMonitor does nothing: {name} hides parameters and gradients; FSDP2 shows them")
        return False
    return True


def _splits_layers(trainer: Trainer) -> bool:
    """Whether each process computes some units of a layer, which can't be told from the others' then."""
    mesh = getattr(trainer.strategy, "device_mesh", None)
    return mesh is not None and "tensor_parallel" in mesh.mesh_dim_names and mesh["tensor_parallel"].size() > 1


def _tags(seen: Figures, dead: Mapping[str, Dead]) -> dict[str, float]:
    tags = {f"{quantity}/{group}": value for quantity, of in seen.groups.items() for group, value in of.items()}
    tags |= {f"total/{quantity}": value for quantity, value in seen.totals.items()}
    tags |= {f"dead_relu/{name}": units.dead / units.units for name, units in dead.items()}
    if dead:
        tags["total/dead_relu"] = sum(one.dead for one in dead.values()) / sum(one.units for one in dead.values())
    return tags


def _in_model_order(seen: Figures, pl_module: LightningModule) -> list[tuple[str, str]]:
    """Group and name of each parameter whose gradient is not finite."""
    if not seen.nonfinite:
        return []
    group_of = {id(parameter): group for group, parameter in seen.nonfinite}
    names = {id(entry.parameter): entry.name for entry in entries_of(pl_module)}
    known = [(group_of[key], name) for key, name in names.items() if key in group_of]
    return known or [(group, "a parameter that the module doesn't hold") for group in dict.fromkeys(group_of.values())]
