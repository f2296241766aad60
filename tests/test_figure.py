"""The picture is read off matplotlib's objects; nothing needs a display."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

import lit_optim as lo
from lit_optim.figure import save_figure
from lit_optim.names import dotted_name
from lit_optim.plan import Group
from lit_optim.schedules.plateau import Plateau

Draw = Callable[[lo.Plan], Figure]
WARMUP = {"_target_": "lit_optim.schedules.WarmupCosine"}
LINEAR = {"_target_": "lit_optim.schedules.Linear"}
COSINE = {"_target_": "lit_optim.schedules.Cosine"}
LONG = "a_name_for_the_backbone_and_everything_below_the_head"


def group(name: str, freeze_until: int = 0, moving: Mapping[str, Any] | None = None, **settings: Any) -> Group:
    settings = {"lr": 0.1, "weight_decay": 0.05, "betas": (0.9, 0.999), **settings}
    return Group(name, "torch.optim.AdamW", settings, moving or {}, (f"{name}.w",), 10, freeze_until=freeze_until)


def plan_of(*groups: Group, steps: int = 1000) -> lo.Plan:
    return lo.Plan(groups, lo.Horizon(steps))


def many(count: int, moving: Mapping[str, Any] | None = None, prefix: str = "all") -> lo.Plan:
    """A layer decay, whose last layer but one is frozen at first."""
    groups = [
        group(
            f"{prefix}.depth{depth:03}",
            freeze_until=500 if depth == count - 2 else 0,
            moving=moving or {"lr": WARMUP},
            lr=0.1 * 0.75**depth,
            weight_decay=0.01 * (depth + 1),
            momentum=0.9 - 0.001 * depth,
        )
        for depth in range(count)
    ]
    return plan_of(*groups, steps=5000)


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Gives the figure that would be saved; to lay it out and to paint it takes longer than all else."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))

    def drawn(plan: lo.Plan) -> Figure:
        save_figure(plan, tmp_path / "plan.png")
        return figures[-1]

    return drawn


def legend_of(axes: Axes) -> Legend:
    legend = axes.get_legend()
    assert legend is not None
    return legend


def labels_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in legend_of(axes).get_texts()]


def points(line: Line2D) -> tuple[list[int], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def curves_of(axes: Axes) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of the lines that the legend names, by their labels."""
    labels = labels_of(axes)
    return {str(line.get_label()): points(line) for line in axes.get_lines() if str(line.get_label()) in labels}


