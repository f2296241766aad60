"""Processes that something else has started: they agree before they train, and train as one run."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import lit_optim.conf
import pytest
import torch
from forked import Server
from omegaconf import OmegaConf

import lit_optim as lo
from lit_optim.cli import launched
from lit_optim.cli.launched import Launched, no_folder_elsewhere
from lit_optim.errors import Mistake

README = (Path(lit_optim.conf.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
    "LOCAL_RANK": "0",
}
SRUN = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "12345",
    "SLURM_JOB_NAME": "train",
    "SLURM_NODELIST": "node[7-8]",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize(
    ("environment", "makes_one"),
    [({}, True), ({**SRUN, "SLURM_PROCID": "0"}, True), ({**SRUN, "SLURM_PROCID": "1"}, False)],
)
def test_only_rank_zero_makes_a_folder(
    environment: dict[str, str], makes_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert no_folder_elsewhere() == (() if makes_one else ("hydra.run.dir=.",))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({**TORCHRUN, "RANK": "3"}, Launched(3, 4, ("first", 29500))),
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}, None),
        ({**SRUN, "SLURM_PROCID": "1", "SLURM_NODEID": "1"}, Launched(1, 2, ("node7", 17345))),
        ({**SRUN, "SLURM_PROCID": "0", "SLURM_JOB_NAME": "interactive"}, None),
    ],
)
def test_who_has_started_it_is_told_from_the_environment(
    environment: dict[str, str], expected: Launched | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Launched.here() == expected


def test_machines_that_nobody_tells_apart_are_refused(
    lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = ("train", "data=digits", "trainer=ddp_cpu", "trainer.num_nodes=2")
    ended = lit_optim_(*two)
    assert ended.code == 1
    assert "trainer.num_nodes: nothing says which of 2 machines this is" in ended.err
    monkeypatch.setenv("NODE_RANK", "0")
    ended = lit_optim_(*two)
    assert ended.code == 1
    assert "hydra.run.dir: each machine would make a folder of its own" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_what_has_started_it_says_how_many_there_are(lit_optim_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({}, {"SLURM_NNODES": "4", "SLURM_NTASKS_PER_NODE": "8"}, {"GROUP_WORLD_SIZE": "3"}):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        composed = OmegaConf.create(lit_optim_("train", "--cfg", "job", "--resolve", "trainer=multi_node").out).trainer
        told = {(): (2, -1), ("SLURM_NNODES", "SLURM_NTASKS_PER_NODE"): (4, 8), ("GROUP_WORLD_SIZE",): (3, 8)}
        assert (composed.num_nodes, composed.devices) == told[tuple(environment)]
    ended = lit_optim_("plan", "data=digits", "trainer=ddp_cpu", "trainer.num_nodes=2", "data.batch_size=16")
    assert " 64 samples a step; " in ended.out  # two machines of two devices each


Met = Callable[..., list[Any]]


@pytest.fixture
def meet(free_port: int, monkeypatch: pytest.MonkeyPatch) -> Met:
    """What each of several processes comes to; here they are threads."""
    monkeypatch.setattr(launched, "_PATIENCE", timedelta(seconds=20))
    monkeypatch.setattr(launched, "_tell_hydra", lambda folder: None)

    def outcome(one: Launched, said: Path | BaseException) -> Any:
        try:
            return one.agree(said) if isinstance(said, Path) else one.fail(said)
        except lo.RunError as error:
            return error

    def outcomes(*said: Path | BaseException) -> list[Any]:
        processes = [Launched(rank, len(said), ("localhost", free_port)) for rank in range(len(said))]
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(outcome, processes, said))

    return outcomes


def test_all_take_rank_zeros_folder(meet: Met) -> None:
    assert meet(Path("a"), Path("b"), Path("c")) == [Path("a")] * 3


def test_a_refusal_of_one_is_told_by_the_first_and_ends_all(meet: Met) -> None:
    mistake = Mistake("data.root", "no such folder", "/data", ("/scratch",), remedy="correct it")
    error = lo.DataError(mistake)
    first, refused, last = meet(Path("a"), error, Path("c"))
    assert refused is error
    assert first.mistakes == last.mistakes == (Mistake("trainer", "rank 1 is refused, and so the others are"), mistake)


def test_a_refusal_of_the_first_is_heard_by_the_others(meet: Met) -> None:
    error = ValueError("a bug")
    refused, other = meet(error, Path("b"))
    assert refused is error
    assert other.mistakes == (Mistake("train", "ValueError: a bug"),)


def test_the_first_waits_for_nobody_to_refuse(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "_FAREWELL", 0.0)
    Launched(0, 2, ("localhost", free_port)).fail(lo.ConfigError(Mistake("trainer", "no")))


def test_who_has_met_or_is_interrupted_looks_for_nobody() -> None:
    one = Launched(1, 2, ("nowhere.invalid", 1))
    one.fail(KeyboardInterrupt())
    one.has_met = True
    one.fail(lo.ConfigError(Mistake("trainer", "no")))


def test_a_process_that_nobody_meets_says_so_itself(
    free_port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launched, "_PATIENCE", timedelta(seconds=0.2))
    with pytest.raises(lo.RunError, match="did not come together"):
        Launched(1, 2, ("localhost", free_port)).agree(Path("b"))
    told = capfd.readouterr().err
    assert "lit-optim: trainer: the processes of this run did not come together: " in told
    assert f"    given:   rank 1 of 2, at localhost:{free_port}\n" in told


def test_another_number_of_processes_is_refused() -> None:
    trainer: Any = SimpleNamespace(world_size=1, num_devices=1)
    with pytest.raises(lo.ConfigError, match=r"^trainer\.devices: 4 processes have been started, .* is for 1"):
        Launched(0, 4, ("first", 1)).check_fits(trainer)
    Launched(0, 1, ("first", 1)).check_fits(trainer)


TINY = ("data=digits", "model.hidden_dims=[8]", "trainer.max_epochs=1", "trainer.limit_train_batches=6")
ON_CPU = ("trainer.accelerator=cpu", "data.batch_size=32")
Both = Callable[..., list[CompletedProcess[str]]]


@pytest.fixture
def agents(forked: Server, tmp_path: Path, free_port: int) -> Iterator[Both]:
    """The README's torchrun on two machines, with one process each."""
    line = next(line for line in README.splitlines() if line.startswith("torchrun "))
    here = line.replace("--nproc-per-node=4", "--nproc-per-node=1").replace("HOST:29500", f"localhost:{free_port}")
    agent = ("-m", "torch.distributed.run", *here.split()[1:])
    with ThreadPoolExecutor(2) as pool:
        yield lambda *typed: list(pool.map(lambda _: forked.run(*agent, *typed, cwd=tmp_path), range(2)))


