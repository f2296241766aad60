"""A run in TensorBoard's HPARAMS tab: a session that starts with its hyperparameters and ends well or not."""

from __future__ import annotations

import math
import numbers
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from lit_optim.tfrecord import without

__all__ = ["forget", "session_end", "session_start"]

_TAGS = tuple(tag.encode() for tag in (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG))


def session_start(hparams: Mapping[str, Any]) -> Summary.Value:
    """The start of a run.

    There is no experiment record beside it, which torch's ``add_hparams`` writes: that fixes the columns for every run
    of the dashboard, since TensorBoard takes the first that it finds and hides the keys that it lacks.

    Args:
        hparams: Name to value. Booleans, numbers and strings keep their type; all else, and a number that is not
            finite, is written as ``str(value)``. None is left out: as text it would make a column of numbers one of
            texts, which TensorBoard can't sort.
    """
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
    for name, value in hparams.items():
        if isinstance(value, bool):  # before the numbers, of which a bool is one
            start.hparams[name].bool_value = value
        elif isinstance(value, numbers.Real) and math.isfinite(value):  # TensorBoard's JSON has no NaN here
            start.hparams[name].number_value = float(value)
        elif value is not None:
            start.hparams[name].string_value = str(value)
    return _record(metadata.SESSION_START_INFO_TAG, session_start_info=start)


def session_end(succeeded: bool) -> Summary.Value:
    """The end of a run. One without an end has the status "unknown", whether it still trains or was killed."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    return _record(metadata.SESSION_END_INFO_TAG, session_end_info=end)


def forget(folder: Path) -> None:
    """Take what is said of sessions out of a run's events files.

    TensorBoard keeps the first that it reads: a run that goes on would show the hyperparameters that it began with and,
    for ever, that it failed. One that is open at the time shows so until it is started anew.
    """
    for path in folder.glob("events.out.tfevents.*"):
        data = path.read_bytes()
        kept = without(data, lambda record: any(tag in record for tag in _TAGS))
        if len(kept) < len(data):
            partial = folder / "events.tmp"  # a name that TensorBoard doesn't read
            with partial.open("wb") as file:
                file.write(kept)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)


def _record(tag: str, **content: Any) -> Summary.Value:
    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
