"""Curves from a run's events files, as TensorBoard would show them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Curve", "curve_of", "steps_of", "tags_of"]

Curve = dict[int, float]
"""A value at each optimizer step at which there is one."""

_SHORT = 64  # bytes: what has no place for values may be the mark of a resume


def curve_of(folder: Path, tag: str) -> tuple[Curve, list[str]]:
    """The curve of one tag over all processes of a run; what a resumed run did again replaces what it had done.

    Returns:
        The curve, by rising steps, empty where there is none; and what could not be read, a sentence each. A file that
        is damaged or cut off counts up to there.
    """
    from tensorboard.compat.proto.event_pb2 import SessionLog

    encoded = tag.encode()
    curve: Curve = {}
    problems: list[str] = []
    for event in _events(folder, lambda record: len(record) < _SHORT or encoded in record, problems):
        if event.session_log.status == SessionLog.START:
            curve = {step: value for step, value in curve.items() if step < event.step}
        curve |= {int(event.step): one.simple_value for one in _values(event) if one.tag == tag}
    return dict(sorted(curve.items())), problems


def tags_of(folder: Path) -> Collection[str]:
    """The tags of all curves of a run."""
    return {one.tag for event in _events(folder, lambda record: True, []) for one in _values(event)}


def steps_of(folder: Path) -> int:
    """How many optimizer steps the last process of a run has recorded; 0 where that isn't known."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    from lit_optim.tfrecord import unframe

    try:
        for path in sorted(folder.glob("events.out.tfevents.*"), reverse=True):
            records, _ = unframe(path.read_bytes(), lambda record: b"lr/" in record)  # of every step
            event = Event.FromString(records[-1] if records else b"")
            if any(one.tag.startswith("lr/") for one in _values(event)):
                return int(event.step) + 1
    except (OSError, DecodeError):
        pass
    return 0


def _events(folder: Path, wanted: Callable[[bytes], bool], problems: list[str]) -> Iterator[Any]:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    from lit_optim.tfrecord import unframe

    for path in sorted(folder.glob("events.out.tfevents.*")):
        try:
            records, is_whole = unframe(path.read_bytes(), wanted)
            if not is_whole:
                problems.append(f"{path}: it is cut off or damaged; what stands before that is used")
            yield from map(Event.FromString, records)
        except (OSError, DecodeError) as error:
            problems.append(f"{path}: it can't be read: {error}")


def _values(event: Any) -> Iterator[Any]:
    return (one for one in event.summary.value if one.HasField("simple_value"))
