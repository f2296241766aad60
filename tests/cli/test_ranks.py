"""Two gloo ranks: in sweeps, with plans that differ, and when one of them fails."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from failing import FAULTS, TWO, fault, is_alive, metrics, of_ranks, state, wait_for
from forked import Forked, Server
from nested import identical
from omegaconf import OmegaConf

from lit_optim.cli import ranks
from lit_optim.cli.rank_folder import Report
from lit_optim.cli.ranks import Ranks, failure
from lit_optim.cli.supervision import Outcome
from lit_optim.errors import PlanError

SHARDED = ("train", "trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", *TWO[2:])


@pytest.fixture(autouse=True)
def faults(tmp_path: Path) -> None:
    (tmp_path / "faults.py").write_text(FAULTS)


@pytest.fixture(scope="module")
def wholes(forked: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], Path]:
    """What two ranks come to that nothing befalls."""

    @cache
    def trained(two: Sequence[str]) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        forked.run("-m", "lit_optim", *two, "hydra.run.dir=run", cwd=folder).check_returncode()
        return folder / "run"

    return trained


@pytest.fixture
def whole(wholes: Callable[[Sequence[str]], Path]) -> Path:
    """What two ranks of DDP come to."""
    return wholes(TWO)


# --- sweeps ----------------------------------------------------------------------------------------------------------


def sweep_of(folder: Path) -> Path:
    [sweep] = (folder / "runs" / "default").iterdir()
    return sweep


@pytest.mark.slow
def test_a_grid_starts_the_ranks_of_each_job_with_its_own_settings(process: Any, tmp_path: Path, whole: Path) -> None:
    ended = process(*TWO, "-m", "seed=42,7", 'name="a name"', *fault("none"))
    assert ended.code == 0, ended.err
    [sweep] = (tmp_path / "runs" / "a name").iterdir()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a name"]
    runs = [sweep / "0", sweep / "1"]
    assert [OmegaConf.load(run / ".hydra" / "config.yaml").seed for run in runs] == [42, 7]
    assert [metrics(run)["status"] for run in runs] == ["finished"] * 2
    assert [len(list(run.glob("events.out.tfevents.*"))) for run in runs] == [1, 1]
    assert identical(state(runs[0]), state(whole))  # as by itself
    assert not identical(state(runs[1])["state_dict"], state(whole)["state_dict"])
    assert len(of_ranks(tmp_path)) == 4
    assert not any(map(is_alive, of_ranks(tmp_path)))


@pytest.mark.slow
def test_a_search_gives_every_rank_the_same_trial(process: Any, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    ended = process(
        *TWO, "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.direction=maximize", "optimizer.lr=interval(0.001, 0.2)",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    sweep = sweep_of(tmp_path)
    runs = [sweep / name for name in "012"]
    assert [metrics(run)["status"] for run in runs] == ["finished"] * 3
    rates = [OmegaConf.load(run / ".hydra" / "config.yaml").optimizer.lr for run in runs]
    planned = [json.loads((run / "plan.json").read_text())["groups"][0]["hyperparameters"]["lr"] for run in runs]
    assert rates == planned
    assert len({*rates}) == 3
    best = OmegaConf.load(sweep / "optimization_results.yaml")
    assert best.best_value == max(metrics(run)["final"]["val/acc"] for run in runs)


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_its_job_and_the_sweep_goes_on(process: Any, tmp_path: Path, whole: Path) -> None:
    ended = process(*TWO, "-m", "seed=7,42", *fault("SIGKILL", only="/0/"))
    assert ended.code == 1
    assert ended.err.count("rank 1 of 2: it was ended by SIGKILL") == 2  # then, and at the end of the sweep
    runs = [sweep_of(tmp_path) / name for name in "01"]
    assert [metrics(run)["status"] for run in runs] == ["crashed", "finished"]
    assert identical(state(runs[1]), state(whole))
    assert not any(map(is_alive, of_ranks(tmp_path)))


TALKING = """
import os, signal, sys
from lightning.pytorch import Callback

