"""One file from the first of several mirrors that has it, checked before it takes its place."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from lit_optim.errors import DataError, Mistake

__all__ = ["download"]


def download(name: str, md5: str, mirrors: Sequence[str], folder: Path) -> Path:
    """Fetch ``name`` into ``folder``, which is made where it doesn't exist.

    Args:
        name: Of the file, on the mirrors and in the folder.
        md5: Its checksum, in hexadecimal. A file that differs is thrown away and the next mirror asked.
        mirrors: URLs, each ending in a slash.
        folder: Where it goes.

    Raises:
        DataError: No mirror gave the file, or the folder can't be written.
    """
    import pooch  # here, because most runs have their data

    by_hand = f"fetch {name} by hand into {folder}, or point data.root to a folder that holds it"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # os.access says yes on read-only file systems
    except OSError as error:
        raise DataError(
            Mistake(
                "data.root",
                f"{name} must be downloaded, and its folder can't be written",
                given=str(error),
                remedy=f"point data.root to a folder that you may write, or {by_hand}",
            )
        ) from error

    failures = []
    for mirror in mirrors:
        try:
            return Path(pooch.retrieve(mirror + name, known_hash=f"md5:{md5}", fname=name, path=folder))
        except (OSError, ValueError) as error:  # no connection or a refusal; another checksum
            failures.append(f"{mirror}{name}: {_first_line(error)}")
    raise DataError(
        Mistake(
            "data.root",
            f"{name} is not in {folder}, and no mirror gave it",
            given="; ".join(failures),
            remedy=by_hand,
        )
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
