"""What a run may start from: a checkpoint is read and held against the plan before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule

from lit_optim.errors import Mistake, PlanError, RunError, nearest
from lit_optim.integration.compiled import accept_compiled
from lit_optim.plan import Plan
from lit_optim.scheduler import PlanScheduler

__all__ = ["KEY", "Checkpoint"]

KEY = "lit_optim"
"""Under which a checkpoint holds what Lightning's own don't: the plan, and random-number states."""

_TOLD = 6  # differences in an error
_WEIGHTS_INSTEAD = "start from the weights alone with weights=PATH, or from the recipe that it was trained with"


@dataclass(frozen=True)
class Checkpoint:
    """A readable checkpoint file.

    Args:
        key: The config key that named it.
        path: The file.
        content: What it holds.
    """

    key: str
    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, key: str, given: object) -> Checkpoint:
        """Load a checkpoint to the CPU, tensors and plain containers only.

        Raises:
            RunError: No such file, a damaged one, or no checkpoint.
        """
        if not isinstance(given, str):
            raise RunError(Mistake(key, "the path of a checkpoint is needed", repr(given), remedy=f"write {key}=PATH"))
        path = Path(given).expanduser()
        if not path.exists():
            others = [other.name for other in path.parent.glob("*.ckpt")] if path.parent.is_dir() else []
            near = nearest(path.name, others)
            raise RunError(Mistake(key, "no such checkpoint", given=str(path), nearest=near, remedy="correct the path"))
        if path.is_dir():
            remedy = f"give a file: {path / 'checkpoints' / 'last.ckpt'}"
            raise RunError(Mistake(key, "this is a folder", given=str(path), remedy=remedy))
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # it is held all run long
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            problem, remedy = f"this file can't be read: {reason}", "give an undamaged checkpoint"
            if reason.startswith("mmap can only be used"):  # so torch says of what is no archive, an empty file too
                problem, remedy = "this is not a checkpoint", "give a file that Lightning saved"
            raise RunError(Mistake(key, problem, str(path), remedy=remedy)) from error
        needed = ("state_dict",) if key == "weights" else ("state_dict", "optimizer_states", "lr_schedulers", "loops")
        missing = [part for part in needed if not isinstance(content, dict) or part not in content]
        if missing:
            problem = f"this is not the checkpoint of a run: it has no {', '.join(missing)}"
            raise RunError(Mistake(key, problem, given=str(path), remedy="give a file that Lightning saved"))
        return cls(key, path, content)

    def load_weights(self, module: LightningModule) -> None:
        """Put its weights into a module.

        Raises:
            RunError: They are another model's.
        """
        accept_compiled(module)
        try:
            module.load_state_dict(self.content["state_dict"], strict=module.strict_loading)
        except RuntimeError as error:
            problem = f"the weights are another model's: {' '.join(str(error).split())}"
            remedy = "give a checkpoint of this model"
            raise RunError(Mistake(self.key, problem, given=str(self.path), remedy=remedy)) from error

    def check_fits(self, scheduler: PlanScheduler, on_change: str = "config", over: bool = False) -> list[str]:
        """Hold a full state against the plan and the optimizer that are to go on from it.

        Optimizer state follows the parameters by their names, so groups may have changed; what the config says now is
        what runs.

        Args:
            scheduler: Of the run that starts.
            on_change: ``error`` refuses any difference between the plans; ``config`` tells it.
            over: Whether the state may stand at the end of the run.

        Returns:
            What is different, a line each in words.

        Raises:
            RunError: The optimizer can't take the state; no step is left to take; or a difference where none is wanted.
        """
        plan = scheduler.plan
        for state in self.content["optimizer_states"]:
            why = scheduler.state_by_name.refusal(scheduler.optimizer, state)
            if why is not None:
                self._refuse(why, str(self.path), _WEIGHTS_INSTEAD)
        changes = [] if self.plan is None else self.plan.diff(plan)
        if changes and on_change == "error":
            more = f" and {len(changes) - _TOLD} more" if len(changes) > _TOLD else ""
            problem = "the plan is another than the checkpoint's, and resume.on_change=error refuses that"
            remedy = "go on with the config that it was trained with, or with resume.on_change=config"
            self._refuse(problem, "; ".join(changes[:_TOLD]) + more, remedy)
        total = plan.horizon.total_steps
        if plan.horizon.is_bounded and (self.step > total or (self.step == total and not over)):
            problem = f"it stands at step {self.step} of a run of {total}: nothing is left to train"
            self._refuse(problem, str(self.path), "raise trainer.max_epochs or trainer.max_steps")
        return changes

    @cached_property
    def plan(self) -> Plan | None:
        """That it was trained with, as far as it says.

        Raises:
            RunError: It can't be read.
        """
        text = self.content.get(KEY, {}).get("plan")
        try:
            return None if text is None else Plan.from_json(text)
        except PlanError as error:
            self._refuse(f"its plan can't be read: {error.mistakes[0].problem}", str(self.path), _WEIGHTS_INSTEAD)

    @property
    def step(self) -> int:
        """The optimizer steps behind it."""
        return int(self.content.get("global_step", 0))

    def _refuse(self, problem: str, given: str, remedy: str) -> NoReturn:
        raise RunError(Mistake(self.key, problem, given=given, remedy=remedy))
