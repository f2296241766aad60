from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader

from lit_optim.cli.workers import spare_workers

KILL = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGTERM)"


def kill(pid: int | None) -> None:
    """As somebody else would."""
    subprocess.run([sys.executable, "-c", KILL, str(pid)], check=True, timeout=60)


@pytest.fixture
def batches() -> Iterator[Any]:
    spare_workers()
    loader = DataLoader([*range(99)], num_workers=1, multiprocessing_context="fork", prefetch_factor=1)  # type: ignore[arg-type]
    found = iter(loader)
    next(found)
    yield found
    found._shutdown_workers()


def test_a_worker_goes_on_where_somebody_else_would_end_it(batches: Any) -> None:
    [worker] = batches._workers
    kill(worker.pid)
    assert [int(batch) for batch in batches] == [*range(1, 99)]
    worker.join(60)
    assert worker.exitcode == 0


def test_a_worker_ends_by_the_word_of_its_parent(batches: Any) -> None:
    [worker] = batches._workers
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


def test_another_process_takes_the_signal_as_it_likes() -> None:
    spare_workers()
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    def wait() -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        begun.set()
        threading.Event().wait()

    process = context.Process(target=wait, daemon=True)
    process.start()
    try:
        assert begun.wait(60)
        kill(process.pid)
        process.join(60)
        assert process.exitcode == 7
    finally:
        process.kill()
        process.join()


def test_this_process_still_takes_the_signal(batches: Any) -> None:
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
