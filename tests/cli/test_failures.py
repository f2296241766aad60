import errno
from pathlib import Path

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