def dotted(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_linestyle() == ":"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
@pytest.mark.parametrize(
    "plan",
    [
        plan_of(group("default")),
        plan_of(group("a", lr=0.0), group("b", lr=0.0)),
        plan_of(group("a", moving={"lr": WARMUP}), steps=1),
        plan_of(group("a", moving={"lr": WARMUP}), steps=123_457),
        plan_of(group("a", freeze_until=10), group("b"), steps=10),
        plan_of(),
        many(12),
        lo.Plan((group("a"),), lo.Horizon(-1)),
        lo.Plan((group("a", moving={"lr": {**LINEAR, "duration": 10}}),), lo.Horizon(-1)),
    ],
    ids=["constant", "zero", "one step", "long", "frozen throughout", "no group", "many", "endless", "endless, moving"],
)
def test_a_figure_is_drawn_of_any_plan(plan: lo.Plan, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"plan.{suffix}"
    save_figure(plan, path)
    assert path.stat().st_size > 4_000
    if suffix == "png":
        pixels = imread(path)[..., :3]
        assert pixels.shape[1] > 700
        assert pixels.shape[0] >= 300
        assert pixels.min() < 0.2 < 0.9 < pixels.max()


def test_a_run_without_a_known_end_has_no_curves(draw: Draw) -> None:
    [axes] = draw(lo.Plan((group("a", moving={"lr": {**LINEAR, "duration": 10}}),), lo.Horizon(-1))).axes
    assert [text.get_text() for text in axes.texts] == ["a run without a known end"]
    assert len(axes.get_lines()) == 0


def test_every_hyperparameter_that_moves_in_some_group_has_a_panel_with_all_that_hold_it(draw: Draw) -> None:
    rising = {"lr": WARMUP, "weight_decay": {**LINEAR, "final_value": 0.2}}
    plan = plan_of(group("a", moving=rising), group("b", moving={"lr": WARMUP}), group("c", weight_decay=None))
    lr, decay = draw(plan).axes
    assert (lr.get_title("left"), decay.get_title("left")) == ("lr", "weight_decay")
    steps = [*range(1000)]
    assert curves_of(lr) == {
        "a, b": (steps, plan.curve("a", "lr").tolist()),
        "c": (steps, plan.curve("c", "lr").tolist()),
    }
    assert curves_of(decay) == {
        "a": (steps, plan.curve("a", "weight_decay").tolist()),
        "b": (steps, plan.curve("b", "weight_decay").tolist()),
    }
    assert (lr.get_xlabel(), decay.get_xlabel()) == ("", "optimizer step")


def test_curves_that_are_no_formula_are_named_in_the_title(draw: Draw) -> None:
    step = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 300}
    plateau = {"_target_": dotted_name(Plateau), "monitor": "val/loss"}
    lr, decay = draw(
        plan_of(group("a", moving={"lr": step, "weight_decay": plateau}), group("b", moving={"lr": WARMUP}))
    ).axes
    assert (lr.get_title("left"), decay.get_title("left")) == ("lr (simulated)", "weight_decay (depends on val/loss)")
    [axes] = draw(plan_of(group("a", moving={"lr": step}), group("b", moving={"lr": plateau}))).axes
    assert axes.get_title("left") == "lr (simulated, depends on val/loss)"


def test_lr_is_drawn_where_nothing_moves(draw: Draw) -> None:
    [axes] = draw(plan_of(group("a"), steps=7)).axes
    assert axes.get_title("left") == "lr"
    assert curves_of(axes) == {"a": ([*range(7)], [0.1] * 7)}


def test_a_long_run_is_drawn_by_points_from_the_first_to_the_last(draw: Draw) -> None:
    plan = plan_of(group("a", moving={"lr": WARMUP}), group("b", freeze_until=31_234, lr=0.3), steps=100_003)
    [axes] = draw(plan).axes
    steps, values = curves_of(axes)["a"]
    assert (steps[0], steps[-1]) == (0, 100_002)
    assert len(steps) <= 2_100
    whole = plan.curve("a", "lr").tolist()
    assert values == [whole[step] for step in steps]
    assert curves_of(axes)["b (from step 31,234)"][0][0] == 31_234


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["a"], "a"),
        (["a", "b.c"], "a, b.c"),
        (["all.depth01", "all.depth02", "all.depth03", "all.depth04"], "all.depth01 and 3 more"),
        ([f"{LONG}.depth01", f"{LONG}.depth02"], "a_name_for_th…low_the_head.depth01 and 1 more"),
    ],
)
def test_groups_that_move_alike_share_a_line(names: list[str], label: str, draw: Draw) -> None:
    plan = plan_of(*(group(name, moving={"lr": WARMUP}) for name in names))
    assert list(curves_of(draw(plan).axes[0])) == [label]


@pytest.mark.parametrize(
    ("schedule", "scale"),
    [
        (LINEAR, "linear"),
        (COSINE, "linear"),
        (WARMUP, "linear"),
        ({"_target_": "lit_optim.schedules.Polynomial", "power": 2.0}, "linear"),
        ({"_target_": "lit_optim.schedules.Exponential", "rate": 0.1, "every": "100%"}, "linear"),
        ({"_target_": "lit_optim.schedules.Exponential", "rate": 1e-4, "every": "100%"}, "log"),
        ({"_target_": "lit_optim.schedules.Milestones", "at": ["50%", "75%"], "factors": [0.1, 0.01]}, "log"),
        ({"_target_": "lit_optim.schedules.Milestones", "at": ["50%"], "values": [0.0]}, "linear"),
        ({"_target_": "lit_optim.schedules.Linear", "final_value": -0.1}, "linear"),
    ],
)
def test_a_curve_that_is_decades_below_its_top_for_long_has_a_log_scale(
    schedule: Mapping[str, Any], scale: str, draw: Draw
) -> None:
    [axes] = draw(plan_of(group("a", moving={"lr": schedule}))).axes
    assert axes.get_yscale() == scale


