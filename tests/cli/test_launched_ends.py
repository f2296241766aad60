"""Two torchruns that are one job, which is ended from outside, or by one of its processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lit_optim.conf
import pytest
import torch
from failing import FAULTS, TWO, fault, is_alive, metrics, of_ranks, state, wait_for
from forked import Forked, Server
from nested import identical

README = (Path(lit_optim.conf.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
LAUNCHED = (*TWO[2:], "trainer.accelerator=cpu")
Start = Callable[..., list[Forked]]


@pytest.fixture(autouse=True)
def faults(tmp_path: Path) -> None:
    (tmp_path / "faults.py").write_text(FAULTS)


@pytest.fixture
def agents(forked: Server, tmp_path: Path) -> Iterator[Start]:
    """Starts the README's torchrun twice, with one process each; what they print is in files."""
    started: list[Forked] = []

    def start(*typed: str) -> list[Forked]:
        with socket.socket() as one:
            one.bind(("localhost", 0))
            port = one.getsockname()[1]
        line = next(line for line in README.splitlines() if line.startswith("torchrun "))
        line = line.replace("--nproc-per-node=4", "--nproc-per-node=1").replace("HOST:29500", f"localhost:{port}")
        words = line.split()[1:]
        command = ("-m", "torch.distributed.run", *words[: words.index("train")], *typed)
        both = []
        for number in range(2):
            with (tmp_path / f"printed.{number}").open("w") as stream:
                both.append(forked.start(*command, cwd=tmp_path, stdout=stream.fileno(), stderr=stream.fileno()))
        started.extend(both)
        return both

    yield start
    for one in started:
        one.send_signal(signal.SIGKILL)
        one.wait()
    for pid in filter(is_alive, of_ranks(tmp_path)):
        os.kill(pid, signal.SIGKILL)


def printed(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("printed.*")))


@pytest.fixture(scope="module")
def whole(forked: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks come to that nothing befalls."""
    folder = tmp_path_factory.mktemp("whole")
    forked.run("-m", "lit_optim", *TWO, "hydra.run.dir=run", cwd=folder).check_returncode()
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("to", ["one agent", "both agents", "one process"])
def test_sigterm_stops_all_machines_after_the_same_batch(to: str, agents: Start, tmp_path: Path, whole: Path) -> None:
    both = agents("train", "trainer=multi_node", *LAUNCHED, *fault("none", pause=0.3), "hydra.run.dir=cut")
    wait_for(lambda: any(one.poll() is not None for one in both) or len(of_ranks(tmp_path)) == 2)
    told = {"one agent": [both[1].pid], "both agents": [one.pid for one in both], "one process": of_ranks(tmp_path)[:1]}
    for pid in told[to]:
        os.kill(pid, signal.SIGTERM)
    codes = [one.wait(60) for one in both]
    assert 0 not in codes, printed(tmp_path)
    assert printed(tmp_path).count("lit-optim: terminated") == 1, printed(tmp_path)
    wait_for(lambda: not any(map(is_alive, of_ranks(tmp_path))))
    assert metrics(tmp_path / "cut")["status"] == "crashed"
    batches = state(tmp_path / "cut")["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert 0 < batches["current"]["completed"] < 8  # in the middle of an epoch
    both = agents("resume", "cut", "callbacks.fault=null")
    assert [one.wait(60) for one in both] == [0, 0], printed(tmp_path)
    assert identical(state(tmp_path / "cut"), state(whole))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_ends_all_machines(rank: int, agents: Start, tmp_path: Path) -> None:
    both = agents("train", "trainer=multi_node", *LAUNCHED, *fault("raises", rank=rank), "trainer.timeout=5", "hydra.run.dir=cut")
    assert 0 not in [one.wait(60) for one in both], printed(tmp_path)
    print(printed(tmp_path), metrics(tmp_path / "cut"))
    raise 1
