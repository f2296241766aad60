from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples in every run: a test that fails does so for everyone, and again.
settings.register_profile("lit_optim", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("lit_optim")


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes Trainers on one thread of the CPU that leave nothing behind and show nothing."""
    import torch
    from lightning.pytorch import Trainer

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda **more: Trainer(
        **{"accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path, **quiet, "max_epochs": 1, **more}
    )
    torch.set_num_threads(threads)
