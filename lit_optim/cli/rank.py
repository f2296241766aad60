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
from lit_optim.cli.rank_folder import RankFolder, Work
from lit_optim.errors import LitOptimError
from lit_optim.targets import allowing

__all__ = ["main"]


def main(folder: RankFolder, rank: int) -> int:
    """Train one rank's share.

    Args:
        folder: Holds the work.
        rank: Among those of this machine.

    Returns:
        As `lit_optim.cli.app.run_app`.
    """
    folder.end_with_it()
    work = folder.work()
    settings: Any = OmegaConf.create(work.hydra)
    HydraConfig.instance().cfg = settings
    home = Path(HydraConfig.get().runtime.cwd)
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))  # where the user's own classes are found
    try:
        with allowing(*allowed_factories(home)):
            _train(work, folder, rank)
    except SystemExit as stop:
        return 143 if type(stop) is not SystemExit else 1
    except BaseException as error:
        refusal = error if isinstance(error, LitOptimError) else None
        folder.report(rank, refusal, traceback.format_exc())
        return 1
    return 0


def _train(work: Work, folder: RankFolder, rank: int) -> None:
    from lit_optim.cli.train import train
    from lit_optim.integration.callbacks.stop_together import StopTogether

    train(OmegaConf.create(work.config), work.goes_on, work.overrides, StopTogether(folder.standings(), rank))


if __name__ == "__main__":
    code = main(RankFolder(Path(sys.argv[1])), int(os.environ["LOCAL_RANK"]))
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)  # what would clean up after itself may wait for the others
