"""The picture of a sweep: the loss over the factor, with the suggestions marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_optim.sweep import Sweep

__all__ = ["save_sweep"]

_MARKS = ("o", "s", "D")
_DOTS_PER_INCH = 110


def save_sweep(sweep: Sweep, path: Path) -> None:
    """Draw the losses, as measured and smoothed, over the factor of the learning rates, into an image file.

    Args:
        sweep: Its suggestions have to stand.
        path: Where the image goes; the suffix chooses the format (``.png``, ``.svg``, ``.pdf``).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.plot(sweep.factors, sweep.losses, color="C0", alpha=0.3, linewidth=1.0, label="loss of each step")
    axes.plot(sweep.factors, sweep.smoothed, color="C0", linewidth=2.0, label="smoothed")
    for index, (name, factor) in enumerate(sweep.suggestions.items()):
        colour = f"C{index + 1}"
        axes.axvline(factor, color=colour, linewidth=0.8, linestyle=":")
        axes.plot(
            [factor],
            [_at(factor, sweep.factors, sweep.smoothed)],
            linestyle="none",
            marker=_MARKS[index % 3],
            color=colour,
            markersize=8,
            label=f"{name}: × {factor:.3g}",
        )
    low, high = min(sweep.smoothed), max(sweep.smoothed)
    before = sweep.smoothed[0]
    top = min(high, before + 2 * (before - low))  # a divergence would flatten all that there is to read
    margin = 0.08 * (top - low)
    axes.set_ylim(low - margin, top + margin)
    axes.set_xlabel("factor of every group's learning rate")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _at(factor: float, factors: Sequence[float], curve: Sequence[float]) -> float:
    nearest = min(range(len(factors)), key=lambda index: abs(factors[index] / factor - 1))
    return curve[nearest]
