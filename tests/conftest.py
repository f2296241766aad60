from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import pytest
from forked import Server
from hypothesis import settings

# Read when torch is imported, here and in every process that a test starts: small models gain nothing from more
# threads, and on a busy machine they wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No tracker tells its makers of the tests, asks a server, or writes into the home folder.
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_CACHE_DIR": f"{gettempdir()}/lit-optim-tests",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
}
os.environ.pop("MLFLOW_TRACKING_URI", None)

# The same examples in every run: a test that fails does so for everyone, and again.
settings.register_profile("lit_optim", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("lit_optim")


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Any]:
    """Makes Trainers on the CPU that leave nothing behind and show nothing."""
    from lightning.pytorch import Trainer

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return lambda **more: Trainer(
        **{"accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path, **quiet, "max_epochs": 1, **more}
    )


_READ: list[Any] = []  # what MNIST5k has read from its text file


@pytest.fixture
def digits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets this process read the handwritten digits once: it takes longer than training on them."""
    from lit_optim.data import MNIST5k

    read = MNIST5k.load

    def load(self: MNIST5k) -> Any:
        if not _READ:
            _READ.append(read(self))
        return _READ[0]

    monkeypatch.setattr(MNIST5k, "load", load)


@pytest.fixture(scope="session")
def forked() -> Iterator[Server]:
    """Starts Python processes that have imported everything."""
    with TemporaryDirectory() as folder:  # a short path, as a socket's has to be
        server = Server(f"{folder}/socket")
        yield server
        server.close()


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take it seconds to make."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    return path


@pytest.fixture
def mlflow_database(empty_mlflow: Path, tmp_path: Path) -> Iterator[str]:
    """The address of one where a run in ``tmp_path`` looks for it."""
    path = tmp_path / "runs" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_mlflow, path)
    yield f"sqlite:///{path}"
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # where Lightning's own logger has MLflow put it
