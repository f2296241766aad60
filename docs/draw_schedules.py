"""Write docs/schedules.md and its pictures from what the schedules say of themselves.

python docs/draw_schedules.py [FOLDER]
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lit_optim import Horizon, schedules
from lit_optim.schedules import Schedule
from lit_optim.schema import recipe_schema

RUN = Horizon(total_steps=1000, steps_per_epoch=100)
ARGUMENTS = {
    name.rpartition(".")[2]: node["properties"] for name, node in recipe_schema()["$defs"].items() if "." in name
}
HEAD = """\
# Schedules

Each is a class of `lit_optim.schedules`, named in a recipe under the number that it moves: `schedule.lr`,
`schedule.weight_decay`, `schedule.momentum` (the first of the betas where a class has no momentum), `schedule.betas.1`,
`schedule.eps`, any other. A rule may have a `schedule` of its own.

Here $t$ is the step, counted from 0 for the first optimizer step; $T$ the steps of the run; $s$ the group's own value;
$w$ the steps of the warm-up. With a `warmup`, the value rises in a straight line before anything else happens,

```math
v(t) = a + (p - a) \\cdot t / w, \\quad t < w
```

from $a = s \\cdot \\mathrm{start\\_factor}$ to the value $p$ that the rest begins with; the formulas below say what
comes then. All lengths are counted from step 0: a decay with a `duration` of half of the run is over in the middle of
the run, whatever its warm-up. They are whole optimizer steps: `500steps` or `500`, `2epochs`, `5%` of the run (rounded
to the nearest step), from 0 up to the run. What reaches its final value "at the end" does so at $t = T$, just after the
last step.

Anything that is not finite, or out of its range, is refused before training, and so is a schedule that takes a
hyperparameter to where its optimizer refuses it. The pictures show a run of 1,000 steps of 100 an epoch, each curve
with the arguments of its legend. A warm-up of 0 is none, and in one as long as the run nothing comes after it.

[benchmarks/RESULTS.md](../benchmarks/RESULTS.md#schedules-against-their-peers) compares them with torch's,
transformers', timm's and optax's, step by step.
"""
TAIL = """\
## Your own

A schedule of your own is a function of the step under `@lit_optim.schedules.schedule`, or a subclass of
`lit_optim.schedules.Schedule` with the method `curve`; the README says how. `Warmup` puts a warm-up in front of it,
`Joined` follows it with another.
"""
PICTURES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "Constant": ({}, {"factor": 0.5}, {"warmup": "10%"}),
    "Linear": ({}, {"warmup": "10%", "final_factor": 0.1}, {"final_factor": 1.5, "duration": "50%"}),
    "Polynomial": ({}, {"power": 0.5}, {"power": 4.0, "warmup": "10%"}),
    "Cosine": ({}, {"final_factor": 0.2, "duration": "60%"}, {"warmup": "20%"}),
    "WarmupCosine": ({}, {"warmup": "1epochs", "start_factor": 0.2, "final_factor": 0.1}),
    "Exponential": ({"rate": 0.7}, {"rate": 0.7, "staircase": True}, {"rate": 0.5, "warmup": "10%"}),
    "InverseSquareRoot": ({"warmup": "5%"}, {"warmup": "5%", "timescale": 300}),
    "Milestones": (
        {"at": ["50%", "75%"], "factors": [0.5, 0.1]},
        {"at": ["3epochs", "8epochs"], "factors": [0.7, 0.3], "warmup": "1epochs"},
    ),
    "Piecewise": (
        {"at": ["20%", "60%", "100%"], "factors": [1.0, 0.3, 0.0]},
        {"at": ["20%", "60%", "100%"], "factors": [1.0, 0.3, 0.0], "shape": "cosine"},
    ),
    "CosineRestarts": ({}, {"cycles": 3, "growth": 2.0, "peak_factor": 0.7, "warmup": "5%"}),
    "OneCycle": (
        {},
        {"three_phase": True, "shape": "linear"},
        {"start_factor": 1, "peak_factor": 0.9, "final_factor": 1},
    ),
    "WarmupStableDecay": (
        {},
        {"decay": "50%", "shape": "cosine", "final_factor": 0.1},
        {"decay": "50%", "shape": "sqrt"},
    ),
    "Plateau": ({"monitor": "val/loss"}, {"monitor": "val/loss", "warmup": "20%"}),
    "Warmup": ({"schedule": schedules.Exponential(rate=0.7), "warmup": "20%"},),
    "Joined": ({"schedules": [schedules.Constant(), schedules.CosineRestarts(cycles=2)], "at": ["40%"]},),
}


def write(folder: Path) -> None:
    """The page and its pictures.

    Args:
        folder: Gets ``schedules.md``, and a folder ``schedules`` of pictures.
    """
    (folder / "schedules").mkdir(parents=True, exist_ok=True)
    for name, pictured in PICTURES.items():
        _draw(getattr(schedules, name), pictured, folder / "schedules" / f"{name}.svg")
    sections = [_section(getattr(schedules, name)) for name in PICTURES]
    (folder / "schedules.md").write_text("\n".join([HEAD, *sections, TAIL]), encoding="utf-8")


def _draw(cls: type[Schedule], pictured: tuple[Mapping[str, Any], ...], path: Path) -> None:
    """A picture that says, in its description, which values it shows: a test holds it against the schedules."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    shown = hashlib.sha256()
    for arguments in pictured:
        curve = cls(**arguments).curve(1.0, RUN)
        values = [curve(step) for step in range(0, 1001, 5)]
        shown.update(repr([f"{value:.9f}" for value in values]).encode())
        axes.plot(range(0, 1001, 5), values, label=str(cls(**arguments)))
    axes.set_ylabel("of the group's own value")
    axes.set_xlabel("optimizer step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with rc_context({"svg.hashsalt": cls.__name__, "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None, "Description": shown.hexdigest()})


def _section(cls: type[Schedule]) -> str:
    doc = inspect.cleandoc(cls.__doc__ or "")
    text, _, example = doc.partition("\n>>> ")
    text = re.sub(r"\nArgs:\n( {4}.+\n)+", "", text)
    picture = f"![{cls.__name__}](schedules/{cls.__name__}.svg)"
    code = ["```pycon", f">>> {example.rstrip()}", "```", ""]
    return "\n".join([f"## {cls.__name__}", "", _markdown(text).rstrip(), "", picture, "", *_table(cls), *code])


def _markdown(text: str) -> str:
    """reStructuredText as docstrings have it, as GitHub's Markdown."""
    blocks = re.compile(r"^\.\. math::(?: (.+)\n|\n\n?((?: {4}.+\n)+))", re.MULTILINE)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = blocks.sub(lambda found: f"```math\n{inspect.cleandoc(found[1] or found[2])}\n```\n", f"{text}\n")
    return re.sub(r":math:`([^`]+)`", lambda found: f"${' '.join(found[1].split())}$", text)


def _table(cls: Any) -> Iterator[str]:
    yield "| argument | if not given | |"
    yield "|---|---|---|"
    for field in dataclasses.fields(cls):
        default = "needed" if field.default is dataclasses.MISSING else f"`{field.default}`"
        yield f"| `{field.name}` | {default} | {ARGUMENTS[cls.__name__][field.name]['description']} |"
    yield ""


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
