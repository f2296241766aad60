"""Which of a run's processes speaks for it, as far as the environment says."""

from __future__ import annotations

import os

__all__ = ["is_rank_zero", "is_started_by_others"]

_TORCHRUN, _SRUN = "TORCHELASTIC_RUN_ID", "SLURM_NTASKS"  # in the environment of what each of them starts


def is_rank_zero() -> bool:
    """Whether this process speaks for its run: the first on the first machine, and any that is alone."""
    names = ("RANK",) if _TORCHRUN in os.environ else ("SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def is_started_by_others() -> bool:
    """Whether torchrun or srun may have started it, and others like it."""
    return _TORCHRUN in os.environ or _SRUN in os.environ
