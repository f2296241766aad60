"""A run that is ended from outside says so: by its exit code, on stderr, and in its folder."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
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
    if sent == signal.SIGTERM:
        folder = metrics[0].parent.relative_to(tmp_path)
        step = torch.load(metrics[0].parent / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        assert errors.endswith(f"lit-optim: terminated\nlit-optim resume {folder} goes on from step {step:,}\n")


ENDED = """
import os, signal
from lightning.pytorch import Callback

class Ended(Callback):
    def __init__(self, moment):
        setattr(self, moment, lambda *args, **more: os.kill(os.getpid(), signal.SIGTERM))
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["setup", "on_test_batch_start"])
def test_the_signal_ends_what_does_not_train(moment: str, process: Any, lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "ended.py").write_text(ENDED)
    small = ("data=digits", "trainer.max_epochs=2", "trainer.limit_train_batches=2", "hydra.run.dir=run")
    ended = process("train", *small, "+callbacks.ended._target_=ended.Ended", f"+callbacks.ended.moment={moment}")
    assert ended.code == 143, ended.err
    assert "lit-optim: terminated" in ended.err
    assert "Traceback" not in ended.err
    if moment == "setup":
        assert not (tmp_path / "run").exists()
        return
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["status"] == "crashed"
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["optimizer_states"]  # and not the tested weights
    assert lit_optim_("resume", "run", "callbacks.ended=null").code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert "test/acc" in metrics["final"]
