"""The flags of a verb; what is wrong with them is told as all else is."""

from __future__ import annotations

import argparse
from typing import NoReturn

from lit_optim.errors import ConfigError, Mistake

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """argparse's, which would print its usage and exit with 2."""

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        raise ConfigError(Mistake(self.prog, message, remedy=f"{self.prog} --help tells what it takes"))
