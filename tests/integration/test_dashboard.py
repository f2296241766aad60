from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext

from lit_optim.integration.dashboard import layout
from lit_optim.measurement import QUANTITIES


def charts_of(tag: str, prefix: str = "") -> list[str]:
    """The charts that show a tag; TensorBoard's page hands an expression that is alone to its server as it is."""
    charts = [chart for charts in layout(prefix).values() for chart in charts.items()]
    return [title for title, (_, [expression]) in charts if re.match(expression, tag)]


@pytest.mark.parametrize(
    ("chart", "tags"),
    [
        ("Loss", ["train/loss", "val/loss", "test/loss", "loss", "val_loss_epoch", "loss/dataloader_idx_0", "BCELoss"]),
        ("Accuracy", ["val/acc", "test/acc", "acc", "val_accuracy", "Acc@5", "acc1", "top5_acc", "MulticlassAccuracy"]),
        ("Learning rates", ["lr/head.no_decay", "lr/blocks.0/attn", "lr/loss", "lr", "lr-SGD", "lr-SGD/pg1"]),
        ("Weight decay", ["weight_decay/default", "weight_decay/acc", "lr-SGD/pg1-weight_decay"]),
        ("Momentum", ["momentum/default", "momentum/val/loss", "lr-SGD-momentum"]),
        ("Gradient norm", ["grad_norm/default", "grad_norm/acc", "total/grad_norm"]),
        ("Gradient norm, clipped", ["grad_norm_clipped/default", "total/grad_norm_clipped"]),
        ("Dead ReLU units (share)", ["dead_relu/net.layer.1", "dead_relu/loss.0", "total/dead_relu"]),
        ("Update norm / parameter norm", ["update_ratio/optimizer0.group1", "total/update_ratio"]),
        ("Effective step of Adam", ["effective_step/a/b"]),
        (None, ["best/val/loss", "best/val/acc", "val/f1", "account/size", "lossless", "lrs/a", "grad_normal/a"]),
    ],
)
def test_a_tag_is_in_the_chart_that_it_belongs_to_alone(chart: str | None, tags: list[str]) -> None:
    assert {tag: charts_of(tag) for tag in tags} == {tag: [chart] if chart else [] for tag in tags}
    assert {tag: charts_of(f"a.b-{tag}", "a.b-") for tag in tags} == {tag: charts_of(tag) for tag in tags}


def test_the_prefix_stands_for_itself() -> None:
    assert charts_of("a.b-lr/head", "a.b-") == ["Learning rates"]
    assert charts_of("axb-lr/head", "a.b-") == []


@pytest.mark.parametrize("quantity", [*QUANTITIES, "dead_relu"])
def test_whatever_the_monitor_measures_has_a_chart(quantity: str) -> None:
    assert len(charts_of(f"{quantity}/default")) == 1
    assert charts_of(f"{quantity}/default") == charts_of(f"total/{quantity}")


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated:DeprecationWarning")  # tensorboard's own
def test_tensorboard_shows_the_layout_once_however_many_runs_have_it(tmp_path: Path) -> None:
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
    from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin

    for run in ("a", "b"):
        logger = TensorBoardLogger(tmp_path, name="", version=run)
        for _ in range(2):  # as a run does that goes on
            logger.experiment.add_custom_scalars(layout())
        logger.log_metrics({f"lr/{run}.0/x": 0.1, "train/loss": 2.0, "best/train/loss": 1.0}, 0)
        logger.experiment.close()
    multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = TBContext(logdir=str(tmp_path), multiplexer=multiplexer, data_provider=provider)
    context.plugin_name_to_instance = {"scalars": ScalarsPlugin(context)}
    plugin = CustomScalarsPlugin(context)
    shown = json.loads(plugin.layout_impl(RequestContext(), ""))
    assert {one["title"]: [chart["title"] for chart in one["chart"]] for one in shown["category"]} == {
        category: [*charts] for category, charts in layout().items()
    }
    training = {chart["title"]: chart["multiline"]["tag"] for chart in shown["category"][0]["chart"]}
    found = {title: plugin.scalars_impl(RequestContext(), "b", tags[0], "") for title, tags in training.items()}
    assert all(one["regex_valid"] for one in found.values())
    assert {title: [*one["tag_to_events"]] for title, one in found.items()} == {
        "Loss": ["train/loss"], "Accuracy": [], "Learning rates": ["lr/b.0/x"],
    }  # fmt: skip
