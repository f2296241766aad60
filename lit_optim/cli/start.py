"""Where a run starts from: ``ckpt``, ``weights``, or the last checkpoint of its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from lit_optim.errors import Mistake, RunError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

    from lit_optim.integration.checkpoint import Checkpoint

__all__ = ["starting_point"]


def starting_point(config: DictConfig, module: LightningModule | None, last: Path | None = None) -> Checkpoint | None:
    """Load ``weights``, or read ``ckpt``; or read the last checkpoint of the run itself, if it has come to one.

    Args:
        config: Of the run.
        module: Gets the weights; None where there is none to get them.
        last: The checkpoint of a run that goes on.
    """
    from lit_optim.integration.checkpoint import Checkpoint

    if last is not None and last.exists():
        key, given = "FOLDER", str(last)
    else:
        named = {key: OmegaConf.select(config, key) for key in ("ckpt", "weights")}
        chosen = [key for key, value in named.items() if value is not None]
        if len(chosen) > 1:
            remedy = "keep one: ckpt brings optimizer and step as well, weights brings the weights alone"
            raise RunError(Mistake("weights", "ckpt and weights both say where to start", remedy=remedy))
        if not chosen:
            return None
        key, given = chosen[0], named[chosen[0]]
    checkpoint = Checkpoint.read(key, given)
    if module is not None:
        checkpoint.load_weights(module)
    return None if key == "weights" else checkpoint
