"""TensorBoard as one events file per process, in the folder that was asked for, with hparams beside real results."""

from __future__ import annotations

import math
import numbers
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from lit_optim.errors import Mistake, RunError
from lit_optim.histograms import LIMITS, Histogram
from lit_optim.integration.rows import Row, prefix_of
from lit_optim.integration.tracker import Tracker
from lit_optim.tfrecord import frame

__all__ = ["RunLogger", "mark_resume", "write_histograms", "write_rows"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS_OF_COLOR_TYPE = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # PNG specification, section 11.2.1 (IHDR)


class RunLogger(Tracker, TensorBoardLogger):
    """A TensorBoard logger for a run that owns its folder.

    Beside Lightning's own it makes no ``version_0``, no ``hparams.yaml`` and no ``hp_metric``; fit and test share one
    events file; and hyperparameters are written once, at the end, next to the results (:meth:`log_final`).

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
        self._started = time.time()
        self._tags: set[str] = set()
        self._last_step = 0

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
        """Write nothing, unless results come along: then the same as :meth:`log_final`."""
        if metrics:
            self.log_final(vars(params) if isinstance(params, Namespace) else params, metrics)

    @rank_zero_only
    def log_final(self, hparams: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write the run's hyperparameters for the HPARAMS tab, where they stand beside the last value of each scalar.

        Only the start and the end of a session are written. An experiment record, which torch's ``add_hparams`` writes
        too, would fix the columns for every run of the dashboard: TensorBoard takes the first that it finds and hides
        the keys that it lacks.

        Args:
            hparams: Name to value. Booleans, numbers and strings keep their type; all else, and a number that is not
                finite, is written as ``str(value)``.
            metrics: Tag to final value. A tag that this logger or a ``Recorder`` has already written keeps its points,
                since one more would falsify the curve; a best value needs a tag of its own (``best/val/acc``).
        """
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=self._started)
        for name, value in hparams.items():
            if isinstance(value, bool):  # before the numbers, of which a bool is one
                start.hparams[name].bool_value = value
            elif isinstance(value, numbers.Real) and math.isfinite(value):  # TensorBoard's JSON has no NaN here
                start.hparams[name].number_value = float(value)
            else:
                start.hparams[name].string_value = str(value)
        end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        for tag, content in (
            (metadata.SESSION_START_INFO_TAG, {"session_start_info": start}),
            (metadata.SESSION_END_INFO_TAG, {"session_end_info": end}),
        ):
            plugin = SummaryMetadata.PluginData(
                plugin_name=metadata.PLUGIN_NAME,
                content=plugin_data_pb2.HParamsPluginData(
                    version=metadata.PLUGIN_DATA_VERSION, **content
                ).SerializeToString(),
            )
            self._add(Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin)), step=0)
        unseen = {tag: value for tag, value in metrics.items() if tag not in self._tags}
        self.log_metrics(unseen, self._last_step)
        self.experiment.flush()

    @rank_zero_only
    def log_rows(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        write_rows(self, rows)

    @rank_zero_only
    def mark_resume(self, step: int) -> None:
        """Forget what was logged at ``step`` and later."""
        mark_resume(self, step)

    @rank_zero_only
    def show(self, plan: str, config: str, picture: Path) -> None:
        """Show them in the TEXT and IMAGES tabs."""
        self.log_text("plan", _as_code(plan))
        self.log_text("config", _as_code(config))
        self.log_figure("plan", picture)

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
