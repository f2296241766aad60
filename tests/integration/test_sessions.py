from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf import json_format
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from lit_optim.integration.sessions import forget
from lit_optim.integration.tensorboard import RunLogger


class Table(NamedTuple):
    """What the HPARAMS tab shows.

    Args:
        kinds: Of the hyperparameters' columns.
        metrics: The metrics' columns.
        rows: Run → status, hyperparameters and metrics, in their order.
    """

    kinds: dict[str, str]
    metrics: list[str]
    rows: dict[str, tuple[str, dict[str, Any], dict[str, float]]]


def table(logdir: Path, sort: str | None = None) -> Table:
    multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(logdir))
    backend = backend_context.Context(TBContext(logdir=str(logdir), multiplexer=multiplexer, data_provider=provider))
    request = RequestContext()
    experiment = backend.experiment_from_metadata(request, "", True, backend.hparams_metadata(request, ""), None)
    columns = [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    if sort is not None:
        columns.append(api_pb2.ColParams(hparam=sort, order=api_pb2.ORDER_DESC))
    asked = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=api_pb2.Status.values(), col_params=columns, slice_size=10
    )
    found = list_session_groups.Handler(request, backend, "", asked).run()
    json_format.MessageToJson(found)  # what the page gets; it refuses a hyperparameter that is not finite
    return Table(
        {info.name: api_pb2.DataType.Name(info.type).removeprefix("DATA_TYPE_") for info in experiment.hparam_infos},
        [info.name.tag for info in experiment.metric_infos],
        {
            group.name: (
                api_pb2.Status.Name(group.sessions[0].status).removeprefix("STATUS_"),
                {name: json_format.MessageToDict(value) for name, value in group.hparams.items()},
                {value.name.tag: value.value for value in group.metric_values},
            )
            for group in found.session_groups
        },
    )


def start(folder: Path, **hparams: Any) -> RunLogger:
    logger = RunLogger(folder)
    logger.log_start(hparams)
    return logger


def run_of(folder: Path, metrics: dict[str, float], **hparams: Any) -> None:
    logger = start(folder, **hparams)
    logger.log_metrics({"val/acc": metrics["val/acc"], "epoch": 1}, step=7)
    logger.log_end(metrics)
    logger.close()


def test_runs_whose_keys_differ_stand_side_by_side(tmp_path: Path) -> None:
    run_of(tmp_path / "a", {"val/acc": 0.5, "best/val/acc": 0.75}, lr=0.1, fused=True, optimizer="SGD", batch=None)
    run_of(tmp_path / "b", {"val/acc": 0.25}, lr=1, betas=[0.9, 0.99], clip=float("inf"), batch=64)
    shown = table(tmp_path)
    assert shown.kinds == {
        "lr": "FLOAT64", "batch": "FLOAT64", "fused": "BOOL",
        "optimizer": "STRING", "betas": "STRING", "clip": "STRING",
    }  # fmt: skip
    assert shown.metrics == ["best/val/acc", "val/acc"]
    assert shown.rows == {
        "a": ("SUCCESS", {"lr": 0.1, "fused": True, "optimizer": "SGD"}, {"val/acc": 0.5, "best/val/acc": 0.75}),
        "b": ("SUCCESS", {"lr": 1, "betas": "[0.9, 0.99]", "clip": "inf", "batch": 64}, {"val/acc": 0.25}),
    }


def test_runs_without_a_value_can_be_sorted_by_it(tmp_path: Path) -> None:
    for name, batch in (("a", 32), ("b", None), ("c", 64), ("d", None)):
        run_of(tmp_path / name, {"val/acc": 0.5}, batch=batch, lr=0.1)
    assert [*table(tmp_path, sort="batch").rows] == ["c", "a", "b", "d"]


def test_a_run_is_in_the_table_before_it_ends_and_however_it_ends(tmp_path: Path) -> None:
    running, failed = start(tmp_path / "running", lr=0.1), start(tmp_path / "failed", lr=0.2)
    running.log_metrics({"val/loss": float("nan")}, 3)
    running.save()
    failed.log_end(succeeded=False)
    run_of(tmp_path / "ended", {"val/acc": 0.5}, lr=0.3)
    rows = table(tmp_path).rows
    assert {name: status for name, (status, _, _) in rows.items()} == {
        "running": "UNKNOWN", "failed": "FAILURE", "ended": "SUCCESS",
    }  # fmt: skip
    assert {name: hparams for name, (_, hparams, _) in rows.items()} == {
        "running": {"lr": 0.1}, "failed": {"lr": 0.2}, "ended": {"lr": 0.3},
    }  # fmt: skip
    for logger in (running, failed):
        logger.close()


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_a_run_that_goes_on_shows_what_it_is_now(tmp_path: Path, is_cut_off: bool) -> None:
    logger = start(tmp_path / "run", lr=0.1)
    logger.log_metrics({"val/acc": 0.25}, 3)
    logger.log_end(succeeded=False)
    logger.close()
    [file] = (tmp_path / "run").iterdir()
    if is_cut_off:
        file.write_bytes(file.read_bytes() + b"\x18\0\0")
    before = file.read_bytes()
    forget(tmp_path / "run")
    assert len(file.read_bytes()) < len(before)
    assert file.read_bytes()[-3:] == before[-3:] or not is_cut_off
    again = RunLogger(tmp_path / "run")
    again.log_start({"lr": 0.2})
    again.log_end()
    again.close()
    assert [path.suffix for path in (tmp_path / "run").iterdir()].count(".tmp") == 0
    assert table(tmp_path).rows == {"run": ("SUCCESS", {"lr": 0.2}, {"val/acc": 0.25})}


def test_files_without_a_session_are_left_alone(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    logger.log_metrics({"val/acc": 0.5}, 3)
    logger.close()
    [file] = tmp_path.iterdir()
    before = file.stat()
    forget(tmp_path)
    assert file.stat() == before
