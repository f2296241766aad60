"""The picture of a comparison: one tag over the steps, a line a row, and the band that its seeds lie in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_optim.tables import shortened

if TYPE_CHECKING:
    from lit_optim.runs.curves import Band, Spread

__all__ = ["save_bands"]

_COLOURED = 10  # the best rows; more can't be told apart
_DRAWN = 2_000  # points of a curve; more can't be seen
_POINTS = 40  # up to which each value has a mark of its own
_LABEL = 44  # characters of a name in the legend
_DOTS_PER_INCH = 110
_SAID = {"range": "mean, lowest and highest", "std": "mean ± standard deviation"}


def save_bands(bands: Sequence[Band], tag: str, path: Path, spread: Spread = "range") -> None:
    """Draw the means, and the band of each row that has several seeds, into an image file.

    Args:
        bands: The best row first. Ten have a colour and a name; the rest is grey.
        tag: What is drawn.
        path: Where the image goes; the suffix chooses the format (``.png``, ``.svg``, ``.pdf``).
        spread: What the bands reach over; the title says it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels = shortened([band.name for band in bands[:_COLOURED]], _LABEL)
    for number, band in enumerate(bands):
        every = slice(None, None, max(1, len(band.steps) // _DRAWN))
        steps, is_named = band.steps[every], number < _COLOURED
        colour, width = (f"C{number}", 1.6) if is_named else ("0.75", 0.8)
        marker = "o" if len(steps) <= _POINTS else ""
        depth = 3 - number / len(bands)  # the best in front
        [line] = axes.plot(steps, band.mean[every], color=colour, linewidth=width, marker=marker, markersize=3.5)
        line.set_zorder(depth)
        if is_named:
            line.set_label(labels[number] + (f" (n = {band.n})" if band.n > 1 else ""))
        if is_named and band.n > 1:
            low, high = band.low[every], band.high[every]
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0, zorder=depth - 1)
    if len(bands) > _COLOURED:
        axes.plot([], [], color="0.75", label=f"{len(bands) - _COLOURED:,} more")
    several = any(band.n > 1 for band in bands)
    axes.set_title(f"{tag}: {_SAID[spread]} over seeds" if several else tag, loc="left", fontsize="medium")
    axes.set_xlabel("optimizer step")
    axes.locator_params(axis="x", integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    figure.savefig(path, dpi=_DOTS_PER_INCH)
