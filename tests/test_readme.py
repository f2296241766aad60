"""What the README says is true: each block is run, or compared with what the program prints."""

import re
import shlex
import struct
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from runfolders import make_run
from torch import nn

import lit_optim as lo
from lit_optim.cli import main
from lit_optim.models import MLP
from lit_optim.render import plan_text

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
IN_TABLES = re.findall(r"`(lit-optim [^`]+)`", TEXT)
COMMANDS = list(
    dict.fromkeys(
        line.split("   #")[0].split("  #")[0].strip()
        for line in [*(line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()), *IN_TABLES]
        if line.startswith("lit-optim ") and not re.search("hydra/launcher=(slurm|local)", line)  # test_launchers.py's
    )
)
SHORT = [
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
]
NEEDS_GPU = ("trainer=gpu", "trainer=ddp", "trainer=fsdp")


def block(kind: str, number: int = 0) -> str:
    return [text for name, text in BLOCKS if name == kind][number]


def write_idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


@pytest.fixture
def project(digits_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of a user who has MNIST in the cache, as small as it may be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    raw = tmp_path / "cache" / "lit-optim" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", 1200), ("t10k", 100)):
        write_idx(raw / f"{name}-images-idx3-ubyte", generator.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.arange(count) % 10)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_the_commands_that_ci_runs_are_one_line_each() -> None:
    assert block("bash", 0) == 'pip install -c constraints.txt -e ".[demo]" && lit-optim train\n'
    assert block("bash", 1) == 'pip install -c constraints.txt -e ".[demo,test]" && pytest -n 2\n'
    assert block("bash", 2) == 'pip install -c constraints.txt -e ".[peers]" && pytest tests/peers\n'
    assert block("bash", 3) == 'pip install -c constraints.txt -e ".[demo,test,browser]" && pytest -m browser\n'


def test_the_recipe_gives_the_plan_below_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(block("yaml"))
    recipe = lo.Recipe.from_config(tmp_path / "recipe.yaml")
    plan = lo.make_plan(MLP(784, (300, 200), 10), recipe, lo.Horizon(total_steps=1000, steps_per_epoch=100))
    assert plan_text(plan, width=132) + "\n" == block("text", 0)


def test_the_mistakes_are_told_as_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = next(text for kind, text in BLOCKS if kind == "text" and text.startswith("$ lit-optim plan"))
    command, told = shown.split("\n", 1)
    assert main(shlex.split(command)[2:]) == 1
    assert capsys.readouterr().err == told


def test_the_config_groups_are_listed_with_all_their_choices() -> None:
    groups = ("data", "model", "optimizer", "rules", "schedule", "trainer", "callbacks", "logger", "hydra/sweeper")
    for group in (*groups, "experiment"):
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            named = f"`{path.stem}`" if group != "experiment" else f"experiment={path.stem}`"
            assert named in TEXT, f"{group}={path.stem}"


# mlflow 3.17 loads its runs in a way that sqlalchemy 2.1 has deprecated
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
@pytest.mark.parametrize("command", [one for one in COMMANDS if not any(word in one.split() for word in NEEDS_GPU)])
def test_command_runs(command: str, project: Path) -> None:
    verb, *arguments = shlex.split(command.partition(" > ")[0])[1:]
    if "trainer=ddp_cpu" in arguments:  # starting processes is tests/cli/test_devices.py's
        arguments = ["--cfg", "job", *arguments]
    shortened = [] if verb in ("plan", "schema") or "--cfg" in arguments else SHORT
    if "FOLDER" in arguments:
        assert main(["train", *SHORT, "trainer.max_epochs=1", "hydra.run.dir=runs/FOLDER"]) == 0
        arguments[arguments.index("FOLDER")] = "runs/FOLDER"
    if verb == "compare":
        shortened = []
        for job in range(4):
            metrics = {"val/acc": [0.5, 0.9], "val/loss": [0.7, 0.3], "train/loss": [0.6, 0.2]}
            sweep = project / "runs" / "default" / "2026-11-25_10-10-35-726659"
            make_run(sweep / f"{job}", lr=0.1 * (1 + job // 2), seed=job % 2, metrics=metrics)
    if verb == "lr-find":
        shortened = ["trainer.precision=32-true"]
    if "hydra/launcher=joblib" in arguments:  # starting processes is tests/cli/test_multirun.py's
        arguments.remove("hydra/launcher=joblib")
        arguments.remove("hydra.launcher.n_jobs=2")
    if any(one.startswith("hydra/sweeper=tpe") for one in arguments):
        arguments.append("hydra.sweeper.n_trials=2")
    assert main([verb, *arguments, *shortened]) == 0
    assert (project / "runs").exists() == (bool(shortened) or verb == "compare")


@pytest.mark.parametrize("command", [one for one in COMMANDS if any(word in one.split() for word in NEEDS_GPU)])
def test_command_for_gpus_composes(command: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb, *arguments = shlex.split(command)[1:]
    assert main([verb, "--cfg", "job", *arguments]) == 0
    assert "accelerator: gpu" in capsys.readouterr().out


def planned(rules: dict[str, Any]) -> lo.Plan:
    """A model that has everything which the README's examples select."""
    net = nn.ModuleDict(
        {
            "layer": nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.BatchNorm2d(2), nn.Linear(2, 2)),
            "embed": nn.Embedding(3, 40),
            "blocks": nn.ModuleList(nn.ModuleDict({"mlp": nn.Linear(40, 40), "norm": nn.LayerNorm(40)}) for _ in "012"),
            "backbone": nn.Linear(2, 2),
            "head": nn.Linear(40, 3),
        }
    )
    optimizer = {"_target_": "torch.optim.AdamW", "lr": 3e-4, "weight_decay": 0.1}
    recipe = lo.Recipe.from_config({"optimizer": optimizer, "rules": rules})
    return lo.make_plan(nn.ModuleDict({"net": net}), recipe, lo.Horizon(total_steps=1000, steps_per_epoch=100))


def table_under(heading: str) -> list[list[str]]:
    """The cells of the table that has this heading, a row a list."""
    lines = TEXT[TEXT.index(heading) :].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(bool, lines)]


def test_every_match_of_the_table_selects_something() -> None:
    matches = [
        re.sub(r"\\\\", r"\\", text)
        for row in table_under("| match | selects |")
        for text in re.findall(r"`([^`]+)`", row[0])
    ]
    assert len(matches) > 8
    for text in matches:
        plan = planned(
            {
                "a": {
                    "match": OmegaConf.create(f"match: {text}" if text[0] in "{[" else f'match: "{text}"').match,
                    "lr": 1.0,
                }
            }
        )
        assert plan.rules["a"], text


def test_what_others_say_is_said_as_shown() -> None:
    rules = [text for row in table_under("| elsewhere | here |") for text in re.findall(r"`(\w+: \{[^`]+)`", row[1])]
    assert len(rules) >= 8
    for text in rules:
        name = text.partition(":")[0]
        plan = planned(OmegaConf.to_container(OmegaConf.create(text)))
        assert name in plan.rules, text
        assert plan.rules[name], text


def test_the_second_recipe_is_sound(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(block("yaml", 1))
    recipe = lo.Recipe.from_config(tmp_path / "recipe.yaml")
    plan = lo.make_plan(WithNorm(), recipe, lo.Horizon(total_steps=1000, steps_per_epoch=100))
    assert plan.warnings == ()
    assert {group.optimizer for group in plan.groups} == {"torch.optim.AdamW", "torch.optim.Muon"}
    assert all(plan.rules.values())


class WithNorm(MLP):
    def __init__(self) -> None:
        super().__init__(784, (300, 200), 10)
        self.layer.insert(1, nn.LayerNorm(300))


@pytest.mark.slow
def test_the_dashboard_command_finds_the_run(project: Path) -> None:
    assert "tensorboard --logdir runs " in block("bash", 4)
    assert main(["train", *SHORT, "trainer.max_epochs=1"]) == 0
    program = [sys.executable, "-m", "tensorboard.main", "--logdir", "runs", "--inspect"]
    seen = subprocess.run(program, capture_output=True, text=True, timeout=120, check=True)
    assert "train/loss" in seen.stdout
    assert "lr/no_decay" in seen.stdout


def test_the_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(block("yaml"))
    model = MLP(784, (300, 200), 10)
    names = {"model": model, "module": lo.LitClassifier(model, lo.Recipe.from_config("recipe.yaml"))}
    exec(compile(block("python", 1), "README.md", "exec"), names)
    assert [group["name"] for group in names["optimizer"].param_groups] == [
        group.name for group in names["plan"].groups
    ]


def test_the_schedule_of_one_s_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block("python", 0), "README.md", "exec"), names)
    curve = names["halving"](every=10).curve(1.0, lo.Horizon(total_steps=30))
    assert [curve(0), curve(9), curve(10), curve(29)] == [1.0, 1.0, 0.5, 0.25]
