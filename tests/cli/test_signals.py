"""A run that is ended from outside says so: by its exit code, on stderr, and in its folder."""

import json
import signal
import time
from pathlib import Path

import pytest
from forked import Server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "said"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_ends_a_run(sent: signal.Signals, code: int, said: str, forked: Server, tmp_path: Path) -> None:
    command = ("-m", "lit_optim", "train", "data=digits", "trainer.max_epochs=2000")
    printed = tmp_path / "printed"
    with printed.open("w") as stream:
        run = forked.start(*command, cwd=tmp_path, stdout=stream.fileno(), stderr=stream.fileno())
    metrics: list[Path] = []
    bound = time.monotonic() + 90
    while not (metrics and json.loads(metrics[0].read_text())["epochs"] >= 1):
        assert run.poll() is None
        assert time.monotonic() < bound
        time.sleep(0.2)
        metrics = list(tmp_path.glob("runs/*/*/metrics.json"))
    run.send_signal(sent)
    assert run.wait(60) == code
    errors = printed.read_text()
    assert f"lit-optim: {said}" in errors
    assert "Traceback" not in errors
    assert json.loads(metrics[0].read_text())["status"] == "crashed"
