"""The YAML files: each says what it is for, its command composes, and each experiment trains."""

from __future__ import annotations

import functools
import json
import shlex
from pathlib import Path
from typing import Any

import hydra
import lit_optim.conf
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lit_optim as lo
from lit_optim.cli.overrides import accept_new_keys
from lit_optim.models import MLP

CONF = Path(lit_optim.conf.__file__).parent
FILES = sorted(str(path.relative_to(CONF)) for path in CONF.glob("*.yaml")) + sorted(
    str(path.relative_to(CONF)) for path in CONF.glob("*/*.yaml")
)  # those below hydra/ are test_search.py's
EXPERIMENTS = [Path(name).stem for name in FILES if name.startswith("experiment/")]
TINY = ("data=digits", "data.batch_size=256", "model.hidden_dims=[8,8]", "test=false", "trainer.max_epochs=2")


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """Composed as by the command."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("lit_optim.conf", version_base="1.3"):
        return hydra.compose("config", overrides=accept_new_keys(overrides))


def comments(name: str) -> list[str]:
    lines = [line for line in (CONF / name).read_text().splitlines() if line != "# @package _global_"]
    return [line.removeprefix("# ") for line in lines[:2]]


def test_there_are_files() -> None:
    assert {"config.yaml", "experiment/step_lr.yaml", "optimizer/adamw.yaml", "trainer/fsdp.yaml"} <= {*FILES}
    assert {"tutorial_sgd", "tutorial_momentum", "tutorial_adam", "tutorial_rmsprop", "tutorial_adagrad", "layer_lrs",
            "step_lr"} <= {*EXPERIMENTS}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_opens_with_what_it_is_for_and_a_command_that_composes(name: str) -> None:
    purpose, command = comments(name)
    assert purpose.endswith((".", ")."))
    assert len(purpose) > 10
    program, verb, *overrides = shlex.split(command)
    assert (program, verb) == ("lit-optim", "train")
    config = composed(*overrides)
    if name != "config.yaml":
        group, _, choice = name.removesuffix(".yaml").partition("/")
        plain = composed(f"{group}={choice}")
        chosen = composed(*[override for override in overrides if override.startswith(f"{group}=")])
        default = OmegaConf.load(CONF / "config.yaml").defaults
        assert chosen == plain or {group: choice} in OmegaConf.to_container(default)
    assert set(config) >= {"optimizer", "rules", "schedule", "model", "data", "trainer", "callbacks", "logger"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_shows(name: str) -> None:
    purpose, command = comments(f"experiment/{name}.yaml")
    assert purpose.startswith("Shows ")
    assert command == f"lit-optim train experiment={name}"
    assert composed(f"experiment={name}").name == name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_trains_in_a_folder_of_its_own(lit_optim_: Any, tmp_path: Path, name: str) -> None:
    ended = lit_optim_("train", f"experiment={name}", *TINY)
    assert ended.code == 0, ended.err
    [run] = (tmp_path / "runs" / name).iterdir()
    assert json.loads((run / "metrics.json").read_text())["status"] == "finished"
    plan = lo.Plan.from_json((run / "plan.json").read_text())
    scalars = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    for group in plan.groups:
        lrs = [point.value for point in scalars.Scalars(f"lr/{group.name}")]
        np.testing.assert_array_equal(np.float32(lrs), np.float32(plan.curve(group.name, "lr")))
    check = CHECKS[name]
    check(plan)


def is_plain(optimizer: str, **values: float) -> Any:
    def check(plan: lo.Plan) -> None:
        [group] = plan.groups
        assert group.optimizer == f"torch.optim.{optimizer}"
        assert group.hyperparameters.items() >= values.items()
        assert group.schedules == {}

    return check


def check_layer_lrs(plan: lo.Plan) -> None:
    base, special = plan.groups
    assert (base.hyperparameters["lr"], special.hyperparameters["lr"]) == (0.0001, 0.001)
    assert special.name == "special"
    assert special.parameters == ("net.layer.4.weight", "net.layer.4.bias")
    assert len(base.parameters) == 4


def check_step_lr(plan: lo.Plan) -> None:
    lrs = plan.curve("default", "lr")
    total = int(plan.horizon.total_steps)
    first, second = round(total * 0.5), round(total * 0.8)
    assert set(lrs[:first]) == {0.1}
    assert set(lrs[first:second]) == {0.01}
    assert set(lrs[second:]) == {0.001}


def check_mnist_best(plan: lo.Plan) -> None:
    rates = {group.optimizer: group.hyperparameters["lr"] for group in plan.groups}
    assert rates == {"torch.optim.AdamW": 0.001, "torch.optim.Muon": 0.05}


CHECKS = {
    "tutorial_sgd": is_plain("SGD", lr=0.01, momentum=0.0),
    "tutorial_momentum": is_plain("SGD", lr=0.01, momentum=0.9),
    "tutorial_adam": is_plain("Adam", lr=0.001),
    "tutorial_rmsprop": is_plain("RMSprop", lr=0.001),
    "tutorial_adagrad": is_plain("Adagrad", lr=0.01),
    "layer_lrs": check_layer_lrs,
    "step_lr": check_step_lr,
    "mnist_best": check_mnist_best,
}


@pytest.mark.parametrize("overrides", [[f"schedule={Path(n).stem}"] for n in FILES if n.startswith("schedule/")])
def test_every_schedule_plans_with_every_optimizer(lit_optim_: Any, overrides: list[str]) -> None:
    ended = lit_optim_("plan", *TINY, *overrides)
    assert ended.code == 0, ended.err


OPTIMIZERS = [Path(n).stem for n in FILES if n.startswith("optimizer/")]
GIVEN = ("sgd", "momentum", "nesterov", "adam", "adamw", "adagrad", "rmsprop", "radam", "nadam", "adafactor", "lbfgs",
         "muon_adamw", "schedule_free", "sam", "lion", "soap", "shampoo")  # fmt: skip


def test_every_optimizer_is_there() -> None:
    assert {*OPTIMIZERS} == {*GIVEN}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_on_digits(lit_optim_: Any, tmp_path: Path, name: str) -> None:
    """With the rules and the schedule that it comes with, and better than by chance within two epochs."""
    tiny = ("data=digits", "model.hidden_dims=[32,16]", "trainer.max_epochs=2", "data.batch_size=16")
    ended = lit_optim_("train", *tiny, f"optimizer={name}", "callbacks.progress=null", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert metrics["final"]["test/acc"] > 0.2
    plan = lo.Plan.from_json((tmp_path / "run" / "plan.json").read_text())
    assert not plan.warnings


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_plans_without_a_rule(lit_optim_: Any, name: str) -> None:
    ended = lit_optim_("plan", *TINY, f"optimizer={name}", "rules=none", "schedule=none")
    assert ended.code == 0, ended.err
    assert "warning" not in ended.out


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_command_that_an_optimizer_shows_plans(lit_optim_: Any, name: str) -> None:
    overrides = shlex.split(comments(f"optimizer/{name}.yaml")[1])[2:]
    ended = lit_optim_("plan", *TINY, *overrides)
    assert ended.code == 0, ended.err


def test_what_an_optimizer_comes_with_gives_way_to_the_command_line(lit_optim_: Any) -> None:
    assert "→" not in lit_optim_("plan", *TINY, "optimizer=schedule_free").out
    assert "→" in lit_optim_("plan", *TINY, "optimizer=schedule_free", "schedule=cosine").out
    refused = lit_optim_("plan", *TINY, "optimizer=lbfgs", "rules=no_decay")
    assert refused.code == 1
    assert "rules.no_decay.weight_decay: torch.optim.LBFGS has no hyperparameter 'weight_decay'" in refused.err


def test_muon_gets_the_hidden_matrices(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", *TINY, "optimizer=muon_adamw", "--json")
    groups = {group["name"]: group for group in json.loads(ended.out)["groups"]}
    assert groups["hidden"]["parameters"] == ["net.layer.0.weight", "net.layer.2.weight"]
    assert groups["hidden"]["optimizer"] == "torch.optim.Muon"
    assert {name: group["optimizer"] for name, group in groups.items() if name != "hidden"} == {
        "no_decay": "torch.optim.AdamW",
        "default": "torch.optim.AdamW",
    }


@pytest.mark.parametrize("name", ["sgd", "muon_adamw", "schedule_free", "lbfgs"])
def test_another_app_finds_the_groups(tmp_path: Path, name: str) -> None:
    (tmp_path / "app.yaml").write_text(
        "hydra: {searchpath: [pkg://lit_optim.conf]}\n"
        "defaults: [rules: no_decay, schedule: cosine, optimizer: adamw, _self_]\nmine: 1\n"
    )
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = hydra.compose("app", overrides=[f"optimizer={name}"])
    assert config.mine == 1
    parts = {part: config[part] for part in ("optimizer", "rules", "schedule")}
    lo.make_plan(MLP(4, (3, 3), 2), lo.Recipe.from_config(parts), lo.Horizon(100))
