"""What went wrong in a run, as a refusal where the config is to blame, and as it is where it is a bug."""

from __future__ import annotations

import errno
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf.errors import InterpolationResolutionError

from lit_optim.cli.composition import unwritable
from lit_optim.cli.refusals import unresolved
from lit_optim.errors import ConfigError, LitOptimError, Mistake

__all__ = ["translated"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_OF_VALUES = (TypeError, ValueError, AttributeError, ArithmeticError, LookupError)
_UNUSED = "parameters that were not used in producing the loss"
_LIBRARIES = ("lightning", "torch")


def translated(error: BaseException, folder: Path, started: bool) -> BaseException:
    """The error to raise in place of another.

    Args:
        error: Raised while a run was set up or trained.
        folder: The run's folder.
        started: Whether training had begun.

    Returns:
        A refusal for a folder that can't be written, for what Lightning calls a misconfiguration, for parameters that
        DistributedDataParallel waits for in vain, and for a value that Lightning or torch stumbles over before training
        begins; an interrupt that Lightning has made an exit; any other error itself.
    """
    if type(error) is SystemExit and isinstance(error.__context__, KeyboardInterrupt):
        return KeyboardInterrupt()  # as which it began, before Lightning made it an exit
    if isinstance(error, LitOptimError):
        return error
    if isinstance(error, InterpolationResolutionError):
        return ConfigError(unresolved(error))
    if isinstance(error, OSError):
        inside = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
        return unwritable(error) if inside or error.errno in _NO_ROOM else error
    text = f"{error}".strip()
    if "ModelCheckpoint(monitor" in text or "Early stopping conditioned on metric" in text:
        name = "checkpoint" if "ModelCheckpoint" in text else "early_stopping"
        remedy = (
            f"name what the model logs: callbacks.{name}.monitor=val/loss callbacks.{name}.mode=min; or null for none"
        )
        return ConfigError(Mistake(f"callbacks.{name}.monitor", text.partition(" HINT: ")[0], remedy=remedy))
    if _UNUSED in text:
        problem = "a parameter got no gradient, and DistributedDataParallel waits for that of each"
        remedy = "freeze it (rules.NAME.freeze=true), or write trainer.strategy=ddp_find_unused_parameters_true"
        return ConfigError(Mistake("trainer.strategy", problem, remedy=remedy))
    if isinstance(error, MisconfigurationException):
        return ConfigError(Mistake("trainer", text, remedy="change what it names"))
    if isinstance(error, _OF_VALUES) and not started and _raised_in(error) in _LIBRARIES:
        problem = f"it holds a value that {_raised_in(error)} can't use: {type(error).__name__}: {text}"
        return ConfigError(Mistake("trainer", problem, remedy="HYDRA_FULL_ERROR=1 shows which; correct it"))
    return error


def _raised_in(error: BaseException) -> str:
    """The package whose code raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
