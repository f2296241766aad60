from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from lit_optim.cli.workers import spare_workers

KILL = "import os, signal, sys; os.kill(int(sys.argv[1]), signal.SIGTERM)"


@pytest.fixture
def worker() -> Iterator[multiprocessing.Process]:
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    def wait() -> None:
        begun.set()
        threading.Event().wait()

    spare_workers()
    process = context.Process(target=wait, daemon=True)
    process.start()
    assert begun.wait(60)
    yield process  # type: ignore[misc]
    process.kill()
    process.join()


def test_a_worker_ends_by_the_word_of_its_parent_alone(worker: multiprocessing.Process) -> None:
    assert worker.pid is not None
    subprocess.run([sys.executable, "-c", KILL, str(worker.pid)], check=True, timeout=60)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(60)
    assert not worker.is_alive()


def test_this_process_still_takes_the_signal(worker: multiprocessing.Process) -> None:
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert worker.pid != os.getpid()
