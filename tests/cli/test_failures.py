import errno
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from lit_optim.cli.failures import translated
from lit_optim.errors import ConfigError, PlanError, RunError


def test_a_full_disk_and_a_file_in_the_folder_are_the_folder_s_fault(tmp_path: Path) -> None:
    assert isinstance(translated(OSError(errno.ENOSPC, "No space left"), tmp_path, started=True), RunError)
    inside = OSError(errno.EACCES, "Permission denied", str(tmp_path / "plan.json"))
    assert isinstance(translated(inside, tmp_path, started=False), RunError)


def test_a_file_of_the_user_s_is_not(tmp_path: Path) -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file", "/data/of/the/user.bin")
    assert translated(error, tmp_path, started=False) is error


def test_an_exit_is_an_interrupt_only_where_it_began_as_one(tmp_path: Path) -> None:
    own = SystemExit(0)
    assert translated(own, tmp_path, started=True) is own
    lightnings = SystemExit(1)
    lightnings.__context__ = KeyboardInterrupt()
    assert isinstance(translated(lightnings, tmp_path, started=True), KeyboardInterrupt)


def test_a_refusal_stays_what_it_is(tmp_path: Path) -> None:
    error = PlanError()
    assert translated(error, tmp_path, started=False) is error


def test_a_monitor_that_is_not_logged_is_named(tmp_path: Path) -> None:
    error = MisconfigurationException("`ModelCheckpoint(monitor='x')` could not find the key. HINT: Did you?")
    told = translated(error, tmp_path, started=True)
    assert isinstance(told, ConfigError)
    assert told.mistakes[0].key == "callbacks.checkpoint.monitor"
    stopping = RuntimeError("Early stopping conditioned on metric `val/los` which is not available.")
    assert isinstance(translated(stopping, tmp_path, started=True), ConfigError)


@pytest.mark.slow
def test_a_parameter_that_ddp_waits_for_is_told_with_the_way_out(process: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Unused(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(64, 10)\n"
        "        self.extra = nn.Linear(2, 2)\n"
        "    def forward(self, x):\n"
        "        return super().forward(x.flatten(1))\n"
    )
    common = ["data=digits", "model=own", "model._target_=mine.Unused", "trainer=ddp_cpu", "trainer.max_epochs=1"]
    ended = process("train", *common, "test=false")
    assert ended.code == 1
    assert "trainer.strategy: a parameter got no gradient, and DistributedDataParallel waits" in ended.err
    assert "Traceback" not in ended.err
    ended = process("train", *common, "test=false", "trainer.strategy=ddp_find_unused_parameters_true")
    assert ended.code == 0, ended.err


def test_what_a_library_stumbles_over_before_the_start_is_the_config_s_fault(tmp_path: Path) -> None:
    with pytest.raises(TypeError) as caught:
        Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, limit_val_batches="foo")
    told = translated(caught.value, tmp_path, started=False)
    assert isinstance(told, ConfigError)
    assert told.mistakes[0].key == "trainer"
    assert translated(caught.value, tmp_path, started=True) is caught.value


def test_a_bug_of_the_user_s_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    assert translated(caught.value, tmp_path, started=False) is caught.value
