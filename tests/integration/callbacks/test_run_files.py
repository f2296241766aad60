from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from torch import Tensor
from torch.nn.functional import cross_entropy

import lit_optim as lo
from lit_optim.integration.callbacks import Recorder, RunFiles
from lit_optim.integration.run_folder import RunFolder
from lit_optim.integration.tensorboard import RunLogger
from lit_optim.models import MLP
from lit_optim.runs.reading import read_run

EPOCHS, BATCHES = 2, 3
DRAWS = torch.Generator().manual_seed(0)
DATA = [(torch.randn(4, 3, generator=DRAWS), torch.tensor([0, 1, 2, 0])) for _ in range(BATCHES)]
RECIPE: dict[str, Any] = {
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
    "schedule": {"lr": {"_target_": "lit_optim.schedules.Linear"}},
}
SETTINGS = {"config.yaml": "seed: 7\nname: mine\n", "overrides.yaml": "- seed=7\n"}
HPARAMS = {"seed": 7, "optimizer.lr": 0.1, "name": "mine"}


class Batches:
    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(DATA)


class Run:
    """A fit and a test with a run's files, in a folder."""

    def __init__(self, path: Path, *callbacks: Callback, **settings: Any) -> None:
        torch.manual_seed(0)
        self.path = path
        self.module = lo.LitClassifier(MLP(3, (4,), 3), RECIPE)
        folder = RunFolder(path)
        folder.check_free()  # before the logger opens its file in there
        self.files = RunFiles(folder, SETTINGS, HPARAMS)
        settings = {"max_epochs": EPOCHS, "logger": RunLogger(path), "log_every_n_steps": 1} | settings
        self.trainer = Trainer(
            accelerator="cpu",
            callbacks=[Recorder(), *callbacks, self.files],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=1,
            **settings,
        )

    def fit(self) -> Run:
        self.trainer.fit(self.module, Batches(), Batches())
        return self

    def test(self) -> Run:
        self.trainer.test(self.module, Batches(), verbose=False)
        self.files.finish(self.trainer)
        return self

    @property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.path / "metrics.json").read_text())


