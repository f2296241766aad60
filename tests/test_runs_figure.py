"""The picture is read off matplotlib's objects; nothing needs a display."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from lit_optim.runs.curves import Band, Spread, band
from lit_optim.runs_figure import save_bands

Draw = Callable[..., Figure]


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **more: (drawn.append(self), save(self, *args, **more)))

    def drawing(bands: list[Band], spread: Spread = "range") -> Figure:
        save_bands(bands, "val/acc", tmp_path / "bands.png", spread)
        assert imread(tmp_path / "bands.png").std() > 0.01
        return drawn[-1]

    return drawing


def labels(figure: Figure) -> list[str]:
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_every_row_has_its_mean_and_the_band_of_its_seeds(draw: Draw) -> None:
    two = band("lr=0.1", [{0: 0.0, 10: 1.0}, {0: 0.5, 10: 2.0}])
    one = band("lr=0.2", [{0: 0.25, 10: 0.75}])
    figure = draw([two, one])
    [axes] = figure.axes
    assert [[*line.get_xdata()] for line in axes.get_lines()] == [[0, 10], [0, 10]]
    assert [[*line.get_ydata()] for line in axes.get_lines()] == [[0.25, 1.5], [0.25, 0.75]]
    assert labels(figure) == ["lr=0.1 (n = 2)", "lr=0.2"]
    [area] = axes.collections
    corners = {(float(x), float(y)) for x, y in area.get_paths()[0].vertices}
    assert corners == {(0.0, 0.0), (0.0, 0.5), (10.0, 1.0), (10.0, 2.0)}
    assert axes.get_title(loc="left") == "val/acc: mean, lowest and highest over seeds"


def test_the_title_says_what_the_band_is(draw: Draw) -> None:
    curves = [{0: 0.0, 10: 1.0}, {0: 0.5, 10: 2.0}]
    [axes] = draw([band("lr=0.1", curves, "std")], "std").axes
    assert axes.get_title(loc="left") == "val/acc: mean ± standard deviation over seeds"


def test_one_run_has_a_curve_of_its_own(draw: Draw) -> None:
    figure = draw([band("a", [{5: 1.0}])])
    [line] = figure.axes[0].get_lines()
    assert line.get_marker() == "o"
    assert figure.axes[0].get_title(loc="left") == "val/acc"


def test_ten_rows_have_colours_and_names_and_the_rest_is_grey(draw: Draw) -> None:
    figure = draw([band(f"row {number}", [{0: 0.0, 1: float(number)}]) for number in range(13)])
    lines = figure.axes[0].get_lines()
    assert len({line.get_color() for line in lines[:10]}) == 10
    assert {line.get_color() for line in lines[10:]} == {"0.75"}
    assert labels(figure) == [*(f"row {number}" for number in range(10)), "3 more"]
    depths = [line.get_zorder() for line in lines[:13]]
    assert depths == sorted(depths, reverse=True)


def test_long_names_are_cut_and_stay_different(draw: Draw) -> None:
    long = "a name that is far too long for the legend of a picture "
    shown = labels(draw([band(f"{long}{number}", [{0: 1.0}]) for number in range(3)]))
    assert len({*shown}) == 3
    assert max(map(len, shown)) == 44


def test_long_curves_are_thinned_and_gaps_stay(draw: Draw) -> None:
    figure = draw([band("a", [{step: math.nan if step == 3 else 1.0 for step in range(9_000)}])])
    [line] = figure.axes[0].get_lines()
    assert 2_000 <= len(line.get_xdata()) <= 4_000
    assert line.get_marker() == ""
    assert math.isnan(draw([band("a", [{0: math.nan, 1: 1.0}])]).axes[0].get_lines()[0].get_ydata()[0])


def test_drawing_leaves_pyplot_and_torch_alone(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from lit_optim.runs.curves import band
from lit_optim.runs_figure import save_bands
save_bands([band("a", [{0: 1.0, 1: 2.0}])], "val/acc", Path("bands.svg"))
sys.exit("matplotlib.pyplot" in sys.modules or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "bands.svg").exists()
