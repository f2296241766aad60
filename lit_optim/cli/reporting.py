"""How a refusal is told: on stderr, once, without a traceback unless one is asked for."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.errors import LitOptimError

__all__ = ["FULL_ERROR", "report", "restore_full_error", "shown"]

FULL_ERROR = "HYDRA_FULL_ERROR"
"""The variable of the environment that asks for tracebacks."""


def report(error: LitOptimError) -> None:
    """Print a refusal to stderr, once a job; with HYDRA_FULL_ERROR=1 the traceback before it."""
    if is_rank_zero():
        if os.environ.get(FULL_ERROR) == "1":
            traceback.print_exception(error)
        print(f"lit-optim: {type(error).__name__}\n{error}", file=sys.stderr)


def restore_full_error(value: str | None) -> None:
    """Set the variable as it was; None for not at all."""
    if value is None:
        os.environ.pop(FULL_ERROR, None)
    else:
        os.environ[FULL_ERROR] = value


def shown(path: Path) -> Path:
    """Relative to the working directory where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
