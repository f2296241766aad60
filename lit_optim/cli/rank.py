"""``python -m lit_optim.cli.rank FOLDER``: one process of a run of several, as `lit_optim.cli.ranks` starts it."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from lit_optim.cli.project import allowed_factories
from lit_optim.cli.rank_folder import Assignment, RankFolder
from lit_optim.errors import LitOptimError
from lit_optim.integration.terminated import is_told_to_end
from lit_optim.targets import allowing

__all__ = ["main"]


def main(folder: RankFolder, rank: int) -> int:
    """Train one rank's share.

    Args:
        folder: Holds the assignment.
        rank: Among those of this machine.

    Returns:
        As `lit_optim.cli.app.run_app`.
    """
    folder.end_with_it()
    assignment = folder.assignment()
    settings: Any = OmegaConf.create(assignment.hydra)
    HydraConfig.instance().cfg = settings
    home = Path(HydraConfig.get().runtime.cwd)
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))  # where the user's own classes are found
    try:
        with allowing(*allowed_factories(home)):
            _train(assignment, folder, rank)
    except BaseException as error:
        if is_told_to_end(error):
            return 143
        refusal = error if isinstance(error, LitOptimError) else None
        folder.report(rank, refusal, traceback.format_exc())
        return 1
    return 0


def _train(assignment: Assignment, folder: RankFolder, rank: int) -> None:
    from lit_optim.cli.train import train
    from lit_optim.integration.callbacks.stop_together import StopTogether

    stop = StopTogether(folder.lockstep(), rank)
    train(OmegaConf.create(assignment.config), assignment.goes_on, assignment.overrides, stop)


if __name__ == "__main__":
    code = main(RankFolder(Path(sys.argv[1])), int(os.environ["LOCAL_RANK"]))
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)  # what would clean up after itself may wait for the others