class Reads(Callback):
    """What metrics.json said at each moment of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path / "metrics.json"
        self.seen: list[dict[str, Any]] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append(json.loads(self.path.read_text()))


class Dies(Callback):
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 4:
            raise RuntimeError("out of memory")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run") / "folder").fit().test()


def test_leaves_config_plan_picture_metrics_and_one_events_file(finished: Run) -> None:
    names = {str(path.relative_to(finished.path)) for path in finished.path.rglob("*") if path.is_file()}
    [events] = [name for name in names if name.startswith("events.out.tfevents.")]
    assert names == {".hydra/config.yaml", ".hydra/overrides.yaml", "plan.json", "plan.png", "metrics.json", events}
    assert not [name for name in names if "=" in name]
    assert (finished.path / ".hydra" / "config.yaml").read_text() == SETTINGS["config.yaml"]


def test_the_plan_on_disk_is_the_plan_that_ran(finished: Run) -> None:
    plan = lo.Plan.from_json((finished.path / "plan.json").read_text())
    assert plan == finished.files.plan == finished.trainer.lr_scheduler_configs[0].scheduler.plan
    assert plan.horizon.total_steps == finished.trainer.global_step == EPOCHS * BATCHES
    lrs = [point.value for point in events_of(finished.path).Scalars("lr/default")]
    np.testing.assert_array_equal(np.float32(lrs), np.float32(plan.curve("default", "lr")))


def test_the_picture_is_a_png(finished: Run) -> None:
    assert (finished.path / "plan.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_metrics_of_a_finished_run(finished: Run) -> None:
    metrics = finished.metrics
    assert set(metrics) == {"status", "final", "best", "steps", "epochs", "tested", "host", "seconds"}
    assert metrics["status"] == "finished"
    assert set(metrics["final"]) == {"val/loss", "val/acc", "test/loss", "test/acc"} == set(metrics["best"])
    assert (metrics["steps"], metrics["epochs"]) == (EPOCHS * BATCHES, EPOCHS)
    assert 0 < metrics["seconds"] < 60
    with torch.no_grad():
        loss = sum(cross_entropy(finished.module(x), y).item() for x, y in DATA) / BATCHES
        hits = sum(int((finished.module(x).argmax(dim=1) == y).sum()) for x, y in DATA)
    assert metrics["final"]["test/loss"] == pytest.approx(loss) == finished.files.final["test/loss"]
    assert metrics["final"]["test/acc"] == pytest.approx(hits / 12)


def test_best_is_the_lowest_loss_and_the_highest_accuracy_of_the_curve(finished: Run) -> None:
    events = events_of(finished.path)
    for tag, choose in (("val/loss", min), ("val/acc", max)):
        points = [(point.value, point.step) for point in events.Scalars(tag)]
        assert finished.metrics["final"][tag] == points[-1][0]
        assert finished.metrics["best"][tag]["value"] == choose(value for value, _ in points)
    steps = [point.step for point in events.Scalars("val/loss")]
    assert steps[-1] in (EPOCHS * BATCHES - 1, EPOCHS * BATCHES)
    assert finished.metrics["best"]["val/loss"]["step"] in (BATCHES, EPOCHS * BATCHES)


@pytest.mark.parametrize(
    ("tag", "values", "best"),
    [
        ("val/loss", [3.0, 1.0, 2.0], (1.0, 1)),
        ("val/acc", [0.1, 0.9, 0.5], (0.9, 1)),
        ("val/error", [0.5, 0.5, 0.4], (0.4, 2)),
        ("val/f1", [0.5, 0.5, 0.4], (0.5, 0)),  # the first of equals
        ("val/perplexity", [float("nan"), 7.0, 8.0], (7.0, 1)),
        ("val/acc", [float("inf"), 0.2, 0.1], (0.2, 1)),
    ],
)
def test_best_follows_the_kind_of_the_metric(tmp_path: Path, tag: str, values: list[float], best: Any) -> None:
    files = RunFiles(RunFolder(tmp_path), {}, {})

    class Stub:
        lr_scheduler_configs = ()
        global_step = 0
        callback_metrics: dict[str, float] = {}  # noqa: RUF012
        sanity_checking = False

    for step, value in enumerate(values):
        Stub.global_step, Stub.callback_metrics = step, {tag: value}
        files.on_validation_epoch_end(Stub(), None)  # type: ignore[arg-type]
    files._write_metrics("running", Stub())  # type: ignore[arg-type]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["best"] == {tag: {"value": best[0], "step": best[1]}}
    assert metrics["final"] == {tag: values[-1]}


def test_a_metric_that_is_not_a_number_is_null_in_valid_json(tmp_path: Path) -> None:
    files = RunFiles(RunFolder(tmp_path), {}, {})

    class Stub:
        lr_scheduler_configs = ()
        global_step = 1
        callback_metrics = {"val/loss": float("nan")}  # noqa: RUF012

    files.on_test_epoch_end(Stub(), None)  # type: ignore[arg-type]
    files._write_metrics("finished", Stub())  # type: ignore[arg-type]
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["final"] == {"val/loss": None}
    assert json.loads(text)["best"] == {}


@pytest.mark.parametrize(("due", "taken", "told"), [(8, 6, 2), (8, 8, None)])
def test_steps_that_were_not_taken_are_counted(due: int, taken: int, told: int | None, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    plan = lo.make_plan(model, {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}, lo.Horizon(8))
    _, made = lo.build(model, plan)
    made.load_state_dict({"last_epoch": taken})

    class Stub:
        global_step = due
        lr_scheduler_configs = (SimpleNamespace(scheduler=made),)

    RunFiles(RunFolder(tmp_path), {}, {})._write_metrics("running", Stub())  # type: ignore[arg-type]
    assert json.loads((tmp_path / "metrics.json").read_text()).get("skipped") == told


def test_whoever_looks_sees_it_run_until_it_has_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path, logger=False).fit()
    write, seen = RunFolder.write_metrics, []

    def watched(folder: RunFolder, metrics: Any) -> None:
        seen.append(read_run(tmp_path).status)
        write(folder, metrics)
        seen.append(read_run(tmp_path).status)

    monkeypatch.setattr(RunFolder, "write_metrics", watched)
    run.test()
    assert seen == ["running", "finished"]


def test_a_running_run_says_so_and_how_far_it_is(tmp_path: Path) -> None:
    reads = Reads(tmp_path)
    Run(tmp_path, reads, logger=False).fit()
    assert [seen["status"] for seen in reads.seen] == ["running"] * (EPOCHS * BATCHES)
    assert [seen["epochs"] for seen in reads.seen] == [0, 0, 0, 1, 1, 1]
    assert [seen["steps"] for seen in reads.seen] == [0, 0, 0, 3, 3, 3]
    assert reads.seen[0]["final"] == {}  # the sanity check's numbers are no result
    assert set(reads.seen[-1]["final"]) == {"val/loss", "val/acc"}


def test_a_run_that_dies_is_marked_crashed_with_what_it_had(tmp_path: Path) -> None:
    run = Run(tmp_path, Dies())
    with pytest.raises(RuntimeError, match="out of memory"):
        run.fit()
    assert run.files.has_started
    assert (run.metrics["status"], run.metrics["steps"], run.metrics["epochs"]) == ("crashed", 4, 1)
    assert run.metrics["error"] == "RuntimeError: out of memory"
    assert set(run.metrics["final"]) == {"val/loss", "val/acc"}
    run.trainer.loggers[0].close()


def test_a_run_that_is_refused_before_its_first_step_writes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", logger=False)
    run.module.recipe = lo.Recipe.from_config(RECIPE | {"rules": {"head": {"match": "nope", "lr": 1.0}}})
    with pytest.raises(lo.PlanError):
        run.fit()
    assert not run.files.has_started
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_run_stops_the_fit_before_its_first_step(tmp_path: Path) -> None:
    run = Run(tmp_path, logger=False)
    run.files.folder = RunFolder(tmp_path)
    (tmp_path / "metrics.json").write_text("theirs")
    with pytest.raises(lo.RunError, match="already holds a run"):
        run.fit()
    assert run.trainer.global_step == 0
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("metrics.json", "theirs")]


def test_prints_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, logger=False).fit()
    assert str(run.files.plan) in capsys.readouterr().out


# --- the dashboard ---------------------------------------------------------------------------------------------------


def events_of(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()


def test_the_dashboard_has_curves_texts_and_the_picture(finished: Run) -> None:
    tags = events_of(finished.path).Tags()
    assert set(tags["scalars"]) == {
        "train/loss", "lr/default", "weight_decay/default", "momentum/default",
        "val/loss", "val/acc", "test/loss", "test/acc",
        "best/val/loss", "best/val/acc", "best/test/loss", "best/test/acc",
    }  # fmt: skip
    assert set(tags["tensors"]) >= {"plan/text_summary", "config/text_summary", "custom_scalars__config__"}
    assert tags["images"] == ["plan"]


def test_the_dashboard_shows_plan_and_config_as_they_are(finished: Run) -> None:
    events = events_of(finished.path)
    plan, config = (
        events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode() for tag in ("plan", "config")
    )
    assert config == "    seed: 7\n    name: mine"
    assert finished.files.plan is not None
    assert finished.files.plan.hash in plan
    assert all(line.startswith("    ") for line in plan.splitlines())
    assert events.Images("plan")[0].encoded_image_string == (finished.path / "plan.png").read_bytes()


def test_hparams_stand_beside_real_results(finished: Run) -> None:
    events = events_of(finished.path)
    metadata = {
        tag: plugin_data_pb2.HParamsPluginData.FromString(content)
        for tag, content in events.PluginTagToContent("hparams").items()
    }
    started = metadata["_hparams_/session_start_info"].session_start_info.hparams
    assert (started["seed"].number_value, started["optimizer.lr"].number_value) == (7.0, 0.1)
    assert started["name"].string_value == "mine"
    assert [point.value for point in events.Scalars("test/acc")] == [
        pytest.approx(finished.metrics["final"]["test/acc"])
    ]


def test_best_values_have_tags_that_come_first(finished: Run) -> None:
    events = events_of(finished.path)
    for tag, best in finished.metrics["best"].items():
        assert [point.value for point in events.Scalars(f"best/{tag}")] == [pytest.approx(best["value"])]
    assert all(tag.startswith("best/") for tag in sorted(events.Tags()["scalars"])[:4])  # HPARAMS shows five at first


@pytest.mark.parametrize("dies", [True, False])
def test_a_run_is_in_the_table_from_its_first_step(tmp_path: Path, dies: bool) -> None:
    run = Run(tmp_path, *([Dies()] if dies else []))
    with contextlib.suppress(RuntimeError):
        run.fit()
    tags = events_of(tmp_path).PluginTagToContent("hparams")
    ended = plugin_data_pb2.HParamsPluginData.FromString(tags.get("_hparams_/session_end_info", b""))
    assert "_hparams_/session_start_info" in tags
    assert ended.session_end_info.status == (api_pb2.STATUS_FAILURE if dies else api_pb2.STATUS_UNKNOWN)


def test_nothing_is_recorded_twice(finished: Run) -> None:
    events = events_of(finished.path)
    assert "hp_metric" not in events.Tags()["scalars"]
    for tag in events.Tags()["scalars"]:
        steps = [point.step for point in events.Scalars(tag)]
        assert len(steps) == len(set(steps)), tag
