from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from lit_optim.errors import RunError
from lit_optim.integration.rows import Row
from lit_optim.integration.tensorboard import RunLogger, write_rows

# Lightning 2.6 asks for LeafSpec whenever it looks into loaders; torch 2.13 has deprecated it
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Batches:
    """A loader: Lightning takes a plain list for several loaders."""

    def __init__(self, batches: torch.Tensor) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.batches.unbind())


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = events(folder)
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def events_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if "tfevents" in path.name)


class Tiny(LightningModule):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()  # Lightning then hands them to the logger at the start of fit
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).square().mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch).square().mean(), batch_size=len(batch))

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("test/loss", self.layer(batch).square().mean(), batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(logger: Any) -> Trainer:
    return Trainer(
        max_epochs=2,
        logger=logger,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def test_fit_and_test_share_one_file_that_holds_metrics_and_nothing_else(tmp_path: Path) -> None:
    batches = Batches(torch.randn(3, 4, 3))
    logger = RunLogger(tmp_path)
    fitted = trainer(logger)
    module = Tiny()
    fitted.fit(module, batches, batches)
    first_file = events_files(tmp_path)
    assert {"val/loss"} == set(scalars(tmp_path)), "the end of fit brings everything to disk"
    fitted.test(module, batches, verbose=False)
    logger.close()
    assert events_files(tmp_path) == first_file == list(tmp_path.iterdir()), "no version_0, no hparams.yaml"
    written = scalars(tmp_path)
    assert set(written) == {"val/loss", "test/loss"}
    assert [step for step, _ in written["val/loss"]] == [2, 5]
    assert written["test/loss"] == [(6, pytest.approx(fitted.callback_metrics["test/loss"].item()))]
    assert events(tmp_path).Tags()["tensors"] == []
    assert logger.log_dir == fitted.log_dir == str(tmp_path)


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    logger.close()
    assert events_files(tmp_path) == []
    logger.log_metrics({"val/acc": 0.5}, step=3)
    logger.close()
    logger.close()
    logger.finalize("success")
    assert len(events_files(tmp_path)) == 1
    assert scalars(tmp_path) == {"val/acc": [(3, 0.5)]}


def test_final_metrics_add_no_second_point_to_a_curve(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    logger.log_metrics({"val/acc": 0.5}, step=7)
    write_rows(logger, [Row(9, 1.0, {"train/loss": 2.0})])
    logger.log_end({"val/acc": 0.5, "train/loss": 2.0, "best/val/acc": 0.75})
    assert scalars(tmp_path) == {"val/acc": [(7, 0.5)], "train/loss": [(9, 2.0)], "best/val/acc": [(9, 0.75)]}
    logger.close()


def test_hyperparameters_are_written_only_beside_results(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.1})
    assert events_files(tmp_path) == []
    logger.log_hyperparams({"lr": 0.1}, {"val/acc": 0.5})
    assert set(scalars(tmp_path)) == {"val/acc"}
    assert "_hparams_/session_start_info" in events(tmp_path).summary_metadata
    assert "_hparams_/experiment" not in events(tmp_path).summary_metadata
    logger.close()


def test_a_figure_is_stored_byte_for_byte(tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.savefig(picture)
    logger = RunLogger(tmp_path / "run")
    logger.log_figure("plan", picture)
    (shown,) = events(tmp_path / "run").Images("plan")
    assert (shown.width, shown.height) == (100, 50)
    assert shown.encoded_image_string == picture.read_bytes()
    logger.close()


def test_a_figure_that_is_no_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.png").write_text("<svg/>")
    with pytest.raises(RunError, match="not a PNG file") as refusal:
        RunLogger(tmp_path).log_figure("plan", tmp_path / "plan.png")
    assert refusal.value.mistakes[0].given == str(tmp_path / "plan.png")


def test_text_is_on_disk_at_once(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    logger.log_text("plan", "two groups")
    (shown,) = events(tmp_path).Tensors("plan/text_summary")
    assert shown.tensor_proto.string_val == [b"two groups"]
    logger.close()


@pytest.mark.parametrize("has_its_file", [True, False])
def test_rows_come_back_as_they_went_in(tmp_path: Path, has_its_file: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="", prefix="run")
    logger.log_metrics({"before": 1.0}, step=0)
    if not has_its_file:  # a tensorboard with other internals
        writer = logger.experiment._get_file_writer().event_writer
        monkeypatch.delattr(writer, "_general_file_writer")
    rows = [Row(0, 10.5, {"a": 1.0}), Row(1, 11.5, {"a": float("nan"), "b": -2.0}), Row(2**40, 12.5, {"b": 1e300})]
    write_rows(logger, rows)
    logger.log_metrics({"after": 1.0}, step=3)
    logger.experiment.flush()
    found = events(tmp_path)
    assert {tag: len(found.Scalars(tag)) for tag in found.Tags()["scalars"]} == {
        "run-before": 1,
        "run-a": 2,
        "run-b": 2,
        "run-after": 1,
    }
    assert [(e.step, e.wall_time, str(e.value)) for e in found.Scalars("run-a")] == [(0, 10.5, "1.0"), (1, 11.5, "nan")]
    assert [(e.step, e.wall_time, e.value) for e in found.Scalars("run-b")] == [
        (1, 11.5, -2.0),
        (2**40, 12.5, float("inf")),
    ]
    logger.experiment.close()


def test_rows_keep_their_place_among_what_is_still_queued(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    for step in range(300):
        logger.log_metrics({"val/acc": 0.5}, step)
    write_rows(logger, [Row(300, 1.0, {"train/loss": 2.0})])
    logger.log_metrics({"val/acc": 0.5}, step=301)
    logger.close()
    (file,) = events_files(tmp_path)
    steps = [event.step for event in LegacyEventFileLoader(str(file)).Load() if event.HasField("summary")]
    assert steps == list(range(302))
