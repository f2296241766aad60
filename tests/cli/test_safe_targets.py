"""Whatever a config names is checked before it is called; factories are the project's to allow."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import lit_optim as lo
from lit_optim.cli.project import allowed_factories

TINY = ("data=digits", "trainer.max_epochs=1", "data.batch_size=256")
DANGERS: dict[str, dict[str, Any]] = {
    "os.system": {"command": "touch pwned"},
    "builtins.eval": {"source": "open('pwned', 'w')"},
    "torch.load": {"f": "pwned", "weights_only": False},
    "torch.hub.load": {"repo_or_dir": "pwned", "model": "x", "source": "local"},
    "subprocess.Popen": {"args": ["touch", "pwned"]},
    "pickle.loads": {"data": "pwned"},
}
PLACES: dict[str, Callable[[Any], Any]] = {  # the key of the node, and what an experiment writes to have it there
    "model": lambda node: {"model": node},
    "model.hidden_dims.1": lambda node: {"model": {"hidden_dims": [8, node]}},
    "data": lambda node: {"data": node},
    "data.batch_size": lambda node: {"data": {"batch_size": node}},
    "callbacks.x": lambda node: {"callbacks": {"x": node}},
    "callbacks.x.y": lambda node: {"callbacks": {"x": {"_target_": "lightning.pytorch.Callback", "y": node}}},
    "callbacks.recorder.flush_every": lambda node: {"callbacks": {"recorder": {"flush_every": node}}},
    "logger": lambda node: {"logger": node},
    "logger.save_dir": lambda node: {"logger": {"save_dir": node}},
    "trainer": lambda node: {"trainer": node},
    "trainer.strategy": lambda node: {"trainer": {"strategy": node}},
    "trainer.plugins.0": lambda node: {"trainer": {"plugins": [node]}},
    "optimizer": lambda node: {"optimizer": node},
    "optimizer.betas.0": lambda node: {"optimizer": {"betas": [node, 0.999]}},
    "rules.own.betas.0": lambda node: {"rules": {"own": {"match": "layer.2", "betas": [node, 0.999]}}},
    "rules.own.optimizer": lambda node: {"rules": {"own": {"match": "layer.2", "optimizer": node}}},
    "schedule.lr": lambda node: {"schedule": {"lr": node}},
    "schedule.lr.final_factor.0": lambda node: {"schedule": {"lr": {"final_factor": [node]}}},
}
TRICKS = """
import functools, os, subprocess
from os import system as alias
Innocent = subprocess.Popen
bound = functools.partial(os.system, "touch pwned")
lazily = lambda **anything: os.system("touch pwned")

class Heir(subprocess.Popen):
    pass

class Caller:
    def __call__(self, **anything):
        os.system("touch pwned")

    @classmethod
    def build(cls, **anything):
        os.system("touch pwned")

