"""Runs of several processes: each rank is started with the very config of this job, watched, and ended with it."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from lit_optim.cli.job import Job, JobFolder, Report
from lit_optim.cli.supervision import Ended, supervise
from lit_optim.errors import ConfigError, Mistake, RunError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lit_optim.integration.run_folder import RunFolder

__all__ = ["Ranks", "Terminated"]

_FOREVER = 1800.0  # seconds, as Lightning has it where the config says nothing
_LATE = ("timed out", "timeout")  # what torch says where nobody came


class Terminated(SystemExit):
    """A run that was told to end."""


class Ranks:
    """The processes that a Trainer wants beside each other on this machine.

    They are started by this process, which is none of them: Lightning's own way, in which the first starts the others
    by the command line that it was started with, would have each run a whole sweep, and a rank that dies end it.

    Args:
        trainer: Not yet used.
        patience: Seconds that they wait for each other.
    """

    def __init__(self, trainer: Trainer, patience: float) -> None:
        self.count = trainer.num_devices
        self.patience = patience
        environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]  # of parallel strategies
        self.is_main_node = environment.node_rank() == 0
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
            ConfigError: A sweep that something else has started several times.
        """
        from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

        from lit_optim.cli.assemble import timeout_of, trainer_of

        trainer = trainer_of(config, [], [])
        launcher = trainer.strategy.launcher
        if not isinstance(launcher, _SubprocessScriptLauncher):
            return None
        if not launcher.cluster_environment.creates_processes_externally:
            timeout = timeout_of(config)
            return cls(trainer, _FOREVER if timeout is None else timeout.total_seconds())
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
        resolved = cast("DictConfig", OmegaConf.create(OmegaConf.to_container(config, resolve=True)))
        job = Job(resolved, cast("DictConfig", HydraConfig.instance().cfg), folder.goes_on, overrides)
        with TemporaryDirectory(prefix="lit-optim-") as path:
            shared = JobFolder(Path(path))
            standings = shared.open(job, self.count)
            sys.stdout.flush()
            sys.stderr.flush()
            processes: list[Popen[bytes]] = []
            try:
                command = [sys.executable, "-m", "lit_optim.cli.rank", path]
                for rank in range(self.count):
                    own = {**os.environ, **self._environment, "LOCAL_RANK": str(rank)}
                    processes.append(Popen(command, env=own, stdin=DEVNULL, process_group=0))
                ended = supervise(processes, self.patience, lambda: standings.asked, standings.settle)
            finally:
                shared.close()
                folder.writers |= {one.pid for one in processes}
                self._settle(folder)
            if ended.failed:
                self._raise(ended, shared.reports(self.count), folder)
        final = folder.read_metrics().get("final", {})
        return {tag: math.nan if value is None else value for tag, value in final.items()}

    def _settle(self, folder: RunFolder) -> None:
        """Nothing of the run is left that could say so: it is not running any more."""
        metrics = folder.read_metrics()
        if self.is_main_node and metrics.get("status") == "running":
            folder.write_metrics({**metrics, "status": "crashed"})

    def _raise(self, ended: Ended, reports: dict[int, Report], folder: RunFolder) -> NoReturn:
        if ended.terminated:
            raise Terminated
        remedy = f"lit-optim resume {folder.path} goes on from its last checkpoint"
        ended_by = {
            rank: signal.Signals(-code).name
            for rank, code in enumerate(ended.codes)
            if code < 0 and rank not in ended.killed and rank not in reports
        }
        dead = [rank for rank, name in ended_by.items() if name != "SIGABRT"]  # which is how NCCL gives up waiting
        if dead:
            problem = f"rank {dead[0]} of {self.count} was ended by {ended_by[dead[0]]}, and so the others were"
            hint = "; the system kills what takes too much memory" if ended_by[dead[0]] == "SIGKILL" else ""
            raise RunError(Mistake("trainer.devices", problem + hint, remedy=remedy))
        for rank, report in reports.items():
            if report.error is not None:
                raise report.error
            last = report.traceback.strip().splitlines()[-1]
            if ended.killed and any(word in last.lower() for word in _LATE):
                self._raise_hung(ended.killed, rank, last, remedy)
            print(f"lit-optim: rank {rank} of {self.count}\n{report.traceback}", file=sys.stderr)
            raise RunError(Mistake("trainer.devices", f"rank {rank} of {self.count} failed: {last}", remedy=remedy))
        if ended.killed:
            self._raise_hung(ended.killed, None, None, remedy)
        rank, code = next((rank, code) for rank, code in enumerate(ended.codes) if code)
        raise RunError(Mistake("trainer.devices", f"rank {rank} of {self.count} ended with {code}", remedy=remedy))

    def _raise_hung(self, hung: Sequence[int], waiting: int | None, said: str | None, remedy: str) -> NoReturn:
        which = ", ".join(f"rank {rank}" for rank in hung)
        who = "the others" if waiting is None else f"rank {waiting}"
        problem = f"{which} of {self.count} hung: {who} waited for {self.patience:g} seconds"
        raise RunError(Mistake("trainer.timeout", problem, said, remedy=remedy))
