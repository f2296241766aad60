"""Which curves stand in one chart of TensorBoard's CUSTOM SCALARS tab."""

from __future__ import annotations

import re

from lit_optim.measurement import QUANTITIES

__all__ = ["BEST", "layout"]

BEST = "best/"
"""What stands before the tag of a metric's best value."""

_OURS = "|".join(("lr", "weight_decay", "momentum", *QUANTITIES, "dead_relu", "total"))
_RESULT = f"(?!{BEST}|(?:{_OURS})/)"  # a param group may be called loss, too


def _each(quantity: str) -> str:
    """Of every group, and of all of them."""
    return f"(?:{quantity}/|total/{quantity}$)"


def _hyperparameter(name: str) -> str:
    """As `Recorder` writes it, or Lightning's ``LearningRateMonitor`` (``lr-SGD/pg1-momentum``)."""
    return f"(?:{name}/|lr-.+-{name}$)"


_CHARTS = {  # TensorBoard matches from a tag's start on, and not to its end
    "Training": {
        "Loss": f"{_RESULT}(?i:.*loss(?:es)?(?![a-z]))",
        "Accuracy": f"{_RESULT}(?i:.*(?:accuracy|(?<![a-z])acc)(?![a-z]))",
        "Learning rates": "(?:lr/|lr$|lr-.+(?<!-momentum)(?<!-weight_decay)$)",
    },
    "Weight decay / momentum": {
        "Weight decay": _hyperparameter("weight_decay"),
        "Momentum": _hyperparameter("momentum"),
    },
    "Gradients": {
        "Gradient norm": _each("grad_norm"),
        "Gradient norm, clipped": _each("grad_norm_clipped"),
        "Gradients that are 0 (share)": _each("zero_grads"),
        "Gradients that are not finite (share)": _each("nonfinite_grads"),
        "Dead ReLU units (share)": _each("dead_relu"),
    },
    "Updates": {
        "Update norm": _each("update_norm"),
        "Update norm / parameter norm": _each("update_ratio"),
        "Effective step of Adam": _each("effective_step"),
        "Parameter norm": _each("param_norm"),
        "Momentum norm": _each("momentum_norm"),
    },
}


def layout(prefix: str = "") -> dict[str, dict[str, tuple[str, list[str]]]]:
    """The charts of what `Recorder` and `OptimizerMonitor` write, and of losses and accuracies by whatever name.

    In a Lightning app of your own, once a run: ``logger.experiment.add_custom_scalars(layout())``. A run has one such
    layout, so charts of your own join it: ``{**layout(), "Mine": {"F1": ("Multiline", ["val/f1", "test/f1"])}}``.

    A loss is a tag with a word that ends in ``loss`` (``train/loss``, ``val_loss_epoch``, ``BCELoss``), an accuracy one
    with ``acc`` as a word or with one that ends in ``accuracy`` (``val/acc``, ``acc_top5``, ``MulticlassAccuracy``).

    It is the same for every run, whatever its groups: TensorBoard joins the layouts of all runs by the titles of their
    categories, shows a chart twice where two are not equal, and loses some where a category comes with a later run.

    Args:
        prefix: What stands before every tag: of a logger with ``prefix="mine"``, ``"mine-"``.

    Returns:
        Category → chart → its kind, and regular expressions of its tags.
    """
    start = re.escape(prefix)
    return {
        category: {title: ("Multiline", [start + expression]) for title, expression in charts.items()}
        for category, charts in _CHARTS.items()
    }