class Talks(Callback):
    def on_train_batch_start(self, trainer, module, batch, number):
        job, rank = trainer.checkpoint_callback.dirpath.split("/")[-2], trainer.global_rank
        for stream in (sys.stdout, sys.stderr):
            for word in ("begin", job, str(rank), str(trainer.global_step), "x" * 5000):
                stream.write(word + " ")
                stream.flush()
            stream.write("end\\n")
        os.write(2, b"from below\\n")
        if (job, rank, number) == ("1", 1, 3):
            sys.stdout.write("the last")
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_side_by_side_each_line_of_a_rank_has_the_mark_of_its_job(process: Any, tmp_path: Path) -> None:
    (tmp_path / "talking.py").write_text(TALKING)
    ended = process(
        *TWO, "-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_epochs=1",
        "+callbacks.talks._target_=talking.Talks", timeout=300,  # six processes with imports of their own
    )  # fmt: skip
    assert ended.code == 1
    runs = [sweep_of(tmp_path) / name for name in "01"]
    assert [metrics(run)["status"] for run in runs] == ["finished", "crashed"]
    for text in (ended.out, ended.err):
        said = [line for line in text.splitlines() if "begin" in line]
        assert {tuple(line.split()[:5]) for line in said} >= {
            (job, "│", "begin", job, rank) for job in "01" for rank in "01"
        }
        for line in said:
            words = line.split()
            assert (words[3], words[7:]) == (words[0], ["end"])
        steps = [line.split()[5] for line in said if line.split()[3:5] == ["0", "0"]]
        assert steps == [str(step) for step in range(8)]
    assert {line for line in ended.err.splitlines() if "from below" in line} == {"0 │ from below", "1 │ from below"}
    assert "1 │ the last\n" in ended.out
    assert "1 │ lit-optim: RunError\n1 │ rank 1 of 2: it was ended by SIGKILL" in ended.err
    assert "0 │ result  " in ended.out


@pytest.mark.slow
def test_processes_that_something_else_starts_may_not_sweep(process: Any, tmp_path: Path) -> None:
    ended = process(*TWO, "-m", "seed=1,2", LOCAL_RANK="0", WORLD_SIZE="2", MASTER_PORT="1")
    assert ended.code == 1
    assert "would run the whole sweep" in ended.err
    assert not list(tmp_path.glob("runs/*/*/*/metrics.json"))


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn"])
def test_processes_that_bring_nothing_back_are_refused(strategy: str, lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_(*TWO, f"trainer.strategy={strategy}")
    assert ended.code == 1
    assert "does not come back to the run's folder" in ended.err
    assert "trainer.strategy=ddp" in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"faults.py"}


# --- one plan --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("OtherData", "from rank 0 to rank 1: horizon: global_batch 128 → 64"),
        ("OtherSeed", "rank 0: 42, rank 1: 7"),
        ("NoData", "data: faults.NoData refused its arguments: TypeError"),
    ],
)
def test_ranks_that_differ_are_stopped(data: str, said: str, process: Any, tmp_path: Path) -> None:
    ended = process(*TWO, f"data._target_=faults.{data}", "trainer.limit_train_batches=null")
    assert ended.code == 1
    assert ended.err.count(said) == 1
    assert ended.err.count("lit-optim: ") == 1
    assert "Traceback" not in ended.err
    assert {path.name for path in tmp_path.iterdir()} <= {"faults.py", "__pycache__"}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("{mode: nonsense}", "trainer.compile: torch.compile refuses this: Unrecognized mode=nonsense"),
        ("{backend: nope}", "trainer.compile: torch.compile refuses this: Invalid backend: 'nope'"),
        ("{mod: default}", "trainer.compile.mod: torch.compile has no such argument here"),
        ("maybe", "trainer.compile: true, false or a mapping is needed"),
    ],
)
def test_what_no_rank_could_compile_is_refused_before_there_is_one(
    how: str, told: str, lit_optim_: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ranks, "Popen", None)
    ended = lit_optim_(*TWO, f"trainer.compile={how}")
    assert ended.code == 1
    assert ended.err.count(told) == ended.err.count("lit-optim: ") == 1
    assert "Traceback" not in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"faults.py"}


# --- failures --------------------------------------------------------------------------------------------------------


