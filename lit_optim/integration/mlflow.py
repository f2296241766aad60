"""MLflow: a thousand metrics a call, and one run for a run, however often it is resumed."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from lit_optim.errors import Mistake, RunError
from lit_optim.integration.findings_file import FINDINGS
from lit_optim.integration.rows import Row, prefix_of, row_of
from lit_optim.integration.tracker import IDS, AtFirstUse, Tracker, keep_id, kept_id, names_of, not_installed, unchanged

__all__ = ["LOCAL", "MLFlowRunLogger", "write_rows"]

LOCAL = "sqlite:///runs/mlflow.db"
"""Where runs go unless something else is said: a file in the working directory's ``runs``."""

_SQLITE = "sqlite:///"
_METRICS, _PARAMS, _VALUE, _NAME = 1000, 100, 6000, 250  # MLflow's limits: a call, and characters
_REFUSED = re.compile(r"[^\w.\- :]")  # in a part of a name, as mlflow.utils.validation has it


class MLFlowRunLogger(Tracker, MLFlowLogger):
    """An MLflow logger for a run that owns its folder.

    Beside Lightning's own it opens nothing before something is logged, goes on with its MLflow run where the run is
    resumed, and shows the plan among the artifacts. MLflow has no way to take a metric back: what a killed process
    logged past its last checkpoint stands there twice after a resume. Nor can it change a parameter: a value that a
    resume has changed becomes a tag of the same name.

    Args:
        save_dir: The run's folder; ``trackers.json`` in it keeps the id of the MLflow run.
        experiment_name: The MLflow experiment.
        run_name: Of the run; by default that of its folder. A job of a sweep has a tag ``sweep``.
        tracking_uri: A server or a database; by default ``MLFLOW_TRACKING_URI`` or else `LOCAL`.
        artifact_location: Where an experiment that is new keeps files; by default the folder ``mlruns`` beside an
            SQLite file, otherwise what the server says.
        **kwargs: Further arguments of Lightning's ``MLFlowLogger``.

    Raises:
        ConfigError: MLflow is not installed.
    """

    def __init__(
        self,
        save_dir: str | Path,
        experiment_name: str = "default",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        artifact_location: str | None = None,
        tags: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            import mlflow.tracking  # noqa: F401
        except ImportError as error:
            raise not_installed("MLflow", "mlflow", error) from error
        self._folder = Path(save_dir).expanduser()
        name, sweep = names_of(self._folder)
        uri = _absolute(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or LOCAL)
        # Lightning opens a database here and now, so it gets the address of a server, which is not asked anything
        super().__init__(
            experiment_name,
            run_name or name,
            "http://localhost",
            tags={**({"sweep": sweep} if sweep else {}), **(tags or {})},
            artifact_location=artifact_location or _beside(uri),
            **kwargs,
        )
        self._tracking_uri = uri

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._folder)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The ``MlflowClient``; it is made, and the run with it, when something of it is used."""
        return self._mlflow_client if self._initialized else AtFirstUse(self.begin)

    @property
    def run_id(self) -> str | None:
        """The id of the run, which begins with the question."""
        self.begin()
        return self._run_id

    @property
    def experiment_id(self) -> str | None:
        """The id of the experiment."""
        self.begin()
        return self._experiment_id

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write metrics; the ``epoch`` that Lightning adds to each call is left out."""
        self.log_rows([row_of(metrics, step)])

    @rank_zero_only
    def log_rows(self, rows: Sequence[Row]) -> None:
        """Write rows, a thousand values a call."""
        write_rows(self, rows)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Write parameters by flat names; one that the run has with another value already becomes a tag."""
        from mlflow.entities import Param, RunTag

        flat = _flatten_dict(_convert_params(params), ".")
        flat = {_accepted(name): str(value)[:_VALUE] for name, value in flat.items()}
        before = self.experiment.get_run(self.run_id).data.params
        new = [Param(name, value) for name, value in flat.items() if name not in before]
        changed = [RunTag(name, value) for name, value in flat.items() if before.get(name, value) != value]
        for kind, each in (("params", new), ("tags", changed)):
            for start in range(0, len(each), _PARAMS):
                self.experiment.log_batch(self.run_id, **{kind: each[start : start + _PARAMS]})

    @rank_zero_only
    def show(self, plan: str, config: str, picture: Path) -> None:
        """Put them among the run's artifacts."""
        self.experiment.log_text(self.run_id, plan, "plan.txt")
        self.experiment.log_text(self.run_id, config, "config.yaml")
        self.experiment.log_artifact(self.run_id, str(picture))

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Mark a run that an exception ends as failed; Lightning calls this after every stage."""
        if status == "failed":
            self._end(status)

    @rank_zero_only
    def close(self) -> None:
        """Mark the run as finished."""
        if kept_id(self._folder, "mlflow"):
            self.begin()  # a fork may have trained in place of this process
        self._end("success")

    def _end(self, status: str) -> None:
        if self._initialized:
            if (self._folder / FINDINGS).exists():
                self.experiment.log_artifact(self.run_id, str(self._folder / FINDINGS))
            super().finalize(status)

    @rank_zero_only
    def begin(self) -> Any:
        """Begin the run there, or go on with it; returns what `experiment` is from then on."""
        if not self._initialized:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException

            before = kept_id(self._folder, "mlflow")
            self._run_id = self._run_id or before
            try:
                if database := _file_of(self._tracking_uri):
                    database.parent.mkdir(parents=True, exist_ok=True)
                client = self._mlflow_client = MlflowClient(self._tracking_uri)
                if not self._run_id and client.get_experiment_by_name(self._experiment_name) is None:
                    client.create_experiment(self._experiment_name, self._artifact_location)  # Lightning would warn
                with unchanged("MLFLOW_TRACKING_URI"):
                    _ = super().experiment
                if before:
                    client.update_run(before, status="RUNNING")
            except (MlflowException, OSError) as error:
                self._initialized = False
                problem = f"MLflow can't begin the run: {_without_login(_first_line(error))}"
                remedy = f"give this logger a tracking_uri that answers, such as {LOCAL}"
                if before:
                    remedy += f"; if the run was deleted there, remove {self._folder / IDS} and another one begins"
                raise RunError(
                    Mistake("logger", problem, given=_without_login(self._tracking_uri), remedy=remedy)
                ) from error
            keep_id(self._folder, "mlflow", str(self._run_id))
        return self._mlflow_client


def write_rows(logger: MLFlowLogger, rows: Sequence[Row]) -> None:
    """Write rows to any logger of Lightning's MLflow family, on rank zero.

    A call takes a thousand values: with SQLite each call is a transaction of 20 ms, however little is in it.
    """
    from mlflow.entities import Metric

    prefix = prefix_of(logger)
    metrics = [
        Metric(_accepted(prefix + tag), float(value), int(row.wall_time * 1000), row.step)
        for row in rows
        for tag, value in row.values.items()
    ]
    for start in range(0, len(metrics), _METRICS):
        chunk = metrics[start : start + _METRICS]
        logger.experiment.log_batch(logger.run_id, metrics=chunk, **logger._log_batch_kwargs)


@lru_cache(maxsize=10_000)
def _accepted(name: str) -> str:
    """The name as MLflow takes it: other characters, and parts of a path that are no names, become ``_``."""
    parts = (_REFUSED.sub("_", part) for part in name.split("/"))
    accepted = "/".join("_" if part in ("", ".", "..") else part for part in parts)[:_NAME]
    if accepted != name:
        rank_zero_warn(f"MLflow takes no such name as {name!r}: it has {accepted!r} instead")
    return accepted


def _file_of(uri: str) -> Path | None:
    """The file of an SQLite database."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def _absolute(uri: str) -> str:
    """The same database from whatever working directory: MLflow opens one an address, and keeps it open."""
    database = _file_of(uri)
    return uri if database is None else f"{_SQLITE}{database.absolute()}"


def _beside(uri: str) -> str | None:
    """Where artifacts go: MLflow's own place would be the working directory."""
    database = _file_of(uri)
    return None if database is None else (database.parent / "mlruns").as_uri()


def _without_login(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
