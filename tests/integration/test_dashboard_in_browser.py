"""What a person sees: each tab of TensorBoard in a real browser, over five runs and one that has crashed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Server

import lit_optim as lo
from lit_optim.render import plan_text
from lit_optim.runs.events import tags_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TINY = ("data=digits", "trainer.max_epochs=2", "data.batch_size=128", "model.hidden_dims=[16]")
OFTEN = [f"callbacks.monitor.{one}=4" for one in ("every", "zero_grads", "effective_step", "dead_relu")]
RUNS = (  # whose keys differ, and for one key the kinds of its values
    ("-m", "optimizer=sgd,momentum,adamw"),
    ("-m", "optimizer=adamw", "optimizer.betas=[0.8,0.99],[0.9,0.95]", "schedule.lr.warmup=3"),
    ("optimizer=nesterov", "+callbacks.dies._target_=own.Dies"),
)
OWN = """
from lightning.pytorch import Callback
class Dies(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 13:
            raise RuntimeError("out of memory")
"""
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-component-update", "--disable-sync")
TIMEOUT = 60_000  # ms, on a machine that has much else to do
LINES = ".line-plot:not(.ghost) path.line"
RIGHT = "one => one.getBoundingClientRect().right"
ROWS = """grid => [...grid.shadowRoot.querySelectorAll('#header tr, #items tr:not([hidden])')].map(
    row => [...row.querySelectorAll('slot')].map(slot => slot.assignedNodes()[0]?.textContent.trim() ?? ''))"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason='no playwright: pip install -e ".[browser]"')
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def runs(chromium: Any, forked: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of runs by the names that TensorBoard has for them."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "own.py").write_text(OWN)
    for overrides in RUNS:
        forked.run("-m", "lit_optim", "train", *TINY, *OFTEN, *overrides, cwd=folder, timeout=300)
    found = {str(path.parent.relative_to(folder / "runs")): path.parent for path in folder.rglob("metrics.json")}
    assert sorted(said(path)["status"] for path in found.values()) == ["crashed", *["finished"] * 5]
    return found


@pytest.fixture(scope="module")
def address(runs: dict[str, Path]) -> Iterator[str]:
    """Of a TensorBoard over all runs."""
    name, folder = next(iter(runs.items()))
    logdir = str(folder).removesuffix(name)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--reload_interval", "1"]
    process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", "0"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        yield next(found[1] for line in lines if (found := re.search(r"at (http://\S+/) ", line)))
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


@pytest.fixture
def page(chromium: Any, runs: dict[str, Path], address: str) -> Iterator[Any]:
    """A page of its own, once TensorBoard has found all runs."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, base_url=address)
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    page.goto("data/runs")
    found = "async count => (await (await fetch('runs')).json()).length == count"
    page.wait_for_function(found, arg=len(runs), polling=500)
    yield page
    context.close()


def said(folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return said


def accuracies(runs: dict[str, Path]) -> dict[str, float]:
    """Of the runs that came to their end, on the test data."""
    return {name: said(folder)["final"]["test/acc"] for name, folder in runs.items() if said(folder)["tested"]}


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=TIMEOUT)
    return expect(locator)


def each(quantity: str) -> set[str]:
    return {f"{quantity}/default", f"{quantity}/no_decay", f"total/{quantity}"}


CHARTS = {
    "Training": {
        "Loss": {"train/loss", "val/loss", "test/loss"},
        "Accuracy": {"val/acc", "test/acc"},
        "Learning rates": {"lr/default", "lr/no_decay"},
    },
    "Weight decay / momentum": {
        "Weight decay": {"weight_decay/default", "weight_decay/no_decay"},
        "Momentum": {"momentum/default", "momentum/no_decay"},
    },
    "Gradients": {
        "Gradient norm": each("grad_norm"),
        "Gradient norm, clipped": each("grad_norm_clipped"),
        "Gradients that are 0 (share)": each("zero_grads"),
        "Gradients that are not finite (share)": each("nonfinite_grads"),
        "Dead ReLU units (share)": {"dead_relu/net.layer.1", "total/dead_relu"},
    },
    "Updates": {
        "Update norm": each("update_norm"),
        "Update norm / parameter norm": each("update_ratio"),
        "Effective step of Adam": each("effective_step"),
        "Parameter norm": each("param_norm"),
        "Momentum norm": each("momentum_norm"),
    },
}


def test_the_charts_draw_a_curve_for_each_group_of_each_run(page: Any, runs: dict[str, Path]) -> None:
    tags = {name: {*tags_of(folder)} for name, folder in runs.items()}
    page.goto("#custom_scalars")
    categories = page.locator("tf-category-paginated-view")
    expect(categories).to_have_count(len(CHARTS))
    for category, (title, charts) in zip(categories.all(), CHARTS.items(), strict=True):
        expect(category.locator("button.heading")).to_contain_text(title)
        cards = category.locator("tf-custom-scalar-multi-line-chart-card")
        expect(cards).to_have_count(len(charts))
        for card, (chart, shown) in zip(cards.all(), charts.items(), strict=True):
            card.scroll_into_view_if_needed()  # nothing is drawn before
            expect(card.locator(".heading-label")).to_have_text(chart)
            curves = {f"{tag} ({name})" for name, of_run in tags.items() for tag in of_run & shown}
            assert {curve.partition(" ")[0] for curve in curves} == shown
            entries = card.locator(".match-list-entry")
            expect(entries).to_have_count(len(curves))
            assert {" ".join(text.split()[1:]) for text in entries.all_text_contents()} == curves  # after its symbol
            expect(card.locator(LINES)).to_have_count(len(curves))
            expect(card.locator(f"{LINES}[d*=L]").first).to_be_attached()  # from point to point, and not to nowhere


def test_the_table_compares_results_where_keys_differ(page: Any, runs: dict[str, Path]) -> None:
    page.goto("#hparams")
    grid = page.locator("vaadin-grid").first
    for name in runs:
        expect(page.locator("vaadin-grid-cell-content").filter(has_text=name)).to_have_count(1)
    header, *rows = grid.evaluate(ROWS)
    table = {row[0]: dict(zip(header, row, strict=False)) for row in rows}
    assert table.keys() == runs.keys()
    crashed = table.pop(next(name for name in runs if name not in accuracies(runs)))
    assert {name: float(row["best/test/acc"]) for name, row in table.items()} == pytest.approx(
        accuracies(runs), rel=1e-3
    )
    assert (crashed["best/test/acc"], crashed["optimizer.momentum"]) == ("", "0.90000")
    keys = ("_target_", "betas", "momentum")
    assert {tuple(row[f"optimizer.{key}"] for key in keys) for row in table.values()} == {
        ("torch.optim.SGD", "", "0.0000"),
        ("torch.optim.SGD", "", "0.90000"),
        ("torch.optim.AdamW", "", ""),
        ("torch.optim.AdamW", "[0.8, 0.99]", ""),
        ("torch.optim.AdamW", "[0.9, 0.95]", ""),
    }


def test_the_table_tells_the_crashed_run_and_has_every_metric(page: Any, runs: dict[str, Path]) -> None:
    page.goto("#hparams")
    cells = page.locator("vaadin-grid-cell-content")
    crashed = next(name for name in runs if name not in accuracies(runs))
    expect(cells.filter(has_text=crashed)).to_be_visible()
    page.locator("paper-checkbox", has_text="Failure").click()
    expect(cells.filter(has_text=crashed)).not_to_be_visible()
    page.locator("paper-checkbox").filter(has_text=re.compile(r"^\s*test/acc\s*$")).click()
    expect(cells.filter(has_text=re.compile(r"^\s*test/acc\s*$"))).to_be_attached()


def test_the_plan_and_the_config_stand_in_columns(page: Any, runs: dict[str, Path]) -> None:
    page.goto("#text")
    shown = page.locator("tf-text-loader pre")
    expect(shown).to_have_count(2 * len(runs))
    texts = [text.strip("\n") for text in shown.all_text_contents()]
    for folder in runs.values():
        assert plan_text(lo.Plan.from_json((folder / "plan.json").read_text()), 120) in texts
        assert (folder / ".hydra" / "config.yaml").read_text().strip("\n") in texts
    for text in shown.all():
        look = "text => [getComputedStyle(text).whiteSpace, getComputedStyle(text).fontFamily]"
        white_space, font = text.evaluate(look)
        assert white_space == "pre"
        assert "mono" in font
        assert text.evaluate(RIGHT) <= page.locator("tf-text-loader").first.evaluate(RIGHT), "it would have to scroll"


def test_the_plan_is_a_picture(page: Any, runs: dict[str, Path]) -> None:
    page.goto("#images")
    pictures = page.locator("tf-image-loader img")
    expect(pictures).to_have_count(len(runs))
    widths = [one.evaluate("one => one.decode().then(() => one.naturalWidth)") for one in pictures.all()]
    assert min(widths) > 600


def test_time_series_begin_with_the_results(page: Any, runs: dict[str, Path]) -> None:
    page.goto("#timeseries")
    card = page.locator("scalar-card").first
    expect(card).to_contain_text("best/test")
    for name, accuracy in accuracies(runs).items():
        row = card.locator("tb-data-table-content-row").filter(has_text=name)
        expect(row).to_contain_text(f"{accuracy:.4g}")


def test_scalars_draw_the_loss_of_every_run(page: Any, runs: dict[str, Path]) -> None:
    page.goto("#scalars&tagFilter=train%2Floss")
    card = page.locator("tf-scalar-card").first  # what the filter finds
    expect(card).to_contain_text("train/loss")
    expect(card.locator(f"{LINES}[d*=L]")).to_have_count(len(runs))