instance = Caller()
"""


def trace(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refusal(lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], str]:
    """Gives a verb an experiment, and sees to it that it is refused before anything dangerous runs."""
    ran: list[str] = []

    def watch(owner: Any, attribute: str) -> None:
        original = getattr(owner, attribute)

        def watched(*given: Any, **named: Any) -> Any:
            if any("pwned" in repr(one) for one in (*given, *named.values()) if not isinstance(one, subprocess.Popen)):
                ran.append(attribute)
            return original(*given, **named)

        monkeypatch.setattr(owner, attribute, watched)

    for owner, attribute in (
        (os, "system"), (builtins, "eval"), (pickle, "loads"), (torch, "load"), (torch.hub, "load"),
        (subprocess.Popen, "__init__"),
    ):  # fmt: skip
        watch(owner, attribute)
    (tmp_path / "tricks.py").write_text(TRICKS)

    def refused(verb: str, experiment: Any) -> str:
        path = tmp_path / "own" / "experiment" / "evil.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\n{yaml.safe_dump(experiment)}")
        before = trace(tmp_path)
        plain = () if "schedule" in experiment else ("schedule=none",)  # without a trainer a schedule has 10⁹ steps
        ended = lit_optim_(verb, "--config-dir", "own", "data=digits", *plain, "experiment=evil")
        assert ended.code == 1, ended.out + ended.err
        assert ended.err.startswith("lit-optim: ")
        assert "Traceback" not in ended.err
        assert ended.out == ""
        assert trace(tmp_path) == before
        assert ran == []
        return str(ended.err)

    return refused


# --- nothing dangerous runs ------------------------------------------------------------------------------------------


def check_places(refusal: Callable[[str, Any], str], places: Sequence[str], node: dict[str, Any]) -> str:
    """The node is refused in each of the places, all of which one look at a config reaches."""
    verb = "train" if places[0].startswith("logger") else "plan"  # which takes no logger
    says = refusal(verb, {key: part for place in places for key, part in PLACES[place](node).items()})
    for place in places:
        assert f"\n{place}._target_: " in says
    return says


@pytest.mark.parametrize("place", PLACES)
def test_a_danger_is_refused_wherever_it_stands(refusal: Any, place: str) -> None:
    assert "os.system" in check_places(refusal, [place], {"_target_": "os.system", **DANGERS["os.system"]})


@pytest.mark.parametrize(
    "places",
    [
        ("model", "callbacks.x", "optimizer.betas.0"),
        ("model.hidden_dims.1", "callbacks.x.y", "rules.own.betas.0"),
        ("data", "callbacks.recorder.flush_every"),
        ("data.batch_size", "trainer.strategy"),
        ("trainer", "optimizer", "schedule.lr.final_factor.0"),
        ("trainer.plugins.0", "rules.own.optimizer", "schedule.lr"),
        ("logger",),
        ("logger.save_dir",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", DANGERS)
def test_every_danger_is_refused_in_every_place(refusal: Any, name: str, places: tuple[str, ...]) -> None:
    says = check_places(refusal, places, {"_target_": name, **DANGERS[name]})
    assert says.count(name) >= len(places)


@pytest.mark.parametrize("name", DANGERS)
def test_a_partial_of_a_danger_is_refused(refusal: Any, name: str) -> None:
    arguments = DANGERS[name]
    for node in (
        {"_target_": "functools.partial", "func": name, **arguments},
        {"_target_": "functools.partial", "_args_": [name, *arguments.values()]},
        {"_target_": name, "_partial_": True, **arguments},
        {"_target_": name, "_args_": [*arguments.values()]},
    ):
        check_places(refusal, ["model", "trainer.strategy", "optimizer.betas.0"], node)


@pytest.mark.parametrize(
    "target",
    [
        "tricks.alias",
        "tricks.Innocent",
        "tricks.bound",
        "tricks.lazily",
        "tricks.Heir",
        "tricks.Caller",
        "tricks.Caller.build",
        "tricks.instance",
        "tricks.instance.build",
        "tricks",
        "torch.optim.SGD",
        "torch.optim.SGD.step",
        "lightning.pytorch.LightningModule.load_from_checkpoint",
        "lightning.pytorch.Trainer.fit",
    ],
)
def test_no_trick_gets_past_the_check(refusal: Any, target: str) -> None:
    check_places(refusal, ["model", "trainer.strategy"], {"_target_": target, "command": "touch pwned"})


@pytest.mark.parametrize("place", ["model", "data", "trainer.strategy", "logger.save_dir", "schedule.lr"])
def test_train_refuses_the_same(refusal: Any, place: str) -> None:
    assert f"\n{place}._target_: " in refusal("train", PLACES[place]({"_target_": "os.system", **DANGERS["os.system"]}))


def test_all_bad_targets_of_a_node_are_told_at_once(refusal: Any) -> None:
    model = {"_target_": "os.system", "hidden_dims": [{"_target_": "torch.load"}, {"a": {"_target_": "builtins.eval"}}]}
    says = refusal("plan", {"model": model})
    for key in ("model._target_", "model.hidden_dims.0._target_", "model.hidden_dims.1.a._target_"):
        assert f"\n{key}: " in says


@pytest.mark.parametrize(
    ("key", "value"), [("_partial_", True), ("_args_", [1]), ("_convert_", "all"), ("_recursive_", 0)]
)
def test_hydras_own_keys_are_refused_by_name(refusal: Any, key: str, value: Any) -> None:
    node = {"_target_": "lightning.pytorch.callbacks.LambdaCallback", key: value}
    assert f"\ncallbacks.x.{key}: this key is Hydra's" in refusal("plan", {"callbacks": {"x": node}})


# --- factories -------------------------------------------------------------------------------------------------------

FACTORIES = """
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from lit_optim.data import Digits
from lit_optim.integration.tensorboard import RunLogger
from lit_optim.models import MLP
from lit_optim.schedules import Linear

