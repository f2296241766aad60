from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch.distributed import HashStore

from lit_optim.cli import watch
from lit_optim.cli.watch import Watch

Watched = Callable[..., list[Watch]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes of processes that were ended, which here are threads."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise RuntimeError

    monkeypatch.setattr(watch, "os", type("Os", (), {"_exit": staticmethod(end)}))
    return codes


@pytest.fixture
def watched(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """The first so many of a run's processes, with the store that they have in common, in this one."""
    monkeypatch.setattr(watch, "_LOOK", 0.01)
    monkeypatch.setattr(watch, "_GRACE", 0.2)
    all_of_them: list[Watch] = []

    def start(present: int, world_size: int, store: Any = None, on_stuck: Any = None) -> list[Watch]:
        store = HashStore() if store is None else store
        all_of_them.extend(Watch(store, rank, world_size, on_stuck or (lambda said: None)) for rank in range(present))
        return all_of_them

    yield start
    for one in all_of_them:
        one.close()
        one._thread.join(10)
        assert not one._thread.is_alive()


def wait_for(condition: Callable[[], bool]) -> None:
    bound = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < bound
        time.sleep(0.01)


def stops(one: Watch) -> int:
    """The batch after which it stops, as far as it has been settled."""
    one.lockstep.stops_after(0)  # which waits for that
    return next((batches for batches in range(20) if one.lockstep.stops_after(batches)), 0)


def test_who_is_asked_has_all_stop_one_batch_past_the_furthest(watched: Watched) -> None:
    first, second, third = watched(3, 3)
    for one, batches in ((first, 4), (second, 5)):  # the third has not begun
        one.lockstep.note(0, batches)
    first.lockstep.ask()
    wait_for(lambda: [stops(one) for one in (first, second, third)] == [6, 6, 6])


def test_nobody_stops_unasked_or_where_none_trains(watched: Watched) -> None:
    first, second = watched(2, 2)
    first.lockstep.note(0, 3)
    time.sleep(0.1)
    assert stops(first) == 0
    first.lockstep.leave(0)
    second.lockstep.ask()
    wait_for(lambda: first._settled and second._settled)
    assert [stops(first), stops(second)] == [0, 0]


def test_without_an_answer_of_each_all_go_on(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_ANSWERS", 0.1)
    first, second = watched(2, 3)
    first.lockstep.note(0, 3)
    first.lockstep.ask()
    wait_for(lambda: first._settled and second._settled)
    assert stops(first) == 0


def test_all_do_as_the_first_that_knows(watched: Watched) -> None:
    store = HashStore()
    store.set(watch._LAST, "0")  # of one that has waited in vain for an answer which came after all
    first, second = watched(2, 2, store=store)
    first.lockstep.note(0, 3)
    first.lockstep.ask()
    wait_for(lambda: first._settled and second._settled)
    assert [stops(first), stops(second)] == [0, 0]


def test_the_first_that_fails_is_heard_and_who_waits_is_ended(watched: Watched, ended: list[int]) -> None:
    told: list[str] = []
    failed, lost, _ = watched(3, 3, on_stuck=told.append)
    assert failed.over("a cause") == "a cause"
    assert lost.over("a loss", after=5) == "a cause"
    wait_for(lambda: len(ended) == 3)  # each still there after all that time
    assert told == ["a cause"]  # by the one that didn't know


def test_a_loss_is_said_where_nobody_says_a_cause(watched: Watched) -> None:
    one, other = watched(2, 2)
    assert one.over("a loss", after=0.1) == "a loss"
    assert other.over("another", after=5) == "a loss"


def test_who_has_come_to_its_end_is_not_ended(watched: Watched, ended: list[int]) -> None:
    one, other = watched(2, 2)
    other.close()
    one.over("a cause")
    wait_for(lambda: len(ended) == 1)
    assert not other._thread.is_alive()


def test_a_store_that_is_gone_holds_nobody(watched: Watched) -> None:
    class Gone:
        def check(self, keys: list[str]) -> bool:
            if keys != ["news"]:
                raise RuntimeError("Connection reset by peer")
            return True

        def set(self, key: str, value: str) -> None:
            pass

    [one] = watched(1, 2, store=Gone())
    one.lockstep.note(0, 3)
    wait_for(lambda: not one._thread.is_alive())
    assert one.over("a loss", after=5) == "a loss"
    assert stops(one) == 0
