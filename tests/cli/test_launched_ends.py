"""Two torchruns that are one job, which is ended from outside, or by one of its processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import lit_optim.conf
import pytest
from failing import FAULTS, TWO, fault, is_alive, metrics, of_ranks, state, wait_for
from forked import Forked, Server
from nested import identical

README = (Path(lit_optim.conf.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
LAUNCHED = ("trainer=multi_node", *TWO[2:], "trainer.accelerator=cpu", "hydra.run.dir=cut")
SRUN = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_JOB_ID": "12345",
        "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost", "SLURM_LOCALID": "0"}  # fmt: skip
Job = Callable[..., list[Forked]]


@pytest.fixture(autouse=True)
def faults(tmp_path: Path) -> None:
    (tmp_path / "faults.py").write_text(FAULTS)


@pytest.fixture
def job(forked: Server, tmp_path: Path) -> Iterator[Job]:
    """Starts two processes, as if on two machines, by the README's torchrun or as tasks of srun."""
    started: list[Forked] = []

    def start(by: str, *typed: str) -> list[Forked]:
        with socket.socket() as one:
            one.bind(("localhost", 0))
            port = one.getsockname()[1]
        line = next(line for line in README.splitlines() if line.startswith("torchrun "))
        line = line.replace("--nproc-per-node=4", "--nproc-per-node=1").replace("HOST:29500", f"localhost:{port}")
        agent = ("torch.distributed.run", *line.partition(" train")[0].split()[1:])
        for rank in range(2):
            own = {**SRUN, "SLURM_PROCID": f"{rank}", "SLURM_NODEID": f"{rank}", "MASTER_PORT": f"{port}"}
            command, environment = (agent, {}) if by == "torchrun" else (("lit_optim",), own)
            with (tmp_path / f"printed.{len(started)}").open("w") as stream:
                streams = {"stdout": stream.fileno(), "stderr": stream.fileno()}
                started.append(forked.start("-m", *command, *typed, cwd=tmp_path, **streams, **environment))
        return started[-2:]

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


def goes_on(job: Job, folder: Path, whole: Path) -> None:
    """What was cut short ends as what wasn't."""
    ended = [one.wait(90) for one in job("srun", "resume", "cut", "callbacks.fault=null", "trainer.timeout=600")]
    assert ended == [0, 0], printed(folder)
    assert metrics(folder / "cut")["status"] == "finished"
    assert identical(state(folder / "cut"), state(whole))


@pytest.mark.slow
@pytest.mark.parametrize(("by", "to"), [("torchrun", "one"), ("srun", "one"), ("srun", "both")])
def test_sigterm_stops_all_machines_after_the_same_batch(
    by: str, to: str, job: Job, tmp_path: Path, whole: Path
) -> None:
    both = job(by, "train", *LAUNCHED, *fault("none", pause=0.3))
    wait_for(lambda: any(one.poll() is not None for one in both) or len(of_ranks(tmp_path)) == 2)
    for one in both if to == "both" else both[1:]:
        one.send_signal(signal.SIGTERM)
    codes = [one.wait(60) for one in both]
    assert codes == ([143, 143] if by == "srun" else [1, 1]), printed(tmp_path)
    assert printed(tmp_path).count("lit-optim: terminated") == 1
    assert not any(map(is_alive, of_ranks(tmp_path)))
    assert metrics(tmp_path / "cut")["status"] == "crashed"
    batches = state(tmp_path / "cut")["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert 0 < batches["current"]["completed"] < 8  # in the middle of an epoch
    goes_on(job, tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "moment"), [("torchrun", "on_test_batch_start"), ("srun", "setup"), ("srun", "on_test_batch_start")]
)
def test_sigterm_outside_of_training_ends_all_machines_and_is_told(
    by: str, moment: str, job: Job, tmp_path: Path
) -> None:
    both = job(by, "train", *LAUNCHED, "test=true", *fault("none", pause=2, moment=moment))
    wait_for(lambda: any(one.poll() is not None for one in both) or len(of_ranks(tmp_path)) == 2)
    both[1].send_signal(signal.SIGTERM)
    codes = [one.wait(25) for one in both]  # before torchrun kills, after 30 seconds
    assert codes == ([1, 143] if by == "srun" else [1, 1]), printed(tmp_path)
    assert not any(map(is_alive, of_ranks(tmp_path)))
    if by == "torchrun":  # of which each agent may signal its own process before that hears of the other
        return
    assert "rank 1 of 2: it failed, and the others with it: it was told to end (SIGTERM)" in printed(tmp_path)
    if moment != "setup":
        assert "it was told to end (SIGTERM)" in metrics(tmp_path / "cut")["error"]


@pytest.mark.slow
def test_workers_of_a_loader_outlive_what_torchrun_sends_to_all_processes(job: Job, tmp_path: Path) -> None:
    data = ("data=own", "data._target_=faults.Workers", "data.batch_size=64")
    both = job("torchrun", "train", *(one for one in LAUNCHED if not one.startswith("data")), *data,
               *fault("none", pause=0.3))  # fmt: skip
    wait_for(lambda: any(one.poll() is not None for one in both) or len(of_ranks(tmp_path)) == 2)
    both[1].send_signal(signal.SIGTERM)
    assert [one.wait(60) for one in both] == [1, 1], printed(tmp_path)
    assert printed(tmp_path).count("lit-optim: terminated") == 1
    assert "DataLoader worker" not in printed(tmp_path)
    batches = state(tmp_path / "cut")["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert 0 < batches["current"]["completed"] < 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "how", "rank", "codes", "said"),
    [
        ("torchrun", "raises", 1, [1, 1], "rank 1 of 2: it failed, and the others with it: ValueError: a rank's own"),
        ("srun", "raises", 0, [1, 1], "ValueError: a rank's own"),
        ("srun", "exits", 1, [1, 1], "rank 1 of 2: it failed, and the others with it: SystemExit: 0"),
        ("srun", "hangs", 1, [1, 1], "trainer.timeout: rank 0 of 2 waited for another in vain"),
        ("srun", "SIGKILL", 1, [1, -9], "trainer: rank 0 of 2 lost another, which has ended without a word"),
        ("srun", "SIGKILL", 0, [-9, 1], "trainer: rank 1 of 2 lost another, which has ended without a word"),
    ],
)
def test_a_process_that_fails_ends_all_machines(
    by: str, how: str, rank: int, codes: list[int], said: str, job: Job, tmp_path: Path, whole: Path
) -> None:
    both = job(by, "train", *LAUNCHED, *fault(how, rank=rank), "trainer.timeout=3")
    assert [one.wait(60) for one in both] == codes, printed(tmp_path)
    print(printed(tmp_path), metrics(tmp_path / "cut"))
    assert printed(tmp_path).count(said) == 1, printed(tmp_path)
    assert not any(map(is_alive, of_ranks(tmp_path)))
    goes_on(job, tmp_path, whole)
