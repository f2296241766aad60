from __future__ import annotations

import io
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lit_optim.integration import standing
from lit_optim.integration.callbacks import ProgressBar, progress
from lit_optim.integration.findings_file import tell
from lit_optim.integration.tensorboard import RunLogger

# Lightning 2.6 asks for LeafSpec whenever it looks into loaders; torch 2.13 has deprecated it
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Stream:
    """A loader without a length."""

    def __init__(self, batches: int = 10) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.ones(self.batches, 4, 1).unbind())


class Batches(Stream):
    """A loader: Lightning takes a plain list for several loaders."""

    def __len__(self) -> int:
        return self.batches


class Clock:
    """Goes on only where a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A batch takes a second."""
    clock = Clock()
    for module in (progress, standing):
        monkeypatch.setattr(module, "monotonic", clock)
    monkeypatch.setattr(Tiny, "clock", clock)
    return clock


class Tiny(LightningModule):
    """Its loss is 2.5 at every step, whatever it learns."""

    clock = Clock()
    seconds = 1.0

    def __init__(self, lrs: tuple[float, ...] = (0.1,)) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.zeros(1) for _ in lrs)
        self.lrs = lrs

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.clock.now += self.seconds
        return sum(weight.sum() * 0 for weight in self.weights) + batch.mean() * 2.5

    def on_train_epoch_start(self) -> None:
        self.print("an epoch starts")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([{"params": [w], "lr": lr} for w, lr in zip(self.weights, self.lrs, strict=True)])


