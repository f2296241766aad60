"""Runs of several processes: each rank is started with the very config of this job, watched, and ended with it."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lit_optim.cli.last_words import is_late
from lit_optim.cli.prefixed import Relay
from lit_optim.cli.rank_folder import Assignment, RankFolder, Report
from lit_optim.cli.rank_zero import is_rank_zero
from lit_optim.cli.reporting import shown
from lit_optim.cli.supervision import TERMINATED, Outcome, supervise
from lit_optim.errors import ConfigError, LitOptimError, Mistake, RunError
from lit_optim.integration.terminated import Terminated

if TYPE_CHECKING:
    from lightning.fabric.plugins import ClusterEnvironment
    from lightning.pytorch import Trainer

    from lit_optim.integration.run_folder import RunFolder

__all__ = ["Ranks"]

_FOREVER = 1800.0  # seconds, as Lightning has it where the config says nothing


class Ranks:
    """The processes that a Trainer wants beside each other on this machine.

    They are started by this process, which is none of them: Lightning's own way, in which the first starts the others
    by the command line that it was started with, would have each run a whole sweep, and a rank that dies end it.

    Args:
        trainer: Not yet used.
        environment: Where they meet.
        patience: Seconds that they wait for each other.
    """

    def __init__(self, trainer: Trainer, environment: ClusterEnvironment, patience: float) -> None:
        self.count = trainer.num_devices
        self.patience = patience
        self._environment = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "WORLD_SIZE": str(self.count * trainer.num_nodes),
        }

    @classmethod
    def of(cls, config: DictConfig) -> Ranks | None:
        """Those of a config; None for a run in this process, or one whose processes something else starts.

        Raises:
            ConfigError: A sweep that something else has started several times, processes that are forked, or what all
                of them would refuse of ``trainer.compile``.
        """
        from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher

        from lit_optim.cli.assemble import check_compile, timeout_of, trainer_of

        if os.environ.get("SLURM_NTASKS") == "1" and OmegaConf.select(config, "trainer.devices") != 1:
            # one task, as submitit asks for, which is to fill its devices itself: Lightning's word for that
            os.environ["SLURM_JOB_NAME"] = "interactive"
        trainer = trainer_of(config, [], [])
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _MultiProcessingLauncher):
            given = str(OmegaConf.select(config, "trainer.strategy"))
            problem = "what its processes have measured does not come back to the run's folder"
            remedy = "trainer.strategy=ddp starts them from here, for a single run and for a sweep"
            raise ConfigError(Mistake("trainer.strategy", problem, given, remedy=remedy))
        if not isinstance(launcher, _SubprocessScriptLauncher):
            return None
        if not launcher.cluster_environment.creates_processes_externally:
            check_compile(config)  # or each rank would refuse it, seconds later
            timeout = timeout_of(config)
            patience = _FOREVER if timeout is None else timeout.total_seconds()
            return cls(trainer, launcher.cluster_environment, patience)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            name = type(launcher.cluster_environment).__name__
            problem = f"every process that was started from outside ({name}) would run the whole sweep"
            remedy = "start one process, which starts those of each job itself; or start the jobs one by one"
            raise ConfigError(Mistake("--multirun", problem, remedy=remedy))
        return None

    def train(self, config: DictConfig, folder: RunFolder, overrides: Sequence[str] | None) -> dict[str, float]:
        """Train; returns the run's last metrics.

        Args:
            config: Of the job.
            folder: The run's, checked and not held.
            overrides: What made the config; Hydra's own if not given.

        Raises:
            LitOptimError: A refusal of any rank, or what ended one of them.
            Terminated: This process was told to end.
        """
        settings = _plain(HydraConfig.instance().cfg, resolve=False)
        assignment = Assignment(_plain(config, resolve=True), settings, folder.goes_on, overrides)
        before = folder.read_metrics()
        with TemporaryDirectory(prefix="lit-optim-") as path:
            shared = RankFolder(Path(path))
            lockstep = shared.open(assignment, self.count)
            sys.stdout.flush()
            sys.stderr.flush()
            processes: list[Popen[bytes]] = []
            relay = Relay()
            try:
                command = [sys.executable, "-m", "lit_optim.cli.rank", path]
                for rank in range(self.count):
                    own = {**os.environ, **self._environment, "LOCAL_RANK": str(rank)}
                    with relay.streams() as streams:
                        own |= {"PYTHONUNBUFFERED": "1"} if streams else {}  # or lines would come late, and be lost
                        processes.append(Popen(command, env=own, stdin=DEVNULL, process_group=0, **streams))
                outcome = supervise(processes, self.patience, lambda: lockstep.asked, lockstep.settle)
            finally:
                shared.close()
                folder.writers |= {one.pid for one in processes}
                _note_crash(folder, before, "it was ended")
                relay.finish()
            if outcome.terminated:
                raise Terminated
            if outcome.failed:
                error = failure(
                    outcome, shared.reports(self.count), self.patience, folder.path if folder.read_metrics() else None
                )
                _note_crash(folder, before, f"{type(error).__name__}: {error}")
                raise error
        final = folder.read_metrics().get("final", {})
        return {tag: math.nan if value is None else value for tag, value in final.items()}


def _plain(config: Any, resolve: bool) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=resolve))


def _note_crash(folder: RunFolder, before: Mapping[str, Any], why: str) -> None:
    """Let the folder say why the run is over, if it has begun since ``before``; nothing that trains is left."""
    if not is_rank_zero():  # whose machine's is the folder
        return
    metrics = folder.read_metrics()
    if metrics != before and metrics["status"] in ("running", "crashed"):
        folder.note_crash(why)


def failure(
    outcome: Outcome, reports: Mapping[int, Report], patience: float, begun: Path | None = None
) -> LitOptimError:
    """What was wrong first, of several things that follow from it; prints the traceback of what is no refusal.

    Args:
        outcome: How the ranks ended.
        reports: What they said of it, the first one first.
        patience: Seconds that they wait for each other.
        begun: The run's folder; None for a run that had not begun.
    """
    remedy = "mend the cause"
    if begun is not None:
        remedy += f"; then {shlex.join(['lit-optim', 'resume', str(shown(begun))])} goes on from its last checkpoint"
    count = len(outcome.codes)
    silent = [rank for rank, code in enumerate(outcome.codes) if code and rank not in {*outcome.killed, *reports}]
    silent = [rank for rank in silent if outcome.codes[rank] != -signal.SIGABRT]
    if silent:
        rank = min(silent, key=lambda rank: outcome.codes[rank] > 0)  # a signal comes from outside
        code = signal.SIGTERM if outcome.codes[rank] == TERMINATED else -outcome.codes[rank]
        hint = "; the system does that to what takes too much memory" if code == signal.SIGKILL else ""
        how = f"was ended by {signal.Signals(code).name}" if code > 0 else f"ended with {-code} and without a word"
        return RunError(Mistake(f"rank {rank} of {count}", f"it {how}, and the others with it{hint}", remedy=remedy))
    hung = ", ".join(map(str, outcome.killed))
    for rank, report in reports.items():
        if report.error is not None:
            report.error.add_note(report.traceback)  # which the traceback of this process ends with, if it is wanted
            return report.error
        last = report.traceback.strip().splitlines()[-1]
        if hung and is_late(last):
            problem = f"rank {hung} of {count} hung: rank {rank} waited {patience:g} seconds"
            return RunError(Mistake("trainer.timeout", problem, last, remedy=remedy))
        print(f"lit-optim: rank {rank} of {count}\n{report.traceback}", file=sys.stderr)
        return RunError(Mistake(f"rank {rank} of {count}", f"it failed, and the others with it: {last}", remedy=remedy))
    if hung:  # NCCL ends a process that has waited too long, without a word to it
        problem = f"rank {hung} of {count} hung: the others waited {patience:g} seconds"
        return RunError(Mistake("trainer.timeout", problem, remedy=remedy))
    rank = next(rank for rank, code in enumerate(outcome.codes) if code)
    problem = "it was ended by SIGABRT, and the others with it"
    return RunError(Mistake(f"rank {rank} of {count}", problem, remedy=remedy))