@pytest.fixture
def tasks(forked: Server, tmp_path: Path, free_port: int) -> Iterator[Both]:
    """Two tasks of srun, as if on two machines; each may be told something that the other isn't."""

    def task(rank: int, typed: tuple[str, ...]) -> CompletedProcess[str]:
        own = {**SRUN, "SLURM_PROCID": f"{rank}", "SLURM_NODEID": f"{rank}", "SLURM_NODELIST": "localhost"}
        return forked.run("-m", "lit_optim", *typed, cwd=tmp_path, **own, MASTER_PORT=f"{free_port}")

    with ThreadPoolExecutor(2) as pool:
        yield lambda *typed: list(pool.map(task, range(2), typed if isinstance(typed[0], tuple) else [typed] * 2))


def check_as_alone(ended: list[CompletedProcess[str]], lit_optim_: Any, folder: Path) -> Path:
    """One run of two processes, told once, ends with the weights of a single one."""
    assert [one.returncode for one in ended] == [0, 0], "".join(one.stderr for one in ended)
    assert sorted(one.stdout.count("dashboard  tensorboard --logdir runs") for one in ended) == [0, 1]
    assert sorted(one.stdout.count(" 64 samples a step; ") for one in ended) == [0, 1]
    [run] = (folder / "runs" / "default").iterdir()
    assert json.loads((run / "metrics.json").read_text())["status"] == "finished"
    assert lit_optim_("train", *TINY, "data.batch_size=64", "hydra.run.dir=alone").code == 0
    ours, theirs = (
        torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for one in (run, folder / "alone")
    )
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)
    return run


@pytest.mark.slow
def test_two_torchruns_are_one_job(agents: Both, lit_optim_: Any, tmp_path: Path) -> None:
    check_as_alone(agents(*TINY, *ON_CPU), lit_optim_, tmp_path)


@pytest.mark.slow
def test_two_tasks_of_srun_share_parameters_out_and_go_on(tasks: Both, lit_optim_: Any, tmp_path: Path) -> None:
    fsdp = ("trainer=fsdp", "trainer.num_nodes=2", "trainer.devices=1")
    run = check_as_alone(tasks("train", *TINY, *ON_CPU, *fsdp), lit_optim_, tmp_path)
    ended = tasks("resume", str(run), "trainer.max_epochs=2")
    assert [one.returncode for one in ended] == [0, 0], "".join(one.stderr for one in ended)
    assert json.loads((run / "metrics.json").read_text())["steps"] == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "runs"]


def test_the_script_for_slurm_trains_and_goes_on_where_it_was_requeued(tmp_path: Path) -> None:
    script = README[README.index("#!/bin/bash\n") :].partition("```")[0]
    assert "--nodes=2 --ntasks-per-node=4 " in script  # as Lightning wants it, and not --ntasks
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/bin:/usr/bin", "SLURM_JOB_ID": "7"}

    def run() -> str:
        return subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, check=True, text=True,
                              capture_output=True).stdout  # fmt: skip

    assert run() == "--kill-on-bad-exit lit-optim train trainer=multi_node hydra.run.dir=runs/slurm/7\n"
    (tmp_path / "runs" / "slurm" / "7" / ".hydra").mkdir(parents=True)
    assert run() == "--kill-on-bad-exit lit-optim resume runs/slurm/7\n"


@pytest.mark.slow
def test_a_refusal_on_one_machine_is_told_once_and_leaves_nothing(tasks: Both, tmp_path: Path) -> None:
    right = ("train", *TINY, *ON_CPU, "trainer=multi_node")
    first, other = tasks(right, (*right, "optimizer.wieght_decay=0", "data.seed=-1"))
    assert [first.returncode, other.returncode] == [1, 1]
    assert first.stderr.count("trainer: rank 1 is refused, and so the others are") == 1
    assert "data.seed" in first.stderr
    assert other.stderr == ""
    assert list(tmp_path.iterdir()) == []
