from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lit_optim.cli import supervision
from lit_optim.cli.supervision import Outcome, supervise

Start = Callable[..., subprocess.Popen[bytes]]
SLEEP = "sleep 600"
DEAF = "trap '' TERM INT; sleep 600"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts shells that lead groups of their own, as ranks do."""
    processes: list[subprocess.Popen[bytes]] = []

    def one(code: str) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen(["sh", "-c", code], process_group=0))
        return processes[-1]

    yield one
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def never() -> bool:
    return False


def watched(*processes: subprocess.Popen[bytes], patience: float = 60, stop: Callable[[], bool] = never) -> Outcome:
    outcome = supervise(processes, patience, never, stop)
    assert all(process.returncode is not None for process in processes)
    return outcome


def test_all_that_end_well_end_well(start: Start) -> None:
    outcome = watched(start("exit 0"), start("sleep 0.2"))
    assert outcome == Outcome([0, 0], [], False)
    assert not outcome.failed


@pytest.mark.parametrize(("how", "code"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_one_that_fails_ends_the_others(how: str, code: int, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_GRACE", 0.2)
    outcome = watched(start(how), start(DEAF), start("sleep 0.1; exit 1"))
    assert outcome == Outcome([code, -9, 1], [1], False)
    assert outcome.failed


def test_one_that_stays_behind_is_waited_for_and_then_ended(start: Start) -> None:
    assert watched(start("exit 0"), start(SLEEP), patience=0.2) == Outcome([0, -9], [1], False)


def test_what_they_have_started_ends_with_them(start: Start, tmp_path: Path) -> None:
    watched(start(f"sleep 600 & echo $! > {tmp_path}/pid; exit 1"))
    pid = int((tmp_path / "pid").read_text())
    bound = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < bound
        time.sleep(0.01)


def soon(*signals: signal.Signals) -> None:
    """Send them to this process."""

    def send() -> None:
        for one in signals:
            time.sleep(0.3)
            os.kill(os.getpid(), one)

    threading.Thread(target=send, daemon=True).start()


def test_sigterm_has_them_stop_by_themselves(start: Start, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    asked = []

    def stop() -> bool:
        asked.append(1)
        (tmp_path / "stop").touch()
        return True

    soon(signal.SIGTERM)
    waits = f"while [ ! -e {tmp_path}/stop ]; do sleep 0.05; done; exit 143"
    assert watched(start(waits), start(waits), stop=stop) == Outcome([143, 143], [], True)
    assert asked == [1]
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_kills_those_that_can_not(start: Start) -> None:
    soon(signal.SIGTERM)
    assert watched(start(SLEEP), start(DEAF)) == Outcome([-9, -9], [0, 1], True)


def test_who_does_not_stop_in_time_is_killed(start: Start) -> None:
    soon(signal.SIGTERM)
    assert watched(start("sleep 0.5; exit 143"), start(DEAF), patience=1, stop=lambda: True).codes == [143, -9]


def test_a_second_sigterm_kills_at_once(start: Start) -> None:
    soon(signal.SIGTERM, signal.SIGTERM)
    assert watched(start(DEAF), stop=lambda: True) == Outcome([-9], [0], True)


def test_one_of_them_may_ask_all_to_end(start: Start) -> None:
    process = start(SLEEP)
    assert supervise([process], 60, lambda: True, never) == Outcome([-9], [0], True)


def test_an_interrupt_leaves_none(start: Start) -> None:
    processes = [start(SLEEP), start(DEAF)]
    soon(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        supervise(processes, 60, never, never)
    assert [process.returncode for process in processes] == [-9, -9]


def test_it_works_beside_the_main_thread(start: Start) -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(watched(start("exit 1"))))
    thread.start()
    thread.join(30)
    assert outcomes == [Outcome([1], [], False)]
