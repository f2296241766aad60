"""Workers of a loader outlive the SIGTERM that a launcher sends to all processes of a run: who trains answers it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import cache
from multiprocessing import current_process
from multiprocessing.util import register_after_fork

from torch.utils.data._utils.worker import _worker_loop

__all__ = ["spare_workers"]


@cache
def spare_workers() -> None:
    """Let the workers that a ``DataLoader`` forks from now on take SIGTERM from this process alone.

    torchrun signals a whole process group, Slurm a whole job step. A worker that dies of it takes the process that
    trains along, in the middle of a batch, before it has saved anything.
    """
    if hasattr(signal, "sigwaitinfo"):  # which macOS lacks
        register_after_fork(sys.modules[__name__], lambda _: _heed_parent_alone())


def _heed_parent_alone() -> None:
    if getattr(current_process(), "_target", None) is not _worker_loop:  # a process of the user's own has its own way
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parents_word, daemon=True).start()


def _end_with_parents_word() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)  # as torch has its workers answer it