class Validated(Tiny):
    """Its accuracy is best in its first validation."""

    accuracies = (0.9137, 0.25, 0.5, 0.75)

    def on_validation_start(self) -> None:
        self.validations = getattr(self, "validations", -1) + (not self.trainer.sanity_checking)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.clock.now += self.seconds
        self.log("val/acc", self.accuracies[self.validations], batch_size=4)
        self.log("val/far_too_long_a_name_of_a_metric", 0.5, prog_bar=True, batch_size=4)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.clock.now += self.seconds


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    @property
    def drawn(self) -> list[str]:
        """All that the line has been, each once."""
        return [*dict.fromkeys(line.strip() for line in re.split(r"[\r\n]", self.getvalue()) if line.strip())]

    @property
    def stays(self) -> list[str]:
        """What the screen shows in the end."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for text in line.split("\r"):
                shown = text + shown[len(text) :]
            lines.append(shown.rstrip())
        return lines


Streams = tuple[Terminal, Terminal]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Streams]:
    """Makes stdout and stderr terminals of so many columns."""

    def made(columns: int) -> Streams:
        monkeypatch.setenv("COLUMNS", str(columns))
        streams = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", streams[0])
        monkeypatch.setattr(sys, "stderr", streams[1])
        return streams

    return made


def fit(
    bar: ProgressBar,
    module: LightningModule,
    folder: Path,
    train: Any = None,
    val: Any = None,
    monitor: str | None = "val/acc",
    ckpt_path: Path | None = None,
    **options: Any,
) -> Trainer:
    validates = isinstance(module, Validated)
    saver = ModelCheckpoint(folder, "best", monitor=monitor if validates else None, mode="max")
    saver.CHECKPOINT_NAME_LAST = "last"
    settings = {"max_epochs": 2, "accelerator": "cpu", "enable_model_summary": False, "log_every_n_steps": 1}
    more = options.pop("callbacks", [])
    trainer = Trainer(logger=RunLogger(folder), callbacks=[bar, saver, *more], **(settings | options))
    loaders = train or Batches(), val or (Batches(2) if validates else None)
    trainer.fit(module, *loaders, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def lines_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line != "an epoch starts"]


def test_a_log_gets_one_plain_line_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Validated(), tmp_path, accumulate_grad_batches=2)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "an epoch starts",
        "epoch 1/2  step 5  loss 2.5  val/acc 0.9137  best 0.9137  lr 0.1  val/far…_of_a_metric 0.5  0:12 left",
        "an epoch starts",
        "epoch 2/2  step 10  loss 2.5  val/acc 0.25  best 0.9137  lr 0.1  val/far…_of_a_metric 0.5  0:24 so far",
    ]
    assert "\r" not in printed.out + printed.err


def test_groups_that_differ_show_their_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Tiny((0.001, 0.02, 0.005)), tmp_path)
    assert capsys.readouterr().out.count("  lr 0.001…0.02  ") == 2


class Scheduled(Tiny):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        halving = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": halving, "interval": "step"}}


def test_the_lr_is_the_one_that_the_step_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Scheduled((1.0,)), tmp_path)
    lines = lines_in(capsys.readouterr().out)
    assert [line.split("lr ")[1].split()[0] for line in lines] == ["0.00195", "1.91e-06"]


def test_a_refresh_rate_of_zero_shows_nothing_of_its_own(
    tmp_path: Path, terminal: Callable[[int], Streams], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(ProgressBar(refresh_rate=0), Validated(), tmp_path)
    assert lines_in(capsys.readouterr().out) == []
    stdout, stderr = terminal(80)
    fit(ProgressBar(refresh_rate=0), Tiny(), tmp_path)
    assert (lines_in(stdout.getvalue()), stderr.getvalue()) == ([], "")


def test_a_terminal_of_80_columns_shows_what_counts(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    stdout, stderr = terminal(80)
    trainer = fit(ProgressBar(), Validated(), tmp_path, val=Batches(3))
    assert stderr.drawn[0] == "epoch 1/2    0%|                             |  0:00 so far  lr 0.1       step 0"
    assert "epoch 1/2   25%|████▎            |  0:15 left  loss 2.5      lr 0.1       step 5" in stderr.drawn
    assert "epoch 1/2   50%|███████       |  0:12 left  validating 2/3  lr 0.1       step 10" in stderr.drawn
    assert "epoch 2/2   75%|██████▊  |  0:06 left  loss 2.5      val/acc 0.9137  lr 0.1" in stderr.drawn
    assert all(len(line) <= 80 for line in stderr.drawn)
    assert stderr.stays == ["epoch 2/2  100%|███████████|  took 0:26  loss 2.5      val/acc 0.25  lr 0.1", ""]
    assert set(stdout.getvalue().split("\n")) == {"an epoch starts", ""}
    trainer.test(Validated(), Batches(5), verbose=False)
    assert "testing 2/5   40%|████████████                  |  0:03 left" in stderr.drawn
    assert stderr.stays[1:] == [""], "the line of a test is gone: its results come next"


def test_one_of_120_shows_more(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    _, stderr = terminal(120)
    fit(ProgressBar(), Validated(), tmp_path)
    shown = "|  0:07 left  loss 2.5      val/acc 0.9137  best 0.9137  lr 0.1       val/far…_of_a_metric 0.5"
    assert any(line.startswith("epoch 2/2   70%|") and shown in line for line in stderr.drawn)
    assert max(map(len, stderr.drawn)) <= 120


def test_the_end_that_comes_first_is_the_one_that_is_counted(
    tmp_path: Path, terminal: Callable[[int], Streams]
) -> None:
    _, stderr = terminal(80)
    fit(ProgressBar(), Tiny(), tmp_path, max_steps=5)
    assert any(line.startswith("step 2/5   40%|") and "  0:03 left  " in line for line in stderr.drawn)
    _, stderr = terminal(80)
    fit(ProgressBar(), Tiny(), tmp_path, max_epochs=1, max_steps=1_000)
    assert any(line.startswith("epoch 1/1   40%|") and "  0:06 left  " in line for line in stderr.drawn)


def test_nothing_is_promised_of_a_run_without_an_end(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    class Ended(Tiny):
        def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
            self.trainer.should_stop = self.trainer.global_step == 25

    _, stderr = terminal(80)
    fit(ProgressBar(), Ended(), tmp_path, max_epochs=-1)
    assert "epoch 2  0:15 so far  loss 2.5      lr 0.1       step 15  1 batches/s" in stderr.drawn
    assert not any("%" in line or "left" in line for line in stderr.drawn)


def test_a_stream_is_as_long_as_it_was_the_epoch_before(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    _, stderr = terminal(80)
    fit(ProgressBar(), Tiny(), tmp_path, train=Stream())
    assert "epoch 1/2  0:05 so far  loss 2.5      lr 0.1       step 5  1 batches/s" in stderr.drawn
    assert any(line.startswith("epoch 2/2   75%|") and "  0:05 left  " in line for line in stderr.drawn)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_resumed_run_goes_on_in_the_middle(tmp_path: Path, terminal: Callable[[int], Streams], clock: Clock) -> None:
    class Killed(Tiny):
        def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
            if batch_idx == 5:
                raise RuntimeError("killed")

    saver = ModelCheckpoint(tmp_path, "last", every_n_train_steps=5)
    with pytest.raises(RuntimeError, match="killed"):
        fit(ProgressBar(), Killed(), tmp_path, callbacks=[saver], max_epochs=1)
    clock.now += 1_000
    _, stderr = terminal(80)
    fit(ProgressBar(), Tiny(), tmp_path, ckpt_path=tmp_path / "last.ckpt", callbacks=[saver], max_epochs=1)
    assert stderr.drawn[0].startswith("epoch 1/1   50%|")
    assert any(line.startswith("epoch 1/1   80%|") and "  0:02 left  " in line for line in stderr.drawn)


def test_a_resumed_run_knows_its_best_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Validated(), tmp_path, max_epochs=1)
    module = Validated()
    module.accuracies = (0.25,)
    fit(ProgressBar(), module, tmp_path, ckpt_path=tmp_path / "best.ckpt")
    assert "val/acc 0.25  best 0.9137" in lines_in(capsys.readouterr().out)[-1]


def test_a_metric_by_name_has_no_best_value_where_nothing_says_what_is_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(ProgressBar(monitor="val/acc"), Validated(), tmp_path, monitor=None)
    assert "val/acc 0.25" in lines_in(capsys.readouterr().out)[-1]
    fit(ProgressBar(), Validated(), tmp_path, monitor=None)
    assert not re.search("acc|best", capsys.readouterr().out)


def test_validation_inside_of_an_epoch_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Validated(), tmp_path, val_check_interval=5)
    told = [re.sub(r"  loss.*  val/acc|  best.*", "", line) for line in lines_in(capsys.readouterr().out)]
    assert told == ["epoch 1/2  step 5 0.9137", "epoch 1/2  step 10 0.25", "epoch 2/2  step 15 0.5", "epoch 2/2  step 20 0.75"]  # fmt: skip # noqa: E501


def test_a_long_epoch_is_told_of_once_a_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Tiny()
    module.seconds = 25.0
    fit(ProgressBar(), module, tmp_path, max_epochs=-1, max_steps=9)
    assert lines_in(capsys.readouterr().out) == [
        "step 4/9  loss 2.5  lr 0.1  2:05 left",
        "step 8/9  loss 2.5  lr 0.1  0:25 left",
        "step 9/9  loss 2.5  lr 0.1  3:45 so far",
    ]


class Stopped(Tiny):
    """It stops early."""

    last = 120

    def on_train_epoch_end(self) -> None:
        self.trainer.should_stop = self.current_epoch + 1 == self.last


def epochs_in(text: str) -> list[int]:
    return [int(re.split("[ /]+", line)[1]) for line in lines_in(text)]


def test_the_line_of_a_long_epoch_waits_for_its_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Validated()
    module.seconds = 70.0
    fit(ProgressBar(), module, tmp_path, train=Batches(2), max_epochs=1)
    told = lines_in(capsys.readouterr().out)
    assert [("step 2" in line, "val/acc 0.9137" in line) for line in told] == [(True, True)]


def test_a_slow_first_batch_promises_nothing_slow(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    class Compiled(Tiny):
        def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
            self.clock.now += 600.0 * (self.global_step == 0)

    _, stderr = terminal(80)
    fit(ProgressBar(), Compiled(), tmp_path)
    assert any("15%|" in line and "  0:17 left  " in line for line in stderr.drawn)


def test_a_log_is_bounded_and_ends_with_the_last_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(ProgressBar(), Stopped(), tmp_path, train=Batches(1), max_epochs=500)
    assert epochs_in(capsys.readouterr().out) == [*range(1, 120, 5), 120]
    fit(ProgressBar(), Stopped(), tmp_path, train=Batches(1), max_epochs=-1)
    told = epochs_in(capsys.readouterr().out)
    assert told == [*range(1, 101), *range(102, 121, 2)], "without an end it thins out"


def test_it_is_not_silent_for_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = Stopped()
    module.seconds, module.last = 200.0, 8
    fit(ProgressBar(), module, tmp_path, train=Batches(1), max_epochs=2_000)
    assert epochs_in(capsys.readouterr().out) == [1, 4, 7, 8]


def test_the_log_in_a_file_and_the_line_in_the_terminal(
    tmp_path: Path, terminal: Callable[[int], Streams], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stderr = terminal(80)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    fit(ProgressBar(), Tiny(), tmp_path)
    assert len(lines_in(file.getvalue())) == 2
    assert "\r" not in file.getvalue()
    assert any("50%|" in line for line in stderr.drawn)


def test_the_cell_of_a_notebook_has_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cell(Terminal):
        __module__ = "ipykernel.iostream"

        def isatty(self) -> bool:
            return False

    cell = Cell()
    monkeypatch.setattr(sys, "stdout", cell)
    fit(ProgressBar(), Tiny(), tmp_path)
    assert any(line.startswith("epoch 2/2   80%|") for line in cell.drawn)
    assert "epoch 2/2  100%|" in cell.stays[-2]
    assert not any("step 20  loss" in line for line in cell.drawn), "a plain line besides"


def test_the_lines_of_finished_epochs_can_stay(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    stdout, _ = terminal(80)
    fit(ProgressBar(leave=True), Tiny(), tmp_path)
    assert [line[:18] for line in lines_in(stdout.getvalue())] == ["epoch 1/2  step 10", "epoch 2/2  step 20"]


def test_what_is_printed_stands_above_the_line(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    class Telling(Tiny):
        def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
            if batch_idx == 5:
                tell(["step 5: a finding"], tmp_path)  # type: ignore[list-item]

    _, stderr = terminal(80)
    fit(ProgressBar(), Telling(), tmp_path, max_epochs=1)
    assert stderr.stays[0] == "lit-optim: step 5: a finding"
    assert stderr.stays[1].startswith("epoch 1/1  100%|")


def test_an_error_begins_on_a_line_of_its_own(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    class Failing(Tiny):
        def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
            raise RuntimeError("no")

    _, stderr = terminal(80)
    with pytest.raises(RuntimeError, match="no"):
        fit(ProgressBar(), Failing(), tmp_path)
    assert stderr.stays[0].startswith("epoch 1/2    5%|")
    assert stderr.stays[1:] == [""]


class Counting(ProgressBar):
    read = 0

    def get_metrics(self, *args: Any) -> Any:
        self.read += 1
        return super().get_metrics(*args)


def test_the_device_is_waited_for_only_when_the_line_is_redrawn(
    tmp_path: Path, terminal: Callable[[int], Streams]
) -> None:
    terminal(80)
    module, bar = Tiny(), Counting()
    module.seconds = 0.05
    fit(bar, module, tmp_path, train=Batches(20), max_epochs=1)
    assert bar.read == 1 + 4 + 2, "before the first batch, each 0.2 s of one, and twice in the end"
    module.seconds, bar = 1.0, Counting(refresh_rate=5)
    fit(bar, module, tmp_path, max_epochs=1)
    assert bar.read == 1 + 2 + 2, "at batches 5 and 10"


def test_other_ranks_show_nothing() -> None:
    bar = ProgressBar()
    bar.setup(SimpleNamespace(is_global_zero=False), Tiny(), "fit")  # type: ignore[arg-type]
    assert not bar.is_enabled


def test_it_goes_to_another_process(tmp_path: Path, terminal: Callable[[int], Streams]) -> None:
    terminal(80)
    bar = ProgressBar(leave=True)
    fit(bar, Tiny(), tmp_path, max_epochs=1)
    bar._trainer = None
    assert pickle.loads(pickle.dumps(bar)).is_enabled
