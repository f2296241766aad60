"""TensorBoard as one events file per process, in the folder that was asked for, with hparams beside real results."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

from lit_optim.errors import Mistake, RunError
from lit_optim.histograms import LIMITS, Histogram
from lit_optim.integration.dashboard import BEST, layout
from lit_optim.integration.rows import Row, prefix_of
from lit_optim.integration.sessions import forget, session_end, session_start
from lit_optim.integration.tracker import Tracker
from lit_optim.runs.events import tags_of
from lit_optim.tfrecord import frame

__all__ = ["RunLogger", "mark_resume", "write_histograms", "write_rows"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS_OF_COLOR_TYPE = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # PNG specification, section 11.2.1 (IHDR)


class RunLogger(Tracker, TensorBoardLogger):
    """A TensorBoard logger for a run that owns its folder.

    Beside Lightning's own it makes no ``version_0``, no ``hparams.yaml`` and no ``hp_metric``; fit and test share one
    events file; and hyperparameters are written when the run says so (:meth:`log_start`), next to its results.

    Args:
        save_dir: The run's folder; the events file lies directly in it.
        max_queue: Events that wait for the writer's thread before a caller has to; torch's default of 10 makes each
            flush of a ``Recorder`` wait.
        flush_secs: Seconds after which the writer's thread brings events to disk unasked.
    """

    def __init__(self, save_dir: str | Path, max_queue: int = 1000, flush_secs: int = 30) -> None:
        super().__init__(
            save_dir, name="", version="", default_hp_metric=False, max_queue=max_queue, flush_secs=flush_secs
        )
        self._tags: set[str] = set()
        self._last_step = 0
        self._is_entered = False

    @property
    def log_dir(self) -> str:
        """The folder that was given."""
        return str(Path(self.save_dir).expanduser())

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars; the ``epoch`` that Lightning adds to each call is left out."""
        kept = {tag: value for tag, value in metrics.items() if tag != "epoch"}
        super().log_metrics(kept, step)
        self._saw(kept, step or 0)

    @rank_zero_only
    def log_hyperparams(  # Lightning calls it at the start of each fit, when there is no result to write them with
        self,
        params: dict[str, Any] | Namespace,
        metrics: dict[str, Any] | None = None,
        step: int | None = None,
    ) -> None:
        """Write nothing, unless results come along: then a start and an end."""
        if metrics:
            self.log_start(vars(params) if isinstance(params, Namespace) else params)
            self.log_end(metrics)

    @rank_zero_only
    def log_start(self, hparams: Mapping[str, Any]) -> None:
        """Write the run's hyperparameters for the HPARAMS tab, where they stand beside the last value of each scalar.

        Args:
            hparams: Name to value (see `session_start`).
        """
        self._is_entered = True
        self._add(session_start(hparams), step=0)
        self.experiment.flush()

    @rank_zero_only
    def log_end(self, metrics: Mapping[str, float] | None = None, succeeded: bool = True) -> None:
        """Write how the run has ended, for the same tab.

        Args:
            metrics: Tag to final value. A tag that this logger or a ``Recorder`` has already written keeps its points,
                since one more would falsify the curve; a best value needs a tag of its own (``best/val/acc``).
            succeeded: Whether it ended well.
        """
        self._add(session_end(succeeded), step=0)
        self.log_metrics(
            {tag: value for tag, value in (metrics or {}).items() if tag not in self._tags}, self._last_step
        )
        self.experiment.flush()

    @rank_zero_only
    def log_rows(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        write_rows(self, rows)

    @rank_zero_only
    def mark_resume(self, step: int) -> None:
        """Forget what was logged at ``step`` and later, and how an earlier process entered and left the run."""
        if not self._is_entered:
            forget(Path(self.log_dir))
            self._tags |= {tag for tag in tags_of(Path(self.log_dir)) if not tag.startswith(BEST)}
        mark_resume(self, step)

    @rank_zero_only
    def show(self, plan: str, config: str, picture: Path) -> None:
        """Show them in the TEXT and IMAGES tabs, and lay out the charts of the CUSTOM SCALARS tab."""
        self.log_text("plan", _as_code(plan))
        self.log_text("config", _as_code(config))
        self.log_figure("plan", picture)
        self.experiment.add_custom_scalars(layout())

    @rank_zero_only
    def log_text(self, tag: str, text: str, step: int = 0) -> None:
        """Show ``text``, which TensorBoard reads as Markdown, in the TEXT tab."""
        self.experiment.add_text(tag, text, step)
        self.experiment.flush()

    @rank_zero_only
    def log_figure(self, tag: str, path_to_png: str | Path, step: int = 0) -> None:
        """Show a PNG file in the IMAGES tab; its bytes are stored as they are.

        Raises:
            RunError: The file is not a PNG.
        """
        encoded = Path(path_to_png).read_bytes()
        if not encoded.startswith(_PNG_SIGNATURE) or encoded[12:16] != b"IHDR":
            raise RunError(
                Mistake(tag, "the figure is not a PNG file", given=str(path_to_png), remedy="save it with format='png'")
            )
        image = Summary.Image(
            width=int.from_bytes(encoded[16:20], "big"),
            height=int.from_bytes(encoded[20:24], "big"),
            colorspace=_CHANNELS_OF_COLOR_TYPE[encoded[25]],
            encoded_image_string=encoded,
        )
        self._add(Summary.Value(tag=tag, image=image), step)
        self.experiment.flush()

    @rank_zero_only
    def save(self) -> None:
        """Bring to disk what was logged; unlike Lightning's, writes no ``hparams.yaml``."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush only: Lightning calls this after every stage, and a closed writer would start a second file."""
        self.save()

    @rank_zero_only
    def close(self) -> None:
        """Close the events file; a second call does nothing. What is logged afterwards opens a new file."""
        if self._experiment is not None:
            self._experiment.close()
            self._experiment = None

    def _saw(self, tags: Mapping[str, float], step: int) -> None:
        self._tags.update(tags)
        self._last_step = max(self._last_step, step)

    def _add(self, value: Any, step: int) -> None:
        self.experiment._get_file_writer().add_summary(Summary(value=[value]), step)


def write_rows(logger: TensorBoardLogger, rows: Sequence[Row]) -> None:
    """Write each row as one event with many values, and all of them to disk at once.

    That costs a fraction of one ``add_scalar`` a value. Call it on rank zero. Any logger of Lightning's TensorBoard
    family will do, its ``prefix`` included.
    """
    events = _events(rows, prefix_of(logger))
    writer = logger.experiment._get_file_writer().event_writer
    writer.flush()  # brings out what is queued, so that the order stays and the writer's thread has nothing to do
    file = getattr(writer, "_general_file_writer", None)
    if file is not None:
        file.write(frame(events))
    else:  # a tensorboard that keeps its file elsewhere: the same, one record at a time
        for event in events:
            writer.add_event(Event.FromString(event))
    writer.flush()
    if isinstance(logger, RunLogger):
        for row in rows:
            logger._saw(row.values, row.step)


def write_histograms(loggers: Iterable[TensorBoardLogger], histograms: Iterable[Histogram], step: int) -> None:
    """Write histograms, on rank zero."""
    writers = [logger.experiment for logger in loggers]
    for tag, counts, total, squares in histograms:
        filled = [place for place, count in enumerate(counts) if count]
        first, end = filled[0], filled[-1] + 1
        low, high = LIMITS[max(first - 1, 0)], LIMITS[end - 1]
        for writer in writers:
            writer.add_histogram_raw(
                tag, low, high, sum(counts), total, squares, LIMITS[first:end], counts[first:end], step
            )


def _events(rows: Sequence[Row], prefix: str) -> list[bytes]:
    events: list[bytes] = []
    event, cells, tags = Event(), [], None
    for step, wall_time, values in rows:
        if tags != list(values):  # rarely: the message is filled anew at each step, not made anew
            tags = list(values)
            event = Event(summary=Summary(value=[Summary.Value(tag=prefix + tag) for tag in tags]))
            cells = list(event.summary.value)
        for cell, value in zip(cells, values.values(), strict=True):
            cell.simple_value = value
        event.step, event.wall_time = step, wall_time
        events.append(event.SerializeToString())
    return events


def mark_resume(logger: TensorBoardLogger, step: int) -> None:
    """Have TensorBoard forget what an interrupted process wrote at ``step`` and later, which is about to come again."""
    event = Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))
    logger.experiment._get_file_writer().event_writer.add_event(event)


def _as_code(text: str) -> str:
    """Markdown that keeps its columns."""
    return "\n".join(f"    {line}" for line in text.splitlines())