def model(in_dim, out_dim, wide=8):
    return MLP(in_dim, [wide], out_dim)

def any_model(name, **anything):
    assert name == "small", name
    return MLP(hidden_dims=[8], **anything)

again = model

class Zoo:
    model = staticmethod(model)

def data(**anything):
    return Digits(**anything)

def callback():
    return Callback()

def logger(save_dir):
    return RunLogger(save_dir)

def trainer(**anything):
    return Trainer(**anything)

def strategy():
    return SingleDeviceStrategy("cpu")

def schedule():
    return Linear()

def optimizer(params, lr=0.1):
    return torch.optim.SGD(params, lr=lr)

def number():
    return 7
"""
OWN = ("model=own", "model._target_=factories.model")


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., None]:
    """Writes the user's module and a ``pyproject.toml`` that allows some of its functions."""
    (tmp_path / "factories.py").write_text(FACTORIES)

    def write(*names: str, folder: Path = tmp_path) -> None:
        listed = ", ".join(f'"{name}"' for name in names)
        (folder / "pyproject.toml").write_text(f"[project]\nname = 'x'\n[tool.lit-optim]\nallow = [{listed}]\n")

    return write


def check_refused(ended: Any, *says: str) -> None:
    assert ended.code == 1, ended.out + ended.err
    assert ended.err.startswith("lit-optim: ConfigError\n")
    assert ended.err.count("\nlit-optim: ") == 0
    assert "Traceback" not in ended.err
    for words in says:
        assert words in ended.err


def test_a_function_is_refused_and_the_line_that_allows_it_is_told(lit_optim_: Any, project: Any) -> None:
    line = 'pyproject.toml allows it by this very name: [tool.lit-optim] allow = ["factories.model"]'
    check_refused(lit_optim_("plan", *TINY, *OWN), "model._target_: factories.model is not a torch Module", line)
    project()
    check_refused(lit_optim_("plan", *TINY, *OWN), "model._target_: factories.model is not a torch Module", line)
    project("factories.any_model")
    check_refused(lit_optim_("train", *TINY, *OWN), line)


