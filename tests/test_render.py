import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread
from torch import nn

import lit_optim as lo
from lit_optim.models import MLP
from lit_optim.render import plan_text, save_figure


def planned(horizon: lo.Horizon, **parts: Any) -> lo.Plan:
    model = nn.ModuleDict({"embed": nn.Embedding(7, 3), "mid": nn.Linear(3, 3), "head": nn.Linear(3, 7)})
    model["head"].weight = model["embed"].weight
    model["mid"].requires_grad_(False)
    config = {
        "optimizer": {"_target_": "torch.optim.AdamW", "weight_decay": 0.05},
        "rules": {"bias": {"match": {"ndim": 1}, "weight_decay": 0.0, "eps": 1e-6}},
        "schedule": {"lr": {"_target_": "lit_optim.schedules.WarmupCosine", "warmup": "10%"}},
        **parts,
    }
    return lo.make_plan(model, lo.Recipe.from_config(config), horizon)


RUN = lo.Horizon(total_steps=2000, steps_per_epoch=100, global_batch=1024)
PLAN = planned(RUN)
RISING = {"weight_decay": {"_target_": "lit_optim.schedules.Linear", "final_value": 0.2}}


TEXT = [
    " group    rules  optimizer  tensors  parameters                    lr  weight_decay       betas    eps",
    " ─────────────────────────────────────────────────────────────────────────────────────────────────────",
    " default  –      AdamW            1          21  0 → 0.001 → 7.62e-10          0.05  0.9, 0.999  1e-08",
    " bias     bias   AdamW            1           7  0 → 0.001 → 7.62e-10             0  0.9, 0.999  1e-06",
    "",
    "40 parameters: 28 trained in 2 tensors and 2 groups, 12 frozen in 2 tensors, 1 tied names (counted once)",
    "2,000 optimizer steps, 100 an epoch, 1,024 samples a step; scheduled values: first step → highest → last step; "
    "plan 3931c60d6f4d",
]


def test_the_text_of_a_plan() -> None:
    assert plan_text(PLAN, width=120).splitlines() == TEXT


def test_printing_a_plan_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert str(PLAN) == plan_text(PLAN) == plan_text(PLAN, width=120)


def test_warnings_come_last() -> None:
    plan = planned(RUN, schedule=RISING)
    assert len(plan.warnings) == 1
    assert plan_text(plan, width=120).splitlines()[-1] == f"warning: {plan.warnings[0]}"


def test_a_run_without_an_end_says_so() -> None:
    endless = {"lr": {"_target_": "lit_optim.schedules.Linear", "duration": 10}}
    text = plan_text(planned(lo.Horizon(-1), schedule=endless), width=120)
    assert "0.001 → ?" in text
    assert "a run without a known end; scheduled values: first step → highest → last step; plan " in text


def test_one_group_and_nothing_scheduled() -> None:
    lines = plan_text(planned(lo.Horizon(10), rules={}, schedule={}), width=120).splitlines()
    assert "28 trained in 2 tensors and 1 group, " in lines[-2]
    assert lines[-1].startswith("10 optimizer steps; plan ")


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize(
    ("horizon", "parts"),
    [
        (RUN, {}),
        (lo.Horizon(1), {}),
        (lo.Horizon(123_457), {"schedule": {**RISING, "eps": RISING["weight_decay"]}}),
        (RUN, {"schedule": {}}),
        (RUN, {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.0}, "schedule": {}}),
        (lo.Horizon(-1), {"schedule": {}}),
        (lo.Horizon(-1), {"schedule": {"lr": {"_target_": "lit_optim.schedules.Linear", "duration": 10}}}),
    ],
)
def test_a_figure_is_drawn_of_any_plan(horizon: lo.Horizon, parts: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"plan.{suffix}"
    save_figure(planned(horizon, **parts), path)
    assert path.stat().st_size > 5_000
    if suffix == "png":
        pixels = imread(path)[..., :3]
        assert pixels.shape[1] == 880
        assert pixels.shape[0] >= 300
        assert pixels.min() < 0.2 < 0.9 < pixels.max()


def drawn(plan: lo.Plan, path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int], list[float]]]:
    lines: list[tuple[str, list[int], list[float]]] = []
    plot = Axes.plot

    def noted(axes: Axes, steps: Any, curve: Any, label: str, **more: Any) -> Any:
        lines.append((label, [*steps], [*curve]))
        return plot(axes, steps, curve, label=label, **more)

    monkeypatch.setattr(Axes, "plot", noted)
    save_figure(plan, path)
    return lines


def test_a_figure_shows_the_curves_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(lo.Horizon(50), schedule={**PLAN.groups[0].schedules, **RISING})
    assert drawn(plan, tmp_path / "plan.png", monkeypatch) == [
        ("default, bias", [*range(50)], plan.curve("bias", "lr").tolist()),
        ("default", [*range(50)], plan.curve("default", "weight_decay").tolist()),
        ("bias", [*range(50)], plan.curve("bias", "weight_decay").tolist()),
    ]


def test_a_long_run_is_drawn_by_points_from_the_first_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(lo.Horizon(100_003))
    [(_, steps, values)] = drawn(plan, tmp_path / "plan.png", monkeypatch)
    assert (steps[0], steps[-1]) == (0, 100_002)
    assert len(steps) <= 2_100
    assert values == plan.curve("default", "lr")[steps].tolist()


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("head", "scale"), [(0.1, "linear"), (10.0, "log")])
def test_groups_that_are_decades_apart_are_drawn_on_a_log_scale(
    head: float, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: list[str] = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig",
        lambda figure, *_, **__: scales.extend(axes.get_yscale() for axes in figure.axes),
    )
    config = {
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
        "rules": {"head": {"match": "layer.2", "lr": head, "momentum": 0.5}},
        "schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine", "final_factor": 0.5}},
    }
    plan = lo.make_plan(MLP(4, (3,), 2), lo.Recipe.from_config(config), lo.Horizon(total_steps=10))
    save_figure(plan, tmp_path / "plan.png")
    assert scales == [scale]
