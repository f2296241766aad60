"""How a refusal is told: on stderr, once, without a traceback unless one is asked for."""

from __future__ import annotations

import os
import sys
import traceback

from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.errors import LitOptimError

__all__ = ["FULL_ERROR", "report"]

FULL_ERROR = "HYDRA_FULL_ERROR"
"""The variable of the environment that asks for tracebacks."""


def report(error: LitOptimError) -> None:
    """Print a refusal to stderr, once a job; with HYDRA_FULL_ERROR=1 the traceback before it."""
    if is_rank_zero():
        if os.environ.get(FULL_ERROR) == "1":
            traceback.print_exception(error)
        print(f"lit-optim: {type(error).__name__}\n{error}", file=sys.stderr)
