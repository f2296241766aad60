"""Every metric in one CSV file in the run's folder, for spreadsheets, pandas and ``lit-optim compare``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_optim.integration.rows import Row, prefix_of, row_of
from lit_optim.integration.tracker import Tracker
from lit_optim.metrics_table import NAME, MetricsTable

__all__ = ["CSVRunLogger"]


class CSVRunLogger(Tracker, CSVLogger):
    """A CSV logger for a run that owns its folder.

    Lightning's own deletes the file of before when a run goes on in its folder, holds rows back, and writes over its
    only copy whenever a tag is new. This one has each row on disk at once and forgets none; after a resume the file is
    that of a run which nobody interrupted. It makes no ``version_0`` and no ``hparams.yaml``.

    Args:
        save_dir: The run's folder; ``metrics.csv`` lies directly in it. Its columns are ``step`` and the tags, in the
            order in which they came. Steps are those of TensorBoard; a step has a row for each time that something was
            logged at it.
        prefix: Goes before every tag.
    """

    def __init__(self, save_dir: str | Path, prefix: str = "") -> None:
        super().__init__(save_dir, name="", version="", prefix=prefix)
        self._table = MetricsTable(Path(self.log_dir) / NAME)

    @property
    def log_dir(self) -> str:
        """The folder that was given."""
        return str(Path(self.save_dir).expanduser())

    @property
    def experiment(self) -> Any:
        """The table; Lightning's writer would delete what an interrupted process has written."""
        return self._table

    @rank_zero_only
    def begin(self) -> None:
        """See that what an earlier process has written can be gone on with."""
        self._table.check()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write a row; the ``epoch`` that Lightning adds to each call is left out."""
        self.log_rows([row_of(metrics, step)])

    @rank_zero_only
    def log_rows(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        prefix = prefix_of(self)
        self._table.append(
            (row.step, {f"{prefix}{tag}": float(value) for tag, value in row.values.items()})
            for row in rows
            if row.values
        )

    @rank_zero_only
    def mark_resume(self, step: int) -> None:
        """Remove what was logged at ``step`` and later."""
        self._table.drop_from(step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Write nothing: the run's config lies beside the file, in ``.hydra/``."""

    @rank_zero_only
    def save(self) -> None:
        """Nothing is held back."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held back."""
