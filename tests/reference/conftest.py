from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """A Trainer on the CPU that leaves nothing behind and shows nothing."""

    def make(**arguments: Any) -> pl.Trainer:
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        return pl.Trainer(**{"accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path, **quiet, **arguments})

    return make
