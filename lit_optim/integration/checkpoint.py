"""What a run may start from: a checkpoint is read and held against the plan before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from lit_optim.errors import Mistake, RunError, nearest
from lit_optim.plan import Plan
from lit_optim.traits import EXECUTION

__all__ = ["Checkpoint"]

_BESIDE = ("params", "param_names", "name", "initial_lr")  # what a saved group carries beside hyperparameters
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
            remedy = "give an undamaged checkpoint"
            raise RunError(Mistake(key, f"this file can't be read: {reason}", str(path), remedy=remedy)) from error
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
        try:
            module.load_state_dict(self.content["state_dict"], strict=module.strict_loading)
        except RuntimeError as error:
            problem = f"the weights are another model's: {' '.join(str(error).split())}"
            remedy = "give a checkpoint of this model"
            raise RunError(Mistake(self.key, problem, given=str(self.path), remedy=remedy)) from error

    def check_fits(self, plan: Plan) -> None:
        """Refuse a full state that this plan can't go on from.

        Optimizer state is restored by position, so the groups must hold the same parameters in the same order and know
        the same hyperparameters; and steps must be left to take.

        Raises:
            RunError: One of these doesn't hold.
        """
        states = self.content["optimizer_states"]
        groups = _groups_in(states[0]) if states else []
        saved = [tuple(group.get("param_names", ())) for group in groups]
        of_plan = [*plan.groups]
        if len(of_plan) == 1 and not any(saved):  # a class that makes its groups itself, one a parameter (AdamMini)
            saved, of_plan = [tuple(group.get("name", "") for group in groups)], of_plan * len(groups)
        if saved != [group.parameters for group in plan.groups]:
            self._refuse("its param groups are not those of this plan", f"{len(saved)} groups", _WEIGHTS_INSTEAD)
        for group, planned in zip(groups, of_plan, strict=True):
            known = group.keys() - {*_BESIDE, *EXECUTION}
            if not known >= planned.hyperparameters.keys():
                problem = f"it was trained with another optimizer than {planned.optimizer}"
                self._refuse(problem, f"one with {', '.join(sorted(known))}", _WEIGHTS_INSTEAD)
        step = self.content.get("global_step", 0)
        if plan.horizon.is_bounded and step >= plan.horizon.total_steps:
            problem = f"it stands at step {step} of a run of {plan.horizon.total_steps}: nothing is left to train"
            self._refuse(problem, str(self.path), "raise trainer.max_epochs or trainer.max_steps")

    def _refuse(self, problem: str, given: str, remedy: str) -> None:
        raise RunError(Mistake(self.key, problem, given=given, remedy=remedy))


def _groups_in(state: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The param groups in an optimizer's state; that of one inside of it is a part of its own."""
    if "param_groups" in state:
        groups: Sequence[Mapping[str, Any]] = state["param_groups"]
        return groups
    inside = (part for part in state.values() if isinstance(part, Mapping))
    return next((groups for groups in map(_groups_in, inside) if groups), ())
