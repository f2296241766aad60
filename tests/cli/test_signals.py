"""A run that is ended from outside says so: by its exit code, on stderr, and in its folder."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "said"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_ends_a_run(sent: signal.Signals, code: int, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lit_optim", "train", "trainer.max_epochs=100000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        metrics: list[Path] = []
        bound = time.monotonic() + 90
        while not (metrics and json.loads(metrics[0].read_text())["epochs"] >= 1):
            assert run.poll() is None
            assert time.monotonic() < bound
            time.sleep(0.2)
            metrics = list(tmp_path.glob("runs/*/*/metrics.json"))
        run.send_signal(sent)
        _, errors = run.communicate(timeout=60)
    assert run.returncode == code
    assert f"lit-optim: {said}" in errors
    assert "Traceback" not in errors
    assert json.loads(metrics[0].read_text())["status"] == "crashed"