def test_an_allowed_factory_makes_the_model(lit_optim_: Any, tmp_path: Path, project: Any) -> None:
    project("factories.model")
    ended = lit_optim_("plan", *TINY, *OWN, "model.wide=5")
    assert ended.code == 0, ended.err
    assert "385 trained" in ended.out  # 64 · 5 + 5 + 5 · 10 + 10
    ended = lit_optim_("train", *TINY, *OWN, "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_a_factory_that_takes_any_name_is_given_what_the_config_holds(lit_optim_: Any, project: Any) -> None:
    project("factories.any_model")
    own = ("model=own", "model._target_=factories.any_model", "model.name=small")
    ended = lit_optim_("plan", *TINY, *own, "model.in_dim=64", "model.out_dim=10")
    assert ended.code == 0, ended.err
    ended = lit_optim_("plan", *TINY, *own, "model.in_dim=null", "model.out_dim=null")
    assert ended.code == 0, ended.err
    check_refused(lit_optim_("plan", *TINY, *own, "model.in_dim=3", "model.out_dim=10"), "model.in_dim:", "64")
    check_refused(lit_optim_("plan", *TINY, *own), "model: factories.any_model refused its arguments: TypeError")
    check_refused(lit_optim_("plan", *TINY, *own[:2]), "model.name: factories.any_model needs 'name'")


def test_the_arguments_of_a_factory_are_checked(lit_optim_: Any, project: Any) -> None:
    project("factories.model")
    ended = lit_optim_("plan", *TINY, *OWN, "model.wdie=5")
    check_refused(ended, "model.wdie: factories.model has no argument 'wdie'", "nearest: wide")


@pytest.mark.parametrize(
    ("target", "overrides"),
    [
        ("data", ("data=own", "data._target_=factories.data", "data.batch_size=256")),
        ("callback", ("+callbacks.x._target_=factories.callback",)),
        ("logger", ("logger._target_=factories.logger",)),
        ("trainer", ("trainer._target_=factories.trainer",)),
        ("strategy", ("trainer.strategy={_target_: factories.strategy}",)),
        ("schedule", ("schedule=none", "schedule.lr._target_=factories.schedule")),
    ],
)
def test_every_other_node_takes_a_factory_too(
    lit_optim_: Any, tmp_path: Path, project: Any, target: str, overrides: tuple[str, ...]
) -> None:
    project()
    before = trace(tmp_path)
    ended = lit_optim_("train", "data=digits", "trainer.max_epochs=1", *overrides)
    assert ended.code == 1
    assert f'[tool.lit-optim] allow = ["factories.{target}"]' in ended.err
    assert trace(tmp_path) == before
    project(f"factories.{target}")
    ended = lit_optim_("train", "data=digits", "trainer.max_epochs=1", *overrides, "hydra.run.dir=run", "test=false")
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_what_it_makes_has_to_be_of_the_kind(lit_optim_: Any, tmp_path: Path, project: Any) -> None:
    project("factories.number")
    before = trace(tmp_path)
    ended = lit_optim_("train", *TINY, "model=own", "model._target_=factories.number")
    check_refused(ended, "model: factories.number returned int, which is no torch Module")
    ended = lit_optim_("train", *TINY, "trainer.strategy={_target_: factories.number}")
    check_refused(ended, "trainer.strategy: factories.number returned int, which is no lightning Strategy or")
    assert trace(tmp_path) == before


@pytest.mark.parametrize("name", ["factories.again", "factories.Zoo.model"])
def test_only_the_exact_name_is_allowed(lit_optim_: Any, project: Any, name: str) -> None:
    project("factories.model")
    check_refused(lit_optim_("plan", *TINY, "model=own", f"model._target_={name}"), f'allow = ["{name}"]')


def test_an_optimizer_stays_a_class(lit_optim_: Any, project: Any) -> None:
    project("factories.optimizer")
    ended = lit_optim_("plan", *TINY, "optimizer._target_=factories.optimizer")
    assert ended.code == 1
    assert "optimizer._target_: factories.optimizer is not a torch Optimizer" in ended.err
    assert "tool.lit-optim" not in ended.err


def test_the_nearest_project_counts_and_no_other(
    lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Any
) -> None:
    project("factories.model")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "factories.py").rename(deep / "factories.py")
    monkeypatch.chdir(deep)
    ended = lit_optim_("plan", *TINY, *OWN)
    assert ended.code == 0, ended.err
    (tmp_path / "a" / "pyproject.toml").write_text("")
    check_refused(lit_optim_("plan", *TINY, *OWN), "model._target_:")
    project("factories.model", folder=deep)
    assert lit_optim_("plan", *TINY, *OWN).code == 0


