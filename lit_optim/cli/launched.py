"""Processes of one run that torchrun or srun has started, perhaps on several machines: one folder, one end."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, read_write

from lit_optim.cli.last_words import cause, is_loss, loss, packed, refusal, unpacked
from lit_optim.cli.rank_zero import is_rank_zero, is_started_by_others
from lit_optim.cli.watch import Watch
from lit_optim.errors import ConfigError, LitOptimError, Mistake, RunError
from lit_optim.integration.terminated import is_told_to_end

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.distributed.distributed_c10d import Store

    from lit_optim.integration.lockstep import Lockstep

__all__ = ["Launched", "check_started", "no_folder_elsewhere"]

_PATIENCE = timedelta(minutes=10)  # machines of a cluster don't begin at the same time
_FAREWELL = 20.0  # seconds in which the others learn that the run is refused
_LATER = 3.0  # seconds in which the process that failed says so, of those that have lost it
_ABOUT, _VERDICT, _HEARD = "rank/", "verdict", "heard"


def no_folder_elsewhere() -> tuple[str, ...]:
    """The override that keeps Hydra from making a folder of its own for a process that is not to write into one.

    It would be another one than rank zero's: its name is the time at which the process has come to it.
    """
    return ("hydra.run.dir=.",) if is_started_by_others() and not is_rank_zero() else ()


def check_started(config: DictConfig) -> None:
    """Refuse a run on several machines that nobody has told apart, or whose folders would be as many.

    Args:
        config: Of a run that neither torchrun nor srun has started.

    Raises:
        ConfigError: It is one.
    """
    machines = OmegaConf.select(config, "trainer.num_nodes")
    if not isinstance(machines, int) or machines <= 1:
        return
    if "NODE_RANK" not in os.environ:
        problem = f"nothing says which of {machines} machines this is"
        remedy = "start it on each with torchrun or srun, or set NODE_RANK, MASTER_ADDR and MASTER_PORT there"
        raise ConfigError(Mistake("trainer.num_nodes", problem, str(machines), remedy=remedy))
    if not any(one.lstrip("+").startswith("hydra.run.dir=") for one in HydraConfig.get().overrides.hydra):
        problem, remedy = "each machine would make a folder of its own", "name one for all: hydra.run.dir=FOLDER"
        raise ConfigError(Mistake("hydra.run.dir", problem, remedy=remedy))


@dataclass
class Launched:
    """One of the processes, which meet before they train.

    Args:
        rank: Of this one.
        world_size: How many there are.
        address: Of the machine of rank zero, and the port on which its process group is going to meet.
    """

    rank: int
    world_size: int
    address: tuple[str, int]
    has_met: bool = field(default=False, init=False)
    _store: Store | None = field(default=None, init=False)  # rank zero's; it lives until the process group shares it
    _watch: Watch | None = field(default=None, init=False)

    @classmethod
    def here(cls) -> Launched | None:
        """This process; None where nothing has started several."""
        if not is_started_by_others():
            return None
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
        from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        kind = next((one for one in (TorchElasticEnvironment, SLURMEnvironment) if one.detect()), None)
        if kind is None:
            return None
        environment = kind()
        if environment.world_size() == 1:
            return None
        address = environment.main_address, environment.main_port
        return cls(environment.global_rank(), environment.world_size(), address)

    def agree(self, folder: Path) -> Path:
        """Meet the others, all of which are ready to train.

        Args:
            folder: In which Hydra would have this process write.

        Returns:
            The folder of rank zero, which Hydra knows of from here on.

        Raises:
            RunError: One of the others is not, or didn't come.
        """
        verdict = self._meet({"folder": str(folder)})
        agreed = Path(verdict["folder"])
        if agreed != folder:
            _tell_hydra(agreed)
        return agreed

    def check_fits(self, trainer: Trainer) -> None:
        """Refuse a Trainer that takes another number of processes for its own.

        Raises:
            ConfigError: It does: each of them would train by itself, in one folder.
        """
        if trainer.world_size != self.world_size:
            problem = f"{self.world_size} processes have been started, and this trainer is for {trainer.world_size}"
            remedy = "use trainer=multi_node, which takes the number from whatever has started them"
            raise ConfigError(Mistake("trainer.devices", problem, str(trainer.num_devices), remedy=remedy))

    def watch(self, on_stuck: Callable[[LitOptimError], object]) -> Lockstep:
        """Hear from now on, until `close`, what the others come to; returns what has all stop together.

        Args:
            on_stuck: Called with the failure of another for which this process waits, before it is ended.
        """
        assert self._store is not None
        self._watch = Watch(self._store, self.rank, self.world_size, lambda said: on_stuck(RunError(*unpacked(said))))
        return self._watch.lockstep

    def close(self) -> None:
        """This process has come to its end, as the others do."""
        if self._watch is not None:
            self._watch.close()

    def fail(self, error: BaseException, *, together: bool = False) -> BaseException:
        """Tell the others, who would wait otherwise, that this process does not train, or no longer does.

        Args:
            error: Of this process.
            together: Whether all have stopped after the same batch.

        Returns:
            What is to be told here: what another has failed by, where this one has but lost it.
        """
        if not self.has_met and isinstance(error, (Exception, SystemExit)):
            with contextlib.suppress(LitOptimError):  # it says what this process says itself
                self._meet({"mistakes": packed(refusal(error))})
            return error
        if self._watch is not None:
            atexit.register(
                _leave, 143 if is_told_to_end(error) else 130 if isinstance(error, KeyboardInterrupt) else 1
            )
            which = f"rank {self.rank} of {self.world_size}"
            if isinstance(error, SystemExit) and together:
                self._watch.close()
            elif is_loss(error):
                own = loss(error, which)
                lost = RunError(*unpacked(self._watch.over(packed([own]), _LATER)))
                if lost.mistakes == (own,) and self.rank != 0:  # which may be what it has lost
                    print(f"lit-optim: {own}", file=sys.stderr)
                return lost
            else:
                self._watch.over(packed(cause(error, which)))
        if self.rank != 0 and isinstance(error, LitOptimError):  # which rank zero doesn't know of
            print(f"lit-optim: rank {self.rank} of {self.world_size}: {error}", file=sys.stderr)
        return error

    def _meet(self, own: dict[str, Any]) -> dict[str, Any]:
        """Say how this process stands; returns what rank zero makes of it all."""
        from torch.distributed import DistError

        self.has_met = True
        try:
            self._store = self._opened()
            if self.rank != 0:
                self._store.set(f"{_ABOUT}{self.rank}", json.dumps(own))
                verdict: dict[str, Any] = json.loads(self._store.get(_VERDICT))
                if "mistakes" in verdict:
                    self._store.add(_HEARD, 1)
            else:
                others = range(1, self.world_size) if "mistakes" not in own else ()  # it waits for nobody to say no
                verdict = _verdict([own, *(json.loads(self._store.get(f"{_ABOUT}{rank}")) for rank in others)])
                self._store.set(_VERDICT, json.dumps(verdict))
        except DistError as error:
            at = f"rank {self.rank} of {self.world_size}, at {self.address[0]}:{self.address[1]}"
            problem = f"the processes of this run did not come together: {str(error).splitlines()[0]}"
            mistake = Mistake("trainer", problem, at, remedy="look at what the others say, and whether they can meet")
            if self.rank != 0:  # nobody else knows
                print(f"lit-optim: {mistake}", file=sys.stderr)
            raise RunError(mistake) from error
        if "mistakes" in verdict:
            self._stay_until_heard(self._store)
            raise RunError(*unpacked(verdict["mistakes"]))
        return verdict

    def _opened(self) -> Store:
        """What all of them can write into and read: torchrun's own, or rank zero's, as their process group has it."""
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # taken from C++

        hosts = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        more: dict[str, Any] = {"multi_tenant": True, "wait_for_workers": False}
        store = TCPStore(*self.address, None, hosts, timeout=_PATIENCE, **more)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the agent's store outlives one
        return PrefixStore(f"lit_optim/{attempt}", store)

    def _stay_until_heard(self, store: Store) -> None:
        """With rank zero its store ends, in which the others are to find that they are refused."""
        deadline = time.monotonic() + _FAREWELL
        while self.rank == 0 and store.add(_HEARD, 0) < self.world_size - 1 and time.monotonic() < deadline:
            time.sleep(0.05)


def _verdict(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rank zero's folder; or the mistakes of the first rank that has any, and which that is."""
    for rank, one in enumerate(said):
        if "mistakes" in one:
            which = [Mistake("trainer", f"rank {rank} is refused, and so the others are")] if rank else []
            return {"mistakes": packed([*which, *unpacked(one["mistakes"])])}
    return said[0]


def _leave(code: int) -> None:
    """End the process at once: what would clean up after itself may wait for the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _tell_hydra(folder: Path) -> None:
    """What a config names by ``${hydra:runtime.output_dir}`` is to lie in the run's folder."""
    runtime = cast("DictConfig", HydraConfig.instance().cfg).hydra.runtime
    with read_write(runtime):
        runtime.output_dir = str(folder)
