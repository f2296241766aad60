"""Which process of a run speaks for it; asked before anything heavy is imported."""

from __future__ import annotations

import os

__all__ = ["SRUN", "TORCHRUN", "is_rank_zero"]

TORCHRUN, SRUN = "TORCHELASTIC_RUN_ID", "SLURM_NTASKS"
"""In the environment of what each of them starts."""


def is_rank_zero() -> bool:
    """Whether this process is the first on the first machine, or alone."""
    names = ("RANK",) if TORCHRUN in os.environ else ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)