@pytest.mark.parametrize(
    ("lr", "scale"), [(0.1, "linear"), (1.0, "linear"), (2.0, "log"), (100.0, "log"), (0, "linear")]
)
def test_curves_that_are_decades_apart_have_a_log_scale(lr: float, scale: str, draw: Draw) -> None:
    [axes] = draw(plan_of(group("a"), group("b", lr=lr), group("c", lr=0.0))).axes
    assert axes.get_yscale() == scale


def test_a_negative_value_keeps_the_axis_linear(draw: Draw) -> None:
    falling = group("a", moving={"lr": {**LINEAR, "final_value": -0.1}})
    assert draw(plan_of(falling, group("b", lr=10.0))).axes[0].get_yscale() == "linear"


def test_each_panel_has_its_own_scale(draw: Draw) -> None:
    plan = plan_of(group("a", moving={"lr": WARMUP, "weight_decay": LINEAR}), group("b", lr=10.0))
    assert [axes.get_yscale() for axes in draw(plan).axes] == ["log", "linear"]


@pytest.mark.parametrize("schedule", [WARMUP, COSINE, {**LINEAR, "start_factor": 0.0, "final_factor": 1.0}])
def test_a_way_from_or_to_0_takes_no_more_than_a_few_decades(schedule: Mapping[str, Any], draw: Draw) -> None:
    [axes] = draw(plan_of(group("a", moving={"lr": schedule}), group("b", lr=10.0))).axes
    bottom, top = axes.get_ylim()
    assert 1e-4 < bottom < 1e-3
    assert 10.0 < top < 50.0


def test_curves_that_do_not_fall_leave_no_empty_decades(draw: Draw) -> None:
    bottom, top = draw(plan_of(group("a"), group("b", lr=10.0))).axes[0].get_ylim()
    assert 0.05 < bottom < 0.1 < 10.0 < top < 20.0


def test_an_exponential_decay_is_in_the_picture_from_end_to_end(draw: Draw) -> None:
    decay = {"_target_": "lit_optim.schedules.Exponential", "rate": 1e-6, "every": "100%"}
    [axes] = draw(plan_of(group("a", moving={"lr": decay}))).axes
    bottom, top = axes.get_ylim()
    assert 1e-8 < bottom < 1e-7 < 0.1 < top < 1


def test_a_group_at_0_is_named_where_a_log_scale_cannot_show_it(draw: Draw) -> None:
    apart = [group("a", lr=10.0), group("b"), group("c", lr=0.0)]
    assert labels_of(draw(plan_of(*apart)).axes[0]) == ["a", "b", "c (0 throughout)"]
    assert labels_of(draw(plan_of(*apart[1:])).axes[0]) == ["b", "c"]


def test_a_freeze_is_dotted_in_grey_and_ends_in_a_dot(draw: Draw) -> None:
    plan = plan_of(group("stem", freeze_until=200, moving={"lr": WARMUP}), group("head", moving={"lr": WARMUP}))
    [axes] = draw(plan).axes
    assert labels_of(axes) == ["stem (from step 200)", "head", "frozen"]
    values = plan.curve("stem", "lr").tolist()
    assert curves_of(axes) == {
        "stem (from step 200)": ([*range(200, 1000)], values[200:]),
        "head": ([*range(1000)], values),
    }
    [frozen] = dotted(axes)
    assert points(frozen) == ([*range(201)], values[:201])
    assert frozen.get_color() == "0.55"
    stem = next(line for line in axes.get_lines() if line.get_label() == "stem (from step 200)")
    assert (stem.get_marker(), stem.get_markevery()) == ("o", (0, 1000))


def test_a_group_that_is_frozen_to_the_end_is_dotted_to_the_end(draw: Draw) -> None:
    [axes] = draw(plan_of(group("a", freeze_until=10), group("b"), steps=10)).axes
    assert [points(line) for line in dotted(axes)] == [([*range(10)], [0.1] * 10)]


def test_without_a_freeze_nothing_is_dotted_or_named_so(draw: Draw) -> None:
    [axes] = draw(plan_of(group("stem"), group("head", lr=0.2))).axes
    assert dotted(axes) == []
    assert labels_of(axes) == ["stem", "head"]


