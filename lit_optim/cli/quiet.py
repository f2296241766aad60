"""Lightning's remarks that a user of this command can do nothing about."""

from __future__ import annotations

import logging
import warnings

__all__ = ["quiet"]

_REMARKS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # lightning 2.6.6 with torch 2.13
    r".*smaller than the logging interval.*",  # the Recorder has every step
    r"The dirpath has changed from.*",  # a new run that starts from a checkpoint has a folder of its own
)


def quiet() -> None:
    """Let Lightning speak only of what is wrong."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for remark in _REMARKS:
        warnings.filterwarnings("ignore", message=remark)