KILLED = "rank 1 of 2: it was ended by SIGKILL"
HUNG = "rank 1 of 2 hung: rank 0 waited 2 seconds"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("two", "how", "rank", "said"),
    [
        (TWO, "SIGKILL", 0, "rank 0 of 2: it was ended by SIGKILL"),
        (TWO, "SIGKILL", 1, KILLED),
        (TWO, "raises", 1, "rank 1 of 2: it failed, and the others with it: ValueError: a rank's own"),
        (TWO, "exits", 1, "rank 1 of 2: it failed, and the others with it: SystemExit: 0"),
        (TWO, "hangs", 1, HUNG),
        ((*SHARDED, "model.dropout=0.1"), "SIGKILL", 1, KILLED),
        (SHARDED, "hangs", 1, HUNG),
    ],
    ids=["first killed", "killed", "raises", "exits", "hangs", "fsdp and killed", "fsdp and hangs"],
)
def test_a_rank_that_fails_ends_the_run_which_can_be_resumed(
    two: Sequence[str], how: str, rank: int, said: str, process: Any, tmp_path: Path, wholes: Any
) -> None:
    ended = process(*two, *fault(how, rank=rank), "trainer.timeout=2", "hydra.run.dir=cut")
    assert ended.code == 1
    assert ended.err.count(said) == 1
    assert ended.err.count("lit-optim: RunError") == 1
    assert "; then lit-optim resume cut goes on from its last checkpoint\n" in ended.err
    assert metrics(tmp_path / "cut")["status"] == "crashed"
    assert said in metrics(tmp_path / "cut")["error"]
    assert not any(map(is_alive, of_ranks(tmp_path)))
    assert torch.load(tmp_path / "cut" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    ended = process("resume", "cut", "callbacks.fault=null", "trainer.timeout=600")
    assert ended.code == 0, ended.err
    assert identical(state(tmp_path / "cut"), state(wholes(two)))
    assert metrics(tmp_path / "cut")["status"] == "finished"
    assert "error" not in metrics(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("two", [TWO, SHARDED], ids=["ddp", "fsdp"])
def test_a_rank_that_fails_goes_on_in_one_process(
    two: Sequence[str], process: Any, tmp_path: Path, wholes: Any
) -> None:
    assert process(*two, *fault("SIGKILL"), "hydra.run.dir=cut").code == 1
    ended = process(
        "resume",
        "cut",
        "callbacks.fault=null",
        "trainer=cpu",
        "trainer.devices=1",
        "data.batch_size=128",
        "trainer.max_epochs=3",
    )
    assert ended.code == 0, ended.err
    ours, theirs = state(tmp_path / "cut"), state(wholes(two))
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    for name, tensor in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)


def started(forked: Server, folder: Path, *more: str, two: Sequence[str] = TWO) -> Forked:
    """A run of two ranks that train, slowly."""
    with (folder / "printed").open("w") as stream:
        run = forked.start("-m", "lit_optim", *two, *fault("none", pause=0.05), *more, "hydra.run.dir=cut",
                           cwd=folder, stdout=stream.fileno(), stderr=stream.fileno())  # fmt: skip
    wait_for(lambda: run.poll() is not None or len(of_ranks(folder)) == 2)
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("two", "to"),
    [(TWO, "parent"), (TWO, "rank"), ((*TWO, "trainer.accumulate_grad_batches=2"), "rank"), (SHARDED, "parent")],
    ids=["parent", "rank", "rank 1 of two that accumulate", "parent of two that share parameters out"],
)
def test_sigterm_stops_all_ranks_after_the_same_batch(
    two: Sequence[str], to: str, forked: Server, process: Any, tmp_path: Path, wholes: Any
) -> None:
    run = started(forked, tmp_path, two=two)
    os.kill(run.pid if to == "parent" else max(of_ranks(tmp_path)), signal.SIGTERM)
    assert run.wait(60) == 143
    step = torch.load(tmp_path / "cut" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    told = f"lit-optim: terminated\nlit-optim resume cut goes on from step {step}\n"
    assert (tmp_path / "printed").read_text().count(told) == 1
    assert not any(map(is_alive, of_ranks(tmp_path)))
    assert metrics(tmp_path / "cut")["status"] == "crashed"
    batches = state(tmp_path / "cut")["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert 0 < batches["current"]["completed"] < 8  # in the middle of an epoch
    ended = process("resume", "cut", "callbacks.fault=null")
    assert ended.code == 0, ended.err
    assert identical(state(tmp_path / "cut"), state(wholes(two)))


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_no_rank_outlives_its_parent(sent: int, code: int, forked: Server, tmp_path: Path) -> None:
    run = started(forked, tmp_path, "trainer.max_epochs=2000")
    run.send_signal(sent)
    assert run.wait(60) == code
    wait_for(lambda: not any(map(is_alive, of_ranks(tmp_path))))


@pytest.mark.slow
def test_a_signal_before_anything_trains_ends_all_at_once(forked: Server, tmp_path: Path) -> None:
    with (tmp_path / "printed").open("w") as stream:
        run = forked.start("-m", "lit_optim", *TWO, "data._target_=faults.Slow", "hydra.run.dir=cut",
                           cwd=tmp_path, stdout=stream.fileno(), stderr=stream.fileno())  # fmt: skip
    wait_for(lambda: run.poll() is not None or len(of_ranks(tmp_path)) == 2)
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 143
    assert not any(map(is_alive, of_ranks(tmp_path)))
    assert not (tmp_path / "cut").exists()


@pytest.mark.slow
def test_a_users_classes_are_found_wherever_the_run_is(process: Any, tmp_path: Path) -> None:
    ended = process(*TWO, *fault("raises", at=1), "hydra.job.chdir=true", "hydra.run.dir=there")
    assert ended.code == 1
    assert "ValueError: a rank's own" in ended.err
    assert len(of_ranks(tmp_path / "there")) == 2


# --- what is told ----------------------------------------------------------------------------------------------------

LATE = Report(2.0, None, "Traceback\nRuntimeError: Timed out waiting 2000ms for recv operation to complete\n")
LOST = Report(3.0, None, "Traceback\nRuntimeError: Connection closed by peer\n")
REFUSED = Report(1.0, PlanError(), "Traceback\nPlanError\n")


@pytest.mark.parametrize(
    ("codes", "killed", "reports", "said"),
    [
        ([1, -9], [], {0: LOST}, "rank 1 of 2: it was ended by SIGKILL"),
        ([1, -11], [], {}, "rank 1 of 2: it was ended by SIGSEGV"),
        ([0, 143], [], {}, "rank 1 of 2: it was ended by SIGTERM"),
        ([1, -9], [1], {0: LATE}, "rank 1 of 2 hung: rank 0 waited 2 seconds"),
        ([-6, -9], [1], {}, "rank 1 of 2 hung: the others waited 2 seconds"),
        ([-6, 1], [], {1: LOST}, "rank 1 of 2: it failed, and the others with it: RuntimeError: Connection closed"),
        ([1, 1], [], {1: REFUSED, 0: LOST}, ""),
        ([0, 7], [], {}, "rank 1 of 2: it ended with 7 and without a word"),
        ([1, 3], [], {0: LOST}, "rank 1 of 2: it ended with 3 and without a word"),
        ([-6, 0], [], {}, "rank 0 of 2: it was ended by SIGABRT"),
        ([0, -9], [1], {}, "rank 1 of 2 hung: the others waited 2 seconds"),
    ],
)
def test_the_cause_is_told_and_not_what_follows_from_it(
    codes: list[int], killed: list[int], reports: dict[int, Report], said: str
) -> None:
    error = failure(Outcome(codes, killed, False), reports, 2.0)
    assert str(error).partition("trainer.timeout: ")[2].startswith(said) or str(error).startswith(said)
    assert isinstance(error, PlanError) == (said == "")


def test_the_way_on_names_the_folder(tmp_path: Path) -> None:
    outcome = Outcome([1, -9], [], False)
    for begun, remedy in (
        (None, "mend the cause"),
        (tmp_path / "my run", "mend the cause; then lit-optim resume 'my run' goes on from its last checkpoint"),
    ):
        assert failure(outcome, {}, 2.0, begun).mistakes[0].remedy == remedy


def test_one_task_of_slurm_fills_its_devices_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job of submitit does, which is one task whatever it trains on."""
    monkeypatch.setenv("SLURM_JOB_NAME", "sweep")
    for name in ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "1")
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    with hydra.initialize_config_module("lit_optim.conf", version_base="1.3"):
        config = hydra.compose("config", overrides=["trainer=ddp_cpu", "trainer.devices=2"])
    ranks = Ranks.of(config)
    assert ranks is not None
    assert ranks.count == 2
