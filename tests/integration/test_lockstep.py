from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lit_optim.integration.lockstep import Lockstep


def test_nobody_stops_unasked(tmp_path: Path) -> None:
    lockstep = Lockstep.create(tmp_path / "file", 2)
    assert not lockstep.training
    lockstep.note(0, 5)
    assert lockstep.training
    assert not lockstep.stops_after(5)
    lockstep.leave(0)
    assert not lockstep.training


def test_what_is_not_begun_can_not_stop(tmp_path: Path) -> None:
    assert not Lockstep.create(tmp_path / "file", 2).settle()


def test_all_stop_one_batch_past_the_furthest(tmp_path: Path) -> None:
    lockstep = Lockstep.create(tmp_path / "file", 3)
    for rank, batches in enumerate((4, 5, 5)):
        lockstep.note(rank, batches)
    assert lockstep.settle()
    of_another_process = Lockstep(tmp_path / "file")
    assert [batches for batches in range(4, 8) if of_another_process.stops_after(batches)] == [6, 7]


def test_a_rank_asks_for_all(tmp_path: Path) -> None:
    lockstep = Lockstep.create(tmp_path / "file", 2)
    assert not lockstep.asked
    Lockstep(tmp_path / "file").ask()
    assert lockstep.asked


@pytest.mark.parametrize("attempt", range(5))
def test_ranks_that_run_stop_together(tmp_path: Path, attempt: int) -> None:
    """As under DDP, where none begins a batch before all have begun the one before."""
    ranks, stopped = 3, {}
    lockstep = Lockstep.create(tmp_path / "file", ranks)
    barrier = threading.Barrier(ranks)

    def train(rank: int) -> None:
        own = Lockstep(tmp_path / "file")
        for batches in range(1, 100_000):
            barrier.wait(10)  # in the backward pass
            time.sleep(0.0001 * (rank + attempt))
            own.note(rank, batches)
            if own.stops_after(batches):
                stopped[rank] = batches
                return

    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    while not lockstep.training:
        time.sleep(0.001)
    assert lockstep.settle()
    for thread in threads:
        thread.join(20)
    assert len(stopped) == ranks
    assert len({*stopped.values()}) == 1