def test_what_one_launch_was_allowed_the_next_is_not(lit_optim_: Any, tmp_path: Path, project: Any) -> None:
    project("factories.model")
    assert lit_optim_("plan", *TINY, *OWN).code == 0
    check_refused(lit_optim_("plan", *TINY, *OWN, "model.wdie=5"), "model.wdie")
    (tmp_path / "pyproject.toml").unlink()
    check_refused(lit_optim_("plan", *TINY, *OWN), "model._target_:")
    with lo.targets.allowing("factories.model"):
        assert lit_optim_("plan", *TINY, *OWN).code == 0
        assert lit_optim_("plan", *TINY, *OWN).code == 0
    check_refused(lit_optim_("plan", *TINY, *OWN), "model._target_:")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("+allow=[factories.model]",), "allow: nothing reads this"),
        (("+tool.lit-optim.allow=[factories.model]",), "tool: nothing reads this"),
        (("+lit-optim.allow=[factories.model]",), "lit-optim: nothing reads this"),
        (("+model.allow=[factories.model]",), "model._target_: factories.model is not a torch Module"),
        (("--config-dir", "own", "experiment=own"), "model._target_: factories.model is not a torch Module"),
    ],
)
def test_no_config_allows_anything(
    lit_optim_: Any, tmp_path: Path, project: Any, overrides: tuple[str, ...], told: str
) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ntool: {lit-optim: {allow: [factories.model]}}\nallow: [factories.model]\n"
    (tmp_path / "own" / "experiment" / "own.yaml").write_text(text)
    (tmp_path / "own" / "pyproject.toml").write_text('[tool.lit-optim]\nallow = ["factories.model"]\n')
    ended = lit_optim_("plan", *TINY, *OWN, *overrides)
    assert ended.code == 1
    assert "lit-optim: ConfigError\n" in ended.err
    assert told in ended.err


def test_each_job_of_a_sweep_may_call_it(lit_optim_: Any, tmp_path: Path, project: Any) -> None:
    project("factories.model")
    ended = lit_optim_("train", "-m", *TINY, *OWN, "seed=1,2", "hydra.sweep.dir=sweep", "test=false")
    assert ended.code == 0, ended.err
    assert {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()} == {"0", "1"}


# --- the list itself -------------------------------------------------------------------------------------------------

