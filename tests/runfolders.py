"""Folders of runs that nobody trained, as `lit-optim train` would leave them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

import lit_optim as lo
from lit_optim.plan import Group
from lit_optim.tfrecord import frame

BEST_OF = {"val/loss": min, "train/loss": min}
Values = float | None | Sequence[float]


def make_run(
    folder: Path,
    *,
    lr: float = 0.1,
    seed: int | None = 1,
    metrics: Mapping[str, Values] | None = None,
    status: str | None = "finished",
    steps: int = 100,
    seconds: float = 12.5,
    host: str = "elsewhere",
    **config: Any,
) -> Path:
    """A run with two rules of settings, whatever else is in ``config``, and a value or a curve of each metric.

    Without a ``status`` there is no ``metrics.json``.
    """
    metrics = {"val/acc": 0.5} if metrics is None else metrics
    whole = {
        "name": "default",
        "seed": seed,
        "optimized_metric": "val/acc",
        "data": {"_target_": "lit_optim.data.Digits", "batch_size": 64, "seed": seed},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": lr},
        "callbacks": {
            "checkpoint": {"dirpath": f"{folder.absolute()}/checkpoints", "monitor": "val/acc", "mode": "max"},
        },
        "logger": {"save_dir": str(folder.absolute())},
        **config,
    }
    settings = folder / ".hydra"
    settings.mkdir(parents=True)
    (settings / "config.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    (settings / "overrides.yaml").write_text(yaml.safe_dump(["data=digits", f"++optimizer.lr={lr}", f"seed={seed}"]))
    runtime = {"output_dir": str(folder.absolute()), "config_sources": []}
    (settings / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": runtime}}))
    (folder / "plan.json").write_text(plan_of(lr).to_json())
    curves = {tag: value if isinstance(value, Sequence) else [value] for tag, value in metrics.items()}
    if status is not None:
        write_metrics(folder, status, curves, steps, seconds, host)
    write_events(folder / "events.out.tfevents.1700000000.host.1.0", curves)
    return folder


def plan_of(lr: float) -> lo.Plan:
    group = Group("default", "torch.optim.SGD", {"lr": lr}, {}, ("layer.weight",), 10)
    return lo.Plan((group,), lo.Horizon(100, 10))


def write_metrics(
    folder: Path,
    status: str,
    curves: Mapping[str, Sequence[float | None]],
    steps: int = 100,
    seconds: float = 12.5,
    host: str = "elsewhere",
) -> None:
    """``metrics.json`` as a run writes it: no NaN, and no best value where there was no finite one."""
    final = {tag: _finite(values[-1]) for tag, values in curves.items()}
    best = {}
    for tag, values in curves.items():
        finite = [value for value in values if _finite(value) is not None]
        if finite:
            best[tag] = {"value": BEST_OF.get(tag, max)(finite), "step": 1}
    said = {
        "status": status,
        "final": final,
        "best": best,
        "steps": steps,
        "epochs": 2,
        "seconds": seconds,
        "host": host,
    }
    (folder / "metrics.json").write_text(json.dumps(said, indent=2, allow_nan=False))


def write_events(path: Path, curves: Mapping[str, Sequence[float | None]], first: int = 0, mark: bool = False) -> None:
    """An events file with a value of each curve at each step from ``first`` on, after the mark of a resume if asked."""
    events = [Event(wall_time=1.0, file_version="brain.Event:2")]
    if mark:
        events.append(Event(wall_time=1.0, step=first, session_log=SessionLog(status=SessionLog.START)))
    for tag, values in curves.items():
        for step, value in enumerate(values, first):
            if value is not None:
                events.append(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)])))
    path.write_bytes(frame([event.SerializeToString() for event in events]))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