def test_a_few_groups_keep_their_colours_in_every_panel(draw: Draw) -> None:
    moving = {"lr": WARMUP, "weight_decay": LINEAR}
    plan = plan_of(
        group("a", moving=moving),
        group("a.no_decay", moving=moving, weight_decay=0.0),
        group("b", moving=moving, lr=0.2),
    )
    lr, decay = ({line.get_label(): line.get_color() for line in axes.get_lines()} for axes in draw(plan).axes)
    assert lr == {"a, a.no_decay": "C0", "b": "C2"}
    assert decay == {"a, b": "C0", "a.no_decay": "C1"}


def test_few_lines_of_many_groups_have_different_colours(draw: Draw) -> None:
    [axes] = draw(plan_of(*(group(f"{number}", lr=0.2 if number >= 10 else 0.1) for number in range(20)))).axes
    assert [line.get_color() for line in axes.get_lines()] == ["C0", "C1"]


def test_lines_that_lie_on_each_other_differ_in_their_dashes(draw: Draw) -> None:
    [axes] = draw(plan_of(group("a"), group("b", freeze_until=5), group("c", lr=0.2))).axes
    styles = {line.get_label(): line.get_linestyle() for line in axes.get_lines()}
    assert (styles["a"], styles["b (from step 5)"], styles["c"]) == ("-", "--", "-")


def test_many_lines_run_through_a_colour_map_from_the_top_down_and_neighbours_differ_in_style(draw: Draw) -> None:
    [axes] = draw(many(60, {"weight_decay": {**LINEAR, "final_factor": 2.0}})).axes
    lines = [line for line in axes.get_lines() if line.get_linestyle() != ":"]
    assert len(lines) == 60
    ends = [points(line)[1][-1] for line in lines]
    assert ends == sorted(ends, reverse=True)
    assert labels_of(axes) == [*(line.get_label() for line in lines), "frozen"]
    assert len({line.get_color() for line in lines}) == 60
    styles = [line.get_linestyle() for line in lines]
    assert all(above != below for above, below in pairwise(styles))
    assert float(legend_of(axes).get_texts()[0].get_fontsize()) < 7


THREE = {"lr": WARMUP, "weight_decay": LINEAR, "momentum": {**LINEAR, "final_value": 0.95}}
PLANS = {
    "1": plan_of(group("default")),
    "4": many(4),
    "10 x 3": many(10, THREE),
    "11 x 3": many(11, THREE),
    "28": many(28),
    "34": many(34),
    "60": many(60),
    "60 x 3": many(60, THREE),
    "60 x 3, long names": many(60, THREE, LONG),
    "250": many(250),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_legends_lie_beside_the_axes_and_inside_of_the_figure(plan: lo.Plan, draw: Draw) -> None:
    figure = draw(plan)
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend, panel = legend_of(axes).get_window_extent(), axes.get_window_extent()
        assert figure.bbox.x0 <= panel.x0 < panel.x1 < legend.x0 < legend.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= panel.y0 <= legend.y0 < legend.y1 <= panel.y1 <= figure.bbox.y1
        assert panel.width > 5.5 * figure.dpi
        assert panel.height > 1.9 * figure.dpi


def test_a_legend_of_sixty_has_columns_that_fill_the_height(draw: Draw) -> None:
    figure = draw(many(60))
    figure.draw_without_rendering()
    [axes] = figure.axes
    legend = legend_of(axes)
    assert len({round(text.get_window_extent().x0) for text in legend.get_texts()}) == 2
    assert legend.get_window_extent().height > 0.8 * axes.get_window_extent().height


def test_names_that_begin_with_an_underscore_are_in_the_legend(draw: Draw) -> None:
    assert labels_of(draw(plan_of(group("_a"), group("_b", lr=0.2))).axes[0]) == ["_a", "_b"]


def test_drawing_leaves_pyplot_and_torch_alone(tmp_path: Path) -> None:
    code = """
import sys
from lit_optim.durations import Horizon
from lit_optim.plan import Group, Plan
from lit_optim.render import save_figure
plan = Plan((Group("default", "torch.optim.SGD", {"lr": 0.1}, {}, ("a",), 1),), Horizon(9))
save_figure(plan, "plan.png")
sys.exit("matplotlib.pyplot" in sys.modules or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
    assert (tmp_path / "plan.png").exists()
