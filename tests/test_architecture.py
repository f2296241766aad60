"""The rows of the design: a module imports only what stands above it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lit_optim as lo
from lit_optim.names import dotted_name
from lit_optim.schedules.plateau import Plateau

PACKAGE = Path(lo.__file__).parent
ROWS = [
    {"errors"},
    {"durations", "cadence"},
    {"hyperparameters", "matches", "names", "lr_scaling"},
    {"schedules"},
    {"targets"},
    {"rules", "simulation"},
    {"recipe", "torch_schedules"},
    {"schema", "tables", "sweep", "schedule_nodes", "monitors"},
    {"progress_line", "plan"},
    {"differences", "reductions"},
    {"tfrecord", "metrics_table"},
    {"runs"},
    {"structure"},
    {"kinds"},
    {"depth", "selection", "shard_units"},
    {"construction", "needs"},
    {"group_keys"},
    {"traits"},
    {"classes"},
    {"cascade", "state_types"},
    {"grouping"},
    {"execution", "torch_traps"},
    {"matching", "checks", "advice", "idle"},
    {"planner"},
    {"figure", "sweep_figure", "runs_figure"},
    {"render", "explain"},
    {"composite", "moves", "step_hooks", "state", "measurement", "findings"},
    {"scheduler", "statistics", "histograms"},
    {"builder"},
    {"integration"},
    {"models", "data"},
    {"cli"},
]
ROW = {name: number for number, names in enumerate(ROWS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.name.startswith("__"))


def _of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    """Whatever the file imports anywhere, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_module_has_a_row() -> None:
    assert {_of(path) for path in MODULES} == ROW.keys()


@pytest.mark.parametrize("path", MODULES, ids=_named)
def test_a_module_imports_only_what_stands_above_it(path: Path) -> None:
    here = _of(path)
    parts = [name.split(".")[1] for name in _imports(path) if name.startswith("lit_optim.")]
    below = {part for part in parts if part != here and ROW.get(part, -1) >= ROW[here]}
    assert below == ({"render", "differences"} if _named(path) == "plan.py" else set())


def test_the_looks_downwards_are_lazy() -> None:
    looks = [
        (cls.name, function.name)
        for cls in ast.parse((PACKAGE / "plan.py").read_text()).body
        if isinstance(cls, ast.ClassDef)
        for function in cls.body
        if isinstance(function, ast.FunctionDef)
        and any(
            isinstance(n, ast.ImportFrom) and n.module in ("lit_optim.render", "lit_optim.differences")
            for n in ast.walk(function)
        )
    ]
    assert looks == [("Plan", "diff"), ("Plan", "__str__")]


def test_torchs_schedulers_are_looked_at_lazily() -> None:
    module = ast.parse((PACKAGE / "schedule_nodes.py").read_text())
    looks = [n for n in ast.walk(module) if isinstance(n, ast.ImportFrom) and n.module == "lit_optim.torch_schedules"]
    assert len(looks) == 1
    assert looks[0] not in module.body
    code = f"""
import sys
from lit_optim.schedule_nodes import schedule_of
schedule_of({{"_target_": "lit_optim.schedules.Cosine"}}, "schedule.lr")
schedule_of({{"_target_": "{dotted_name(Plateau)}", "monitor": "val/loss"}}, "schedule.lr")
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", MODULES, ids=_named)
def test_heavy_packages_are_imported_only_in_their_places(path: Path) -> None:
    roots = {name.split(".")[0] for name in _imports(path)}
    allowed = {place: {"lightning"} for place in ("integration", "data", "cli")}
    allowed |= {place: {"matplotlib"} for place in ("figure", "sweep_figure", "runs_figure")}
    assert roots & {"lightning", "pytorch_lightning", "matplotlib"} <= allowed.get(_of(path), set())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=_named)
def test_files_are_short_and_named_after_an_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc"}


@pytest.mark.parametrize(
    "name",
    [
        *("", ".errors", ".durations", ".schedules", ".targets", ".recipe", ".schema", ".tables", ".plan", ".render"),
        *(
            ".differences",
            ".runs.comparison",
            ".runs.curves",
            ".runs.telling",
            ".runs_figure",
            ".progress_line",
            ".cli.compare",
        ),
        *(".monitors", ".schedule_nodes"),
    ],
)
def test_importing_it_imports_no_torch(name: str) -> None:
    code = f"import sys, lit_optim{name}; print(*{{m.split('.')[0] for m in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "lightning", "numpy", "matplotlib", "hydra", "rich"} & {*ran.stdout.split()}


def test_a_recipe_can_be_read_without_torch() -> None:
    code = """
import sys
import lit_optim as lo
lo.Recipe.from_config({"optimizer": {"_target_": "torch.optim.SGD"}})
lo.Plan.from_json(lo.Plan((), lo.Horizon(3)).to_json()).hash
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_contents_page_is_complete() -> None:
    assert sorted(lo.__all__) == lo.__all__
    for name in lo.__all__:
        assert getattr(lo, name).__name__.rpartition(".")[2] == name
    assert {*lo.__all__} <= {*dir(lo)}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        lo.nothing  # noqa: B018


@pytest.mark.parametrize(
    "name",
    [
        "Recipe",
        "make_plan",
        "Horizon",
        "Plan",
        "build",
        "RecipeModule",
        "configure_optimizers",
        "attach",
        "CompositeOptimizer",
        "LitClassifier",
    ],
)
def test_the_public_names_of_the_design_are_there(name: str) -> None:
    assert name in lo.__all__