MALFORMED: dict[str, tuple[str, str, str]] = {  # the file, the key, and what is said of it
    "no list": ('[tool.lit-optim]\nallow = "a.b"', "tool.lit-optim.allow", "a list is needed"),
    "a table": ("[tool.lit-optim.allow]\nx = 1", "tool.lit-optim.allow", "a list is needed"),
    "a number": ('[tool.lit-optim]\nallow = ["a.b", 3]', "tool.lit-optim.allow.1", "this is no dotted name"),
    "a list inside": ('[tool.lit-optim]\nallow = [["a.b"]]', "tool.lit-optim.allow.0", "this is no dotted name"),
    "no dot": ('[tool.lit-optim]\nallow = ["eval"]', "tool.lit-optim.allow.0", "this is no dotted name"),
    "a glob": ('[tool.lit-optim]\nallow = ["timm.*"]', "tool.lit-optim.allow.0", "this is no dotted name"),
    "a space": ('[tool.lit-optim]\nallow = ["timm.create model"]', "tool.lit-optim.allow.0", "this is no dotted name"),
    "a misspelled setting": ('[tool.lit-optim]\nalow = ["a.b"]', "tool.lit-optim.alow", "no such setting"),
    "no table": ("[tool]\nlit-optim = 3", "tool.lit-optim", "a table is needed"),
    "no tool table": ("tool = 3", "tool", "a table is needed"),
    "broken": ("[tool.lit-optim\nallow = []", "pyproject.toml", "it can't be read: Expected"),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("verb", ["plan", "train"])
def test_a_malformed_list_is_one_refusal_before_anything_runs(
    lit_optim_: Any, tmp_path: Path, project: Any, case: str, verb: str
) -> None:
    text, key, says = MALFORMED[case]
    (tmp_path / "pyproject.toml").write_text(text)
    before = trace(tmp_path)
    ended = lit_optim_(verb, *TINY, *OWN)
    check_refused(ended, f"\n{key}: {says}", str(tmp_path / "pyproject.toml"), "    fix:     ")
    assert ended.out == ""
    assert "factories" not in sys.modules
    assert trace(tmp_path) == before


def test_what_is_wrong_with_a_list_is_told_with_its_way_out(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.lit-optim]\nalow = 1\nallow = ["a.b", "b", 3]\n')
    with pytest.raises(lo.ConfigError) as refused:
        allowed_factories(tmp_path)
    example = '    fix:     for example [tool.lit-optim] allow = ["timm.create_model"]'
    assert str(refused.value).splitlines() == [
        f"tool.lit-optim.alow: no such setting (in {path})",
        "    given:   1",
        "    allowed: allow",
        "    nearest: allow",
        "    fix:     correct the name",
        f"tool.lit-optim.allow.1: this is no dotted name (in {path})",
        "    given:   'b'",
        example,
        f"tool.lit-optim.allow.2: this is no dotted name (in {path})",
        "    given:   3",
        example,
    ]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(lo.ConfigError) as refused:
        allowed_factories(tmp_path)
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("pyproject.toml: it can't be read: ")
    assert lines[1:] == [f"    given:   {tmp_path / 'pyproject.toml'}", "    fix:     mend the file"]


def test_the_names_of_the_nearest_file(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "pyproject.toml").mkdir()  # no file
    (tmp_path / "pyproject.toml").write_text('[tool.lit-optim]\nallow = ["a.b", "c.d.e"]\n')
    assert allowed_factories(deep) == ("a.b", "c.d.e")
    for text in ("", "[tool.lit-optim]\n", "[tool.ruff]\n", "[tool.lit-optim]\nallow = []\n"):
        (tmp_path / "a" / "pyproject.toml").write_text(text)
        assert allowed_factories(deep) == ()


TWINS = """
from torch import nn
from pytorch_lightning import Callback, LightningDataModule, LightningModule
from pytorch_lightning.loggers import CSVLogger as Table

class Lit(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(64, 10)
    def forward(self, x):
        return self.net(x)

class Data(LightningDataModule):
    pass

class Told(Callback):
    pass

def made():
    return Lit()
"""


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (("model=own", "model._target_=twins.Lit"), "model._target_: this is a LightningModule"),
        (("data=own", "data._target_=twins.Data"), "data._target_: this is a LightningDataModule"),
        (("+callbacks.told._target_=twins.Told",), "callbacks.told._target_: this is a Callback"),
        (("logger=none", "+logger.a._target_=twins.Table"), "logger.a._target_: this is a Logger"),
        (("model=own", "model._target_=twins.made"), "model: this is a LightningModule"),
    ],
)
def test_a_class_of_lightning_s_other_package_is_refused(
    given: tuple[str, ...], kind: str, process: Any, tmp_path: Path
) -> None:
    (tmp_path / "twins.py").write_text(TWINS)
    (tmp_path / "pyproject.toml").write_text('[tool.lit-optim]\nallow = ["twins.made"]\n')
    ended = process("train", *TINY, *given)
    check_refused(ended, f"{kind} of pytorch_lightning")
    assert "    fix:     import it from lightning.pytorch\n" in ended.err


def test_a_network_without_a_forward_is_refused_before_training(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        "from torch import nn\n\nclass Net(nn.Linear):\n    forward = nn.Module.forward\n"
    )
    net = ("model=own", "model._target_=bare.Net", "model.in_features=64", "model.out_features=10")
    check_refused(lit_optim_("train", *TINY, *net), "model._target_: this network has no forward", "bare.Net")
    assert not (tmp_path / "runs").exists()
