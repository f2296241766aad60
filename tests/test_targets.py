import builtins
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import Logger

import lit_optim as lo
from lit_optim.durations import Horizon
from lit_optim.schedules import Constant, Cosine, Linear, Milestones, Schedule
from lit_optim.targets import (
    allow,
    allowing,
    argument_mistakes,
    callee_of,
    dotted_name,
    instantiate,
    parameters_of,
    resolve,
    target_mistakes,
)

OPTIMIZER = (torch.optim.Optimizer,)
KIND = "    fix:     name a class of that kind; a function or a method is never called from a config"
HOW = (
    "    fix:     name a class of that kind; a function is called only where the project's pyproject.toml allows it by "
    'this very name: [tool.lit-optim] allow = ["{}"]'
)


@pytest.mark.parametrize(
    ("target", "cls"),
    [
        ("torch.optim.SGD", torch.optim.SGD),
        ("torch.optim.sgd.SGD", torch.optim.SGD),
        ("torch.optim.Optimizer", torch.optim.Optimizer),
    ],
)
def test_a_name_stands_for_its_class(target: str, cls: type) -> None:
    assert resolve(target, OPTIMIZER, "optimizer") is cls


def test_any_of_several_kinds_will_do() -> None:
    kinds = (torch.optim.Optimizer, Schedule)
    assert resolve("lit_optim.schedules.Cosine", kinds, "k") is Cosine
    assert resolve("torch.optim.SGD", kinds, "k") is torch.optim.SGD


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "builtins.object",
        "subprocess.Popen",
        "functools.partial",
        "torch.load",
        "torch.hub.load",
        "torch.optim",
        "torch.optim.SGD.step",
        "torch.optim.SGD.__init__",
        "torch.optim.SGD.__class__",
        "torch.optim.SGD.__mro__",
        "torch.optim.lr_scheduler.StepLR",
        "lit_optim.schedules.Cosine",
        "collections.OrderedDict",
    ],
)
def test_nothing_else_may_be_called(target: str) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        resolve(target, OPTIMIZER, "optimizer")
    assert str(refused.value).splitlines() == [
        f"optimizer._target_: {target} is not a torch Optimizer, so a config may not call it",
        f"    given:   {target}",
        KIND,
    ]


@pytest.mark.parametrize("target", [None, 3, "", "torch optim", "torch.optim.", ".SGD", "torch..SGD", "a-b.C"])
def test_what_is_no_dotted_name_is_refused(target: object) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        resolve(target, OPTIMIZER, "optimizer")
    assert str(refused.value).splitlines() == [
        "optimizer._target_: the dotted name of a class is needed",
        f"    given:   {target!r}",
        "    fix:     name a torch Optimizer",
    ]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (
            "torch.optim.AdmaW",
            [
                "_target_: torch.optim has no 'AdmaW'",
                "    given:   torch.optim.AdmaW",
                "    allowed: ASGD, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, LBFGS, Muon, NAdam, RAdam, "
                "RMSprop … (3 more)",
                "    nearest: AdamW, Adamax, Adam",
                "    fix:     correct the name",
            ],
        ),
        (
            "torch.optm.SGD",
            ["_target_: torch has no 'optm'", "    given:   torch.optm.SGD", "    fix:     correct the name"],
        ),
        (
            "torch.optim.SGD.Inner",
            [
                "_target_: torch.optim.SGD has no 'Inner'",
                "    given:   torch.optim.SGD.Inner",
                "    fix:     correct the name",
            ],
        ),
        (
            "nopackage.optim.SGD",
            [
                "_target_: there is no module 'nopackage'",
                "    given:   nopackage.optim.SGD",
                "    fix:     install it, or start in the folder that holds it; a name starts with its package",
            ],
        ),
    ],
)
def test_a_name_that_leads_nowhere_says_how_far_it_led(target: str, text: list[str]) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        resolve(target, OPTIMIZER, "")
    assert str(refused.value).splitlines() == text


def test_a_module_that_does_not_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "raising_module.py").write_text("raise RuntimeError('not today')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(lo.ConfigError) as refused:
        resolve("broken_module.Mine", OPTIMIZER, "optimizer")
    assert str(refused.value).splitlines() == [
        "optimizer._target_: importing broken_module failed: ModuleNotFoundError: No module named "
        "'a_package_that_nobody_has'",
        "    given:   broken_module",
        "    fix:     mend that module, or install what it needs",
    ]
    with pytest.raises(lo.ConfigError, match="importing raising_module failed: RuntimeError: not today"):
        resolve("raising_module.Mine", OPTIMIZER, "optimizer")


def test_a_users_own_class_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_optimizers.py").write_text(
        "import torch\nclass Home:\n    class Mine(torch.optim.SGD): pass\nclass Mine(torch.optim.SGD): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_optimizers.Mine", "own_optimizers.Home.Mine"):
        assert dotted_name(resolve(name, OPTIMIZER, "optimizer")) == name


def test_a_base_that_can_not_be_made_is_refused() -> None:
    with pytest.raises(lo.ConfigError) as refused:
        resolve("lit_optim.schedules.Schedule", (Schedule,), "schedule.lr")
    assert str(refused.value).splitlines() == [
        "schedule.lr._target_: lit_optim.schedules.Schedule doesn't implement curve",
        "    given:   lit_optim.schedules.Schedule",
        "    fix:     name a subclass that implements it, or implement it",
    ]


def test_nothing_is_run_by_a_refused_target(tmp_path: Path) -> None:
    for target in ("os.mkdir", "pathlib.Path"):
        with pytest.raises(lo.ConfigError):
            instantiate({"_target_": target, "path": str(tmp_path / "made")}, (Schedule,), "k")
    nested = {"_target_": "os.mkdir", "path": str(tmp_path / "made")}
    with pytest.raises(lo.ConfigError):
        instantiate({"_target_": "lit_optim.schedules.Constant", "factor": [nested]}, (Schedule,), "k")
    assert list(tmp_path.iterdir()) == []


def test_a_node_becomes_its_object() -> None:
    node = {"_target_": "lit_optim.schedules.Milestones", "at": [1, "5%"], "factors": [0.1, 0.01]}
    assert instantiate(node, (Schedule,), "k") == Milestones(at=[1, "5%"], factors=[0.1, 0.01])
    assert instantiate({"_target_": "lit_optim.schedules.Linear"}, (Schedule,), "k", duration=7) == Linear(duration=7)
    assert node["at"] == [1, "5%"]


def _forgotten(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a module imported anew, and gone again after the test."""
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    del sys.modules[name]


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    (tmp_path / "holding.py").write_text(
        "class Holder:\n    def __init__(self, one, more=()):\n        self.held = one + 0, more\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    _forgotten("holding", monkeypatch)
    return resolve("holding.Holder", (object,), "k")


def test_nodes_inside_are_built_under_the_same_or_another_check(holder: type[Any]) -> None:
    more = [{"deep": {"_target_": "lit_optim.schedules.Linear"}}]
    node = {"_target_": "holding.Holder", "one": 1, "more": more}
    assert instantiate(node, (holder,), "k", nested=(Schedule,)).held == (1, [{"deep": Linear()}])
    with pytest.raises(
        lo.ConfigError, match=r"^k\.more\.0\.deep\._target_: lit_optim\.schedules\.Linear is not a holding"
    ):
        instantiate(node, (holder,), "k")


def test_all_wrong_arguments_are_told() -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": "lit_optim.schedules.Constant", "factr": 1, "x": "y"}, (Schedule,), "schedule.lr")
    assert str(refused.value).splitlines() == [
        "schedule.lr.factr: lit_optim.schedules.Constant has no argument 'factr'",
        "    given:   1",
        "    allowed: factor, warmup, start_factor",
        "    nearest: factor",
        "    fix:     rename or remove it",
        "schedule.lr.x: lit_optim.schedules.Constant has no argument 'x'",
        "    given:   'y'",
        "    allowed: factor, warmup, start_factor",
        "    fix:     rename or remove it",
    ]


def test_a_missing_argument_is_told() -> None:
    def wants(needed: int, optional: int = 0, *more: int, **any_name: int) -> None: ...

    def strict(needed: int) -> None: ...

    assert [str(m) for m in argument_mistakes(wants, {"other": 1}, "k")] == [
        f"k.needed: {__name__}.{wants.__qualname__} needs 'needed'\n    fix:     set k.needed"
    ]
    assert [m.key for m in argument_mistakes(strict, {"nedeed": 1}, "k")] == ["k.nedeed", "k.needed"]


def test_what_a_constructor_raises_is_told_with_its_node(holder: type[Any]) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": "holding.Holder", "one": "x"}, (holder,), "k")
    assert str(refused.value).splitlines() == [
        'k: holding.Holder refused its arguments: TypeError: can only concatenate str (not "int") to str',
        "    fix:     see its documentation for what it takes",
    ]


def test_a_refusal_of_our_own_passes_as_it_is() -> None:
    node = {"_target_": "lit_optim.durations.Horizon", "total_steps": 0}
    with pytest.raises(lo.PlanError, match=r"^horizon\.total_steps"):
        instantiate(node, (Horizon,), "k")


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (torch.optim.AdamW, "torch.optim.AdamW"),
        (torch.nn.Linear, "torch.nn.Linear"),
        (Cosine, "lit_optim.schedules.Cosine"),
        (OrderedDict, "collections.OrderedDict"),
    ],
)
def test_the_shortest_name_that_leads_back(cls: type, name: str) -> None:
    assert dotted_name(cls) == name
    assert resolve(name, (object,), "k") is cls


def test_resolving_a_schedule_imports_no_torch() -> None:
    code = """
import sys
from lit_optim.targets import instantiate
from lit_optim.schedules import Schedule
instantiate({"_target_": "lit_optim.schedules.Cosine"}, (Schedule,), "k")
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- what must never run ---------------------------------------------------------------------------------------------

DANGERS: dict[str, dict[str, Any]] = {  # each with arguments that would leave a file called pwned, or try to
    "os.system": {"command": "touch pwned"},
    "builtins.eval": {"source": "open('pwned', 'w')"},
    "torch.load": {"f": "pwned", "weights_only": False},
    "torch.hub.load": {"repo_or_dir": "pwned", "model": "x", "source": "local"},
    "subprocess.Popen": {"args": ["touch", "pwned"]},
    "pickle.loads": {"data": "pwned"},
}
TRICKS = """
import builtins, functools, os, pickle, subprocess
import torch

os_system, builtins_eval, pickle_loads = os.system, builtins.eval, pickle.loads
torch_load, torch_hub_load, subprocess_Popen = torch.load, torch.hub.load, subprocess.Popen
bound_os_system = functools.partial(os.system, "touch pwned")
bound_builtins_eval = functools.partial(builtins.eval, "open('pwned', 'w')")
bound_torch_load = functools.partial(torch.load, "pwned")
bound_torch_hub_load = functools.partial(torch.hub.load, "pwned")
bound_subprocess_Popen = functools.partial(subprocess.Popen, ["touch", "pwned"])
bound_pickle_loads = functools.partial(pickle.loads, "pwned")
Innocent = subprocess.Popen
lazily = lambda **anything: os.system("touch pwned")
nothing = None

def function(**anything):
    os.system("touch pwned")

class Heir(subprocess.Popen):
    pass

class Caller:
    def __init__(self, **anything):
        os.system("touch pwned")

    def __call__(self, **anything):
        os.system("touch pwned")

    @classmethod
    def build(cls, **anything):
        os.system("touch pwned")

    @property
    def Schedule(self):
        os.system("touch pwned")

instance = Caller.__new__(Caller)
"""
PLACES: dict[str, tuple[type, ...]] = {
    "schedule.lr": (Schedule,),
    "model": (torch.nn.Module,),
    "data": (LightningDataModule,),
    "callbacks.mine": (Callback,),
    "logger": (Logger,),
    "trainer": (Trainer,),
}
HOLDERS: dict[str, tuple[dict[str, Any], str]] = {  # an allowed class that takes the nested node {}, and its key
    "schedule.lr": ({"_target_": "lit_optim.schedules.Constant", "factor": {}}, "factor"),
    "model": ({"_target_": "lit_optim.models.MLP", "in_dim": 3, "hidden_dims": [8, {}], "out_dim": 2}, "hidden_dims.1"),
    "data": ({"_target_": "lit_optim.data.Digits", "batch_size": {"a": ({},)}}, "batch_size.a.0"),
    "callbacks.mine": ({"_target_": "lit_optim.callbacks.Recorder", "flush_every": [[{}]]}, "flush_every.0.0"),
    "logger": ({"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": {}}, "save_dir"),
    "trainer": ({"_target_": "lightning.pytorch.Trainer", "strategy": {}}, "strategy"),
}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What dangerous ran with anything called pwned; a module of tricks stands in the working directory."""
    calls: list[str] = []

    def watch(owner: Any, attribute: str, name: str) -> None:
        original = getattr(owner, attribute)

        def watched(*given: Any, **named: Any) -> Any:
            harmful = (
                "pwned" in repr(one) for one in (*given, *named.values()) if not isinstance(one, subprocess.Popen)
            )
            if not any(harmful):
                return original(*given, **named)  # an import may need it
            calls.append(name)
            raise RuntimeError(f"{name} ran")

        monkeypatch.setattr(owner, attribute, watched)

    for owner, attribute in ((os, "system"), (builtins, "eval"), (pickle, "loads"), (torch, "load")):
        watch(owner, attribute, f"{owner.__name__}.{attribute}")
    watch(torch.hub, "load", "torch.hub.load")
    watch(subprocess.Popen, "__init__", "subprocess.Popen")
    (tmp_path / "tricks.py").write_text(TRICKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    _forgotten("tricks", monkeypatch)
    return calls


def test_the_watch_sees_what_runs(ran: list[str]) -> None:
    for name, arguments in DANGERS.items():
        *_, module, attribute = name.split(".")
        owner = torch.hub if module == "hub" else sys.modules[module]
        with pytest.raises(RuntimeError, match=r"ran$"):
            getattr(owner, attribute)(**arguments)
    assert ran == [*DANGERS]


def _forms(name: str) -> dict[str, dict[str, Any]]:
    arguments, own = DANGERS[name], name.replace(".", "_")
    return {
        "direct": {"_target_": name, **arguments},
        "in order": {"_target_": name, "_args_": [*arguments.values()]},
        "partial": {"_target_": "functools.partial", "func": name, **arguments},
        "partial in order": {"_target_": "functools.partial", "_args_": [name, *arguments.values()]},
        "Hydra's partial": {"_target_": name, "_partial_": True, **arguments},
        "alias": {"_target_": f"tricks.{own}", **arguments},
        "partial in a module": {"_target_": f"tricks.bound_{own}"},
        "method": {"_target_": f"{name}.__call__", **arguments},
    }


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", _forms("os.system"))
@pytest.mark.parametrize("name", DANGERS)
def test_no_danger_runs_in_any_form_or_place(ran: list[str], name: str, form: str, place: str) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate(_forms(name)[form], PLACES[place], place)
    assert refused.value.mistakes[0].key == f"{place}._target_"
    assert ran == []


@pytest.mark.parametrize("place", HOLDERS)
@pytest.mark.parametrize("form", _forms("os.system"))
@pytest.mark.parametrize("name", DANGERS)
def test_no_danger_runs_inside_an_argument(ran: list[str], name: str, form: str, place: str) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()} or _forms(name)[form]
        return type(value)(map(filled, value)) if isinstance(value, (list, tuple)) else value

    node, key = HOLDERS[place]
    with pytest.raises(lo.ConfigError) as refused:
        instantiate(filled(node), PLACES[place], place)
    assert refused.value.mistakes[0].key == f"{place}.{key}._target_"
    assert ran == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "target",
    [
        "tricks.Innocent",
        "tricks.Heir",
        "tricks.Caller",
        "tricks.Caller.build",
        "tricks.lazily",
        "tricks.function",
        "tricks.instance",
        "tricks.instance.Schedule",
        "tricks.instance.build",
        "tricks.nothing",
        "tricks",
        "os",
        "torch.optim.SGD.step",
        "torch.nn.Module.load_state_dict",
        "torch.nn.Linear.__init__",
        "torch.nn.Linear.forward",
        "torch.nn.Linear.__init__.__globals__",
        "lightning.pytorch.LightningModule.load_from_checkpoint",
        "lightning.pytorch.LightningDataModule.load_from_checkpoint",
        "lightning.pytorch.Trainer.fit",
        "lit_optim.schedules.Constant.curve",
        "lit_optim.schedules.Constant.__class__",
    ],
)
def test_no_trick_gets_past_the_check(ran: list[str], target: str, place: str) -> None:
    for node in ({"_target_": target}, {"_target_": target, "checkpoint_path": "pwned", "model": "pwned"}):
        with pytest.raises(lo.ConfigError) as refused:
            instantiate(node, PLACES[place], place)
        assert [mistake.key for mistake in refused.value.mistakes] == [f"{place}._target_"]
    assert ran == []


def test_nothing_is_left_behind_by_the_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save([1], "pwned")
    before = (tmp_path / "pwned").stat().st_mtime_ns
    for name in DANGERS:
        for form in _forms(name).values():
            with pytest.raises(lo.ConfigError):
                instantiate(form, (Schedule,), "k")
    assert [(path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()] == [("pwned", before)]


# --- first all is checked, then all is built -------------------------------------------------------------------------

MADE = """
from lit_optim.schedules import Schedule

made = []

class Noting(Schedule):
    def __init__(self, inner=None, **anything):
        made.append(inner)

    def curve(self, start, horizon):
        raise NotImplementedError

class Strict(Noting):
    def __init__(self, inner=None):
        super().__init__(inner)

class Turning(Noting):
    def __new__(cls):
        return object()
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the classes of a module called noting were made from."""
    (tmp_path / "noting.py").write_text(MADE)
    monkeypatch.syspath_prepend(tmp_path)
    _forgotten("noting", monkeypatch)
    noting = __import__("noting")
    found: list[Any] = noting.made
    return found


def test_the_innermost_is_built_first(made: list[Any]) -> None:
    inner = {"_target_": "noting.Strict", "inner": 1}
    outer = instantiate({"_target_": "noting.Noting", "inner": [inner], "x": 2}, (Schedule,), "k")
    assert type(outer).__name__ == "Noting"
    assert made[0] == 1
    assert type(made[1][0]).__name__ == "Strict"


def test_all_bad_targets_are_told_at_once_and_nothing_is_built(made: list[Any]) -> None:
    node = {
        "_target_": "os.system",
        "good": {"_target_": "noting.Noting"},
        "a": [{"_target_": "torch.load"}, {"deep": {"_target_": "noting.Noting", "inner": {"_target_": "x.y"}}}],
        "b": {"_target_": None},
        "c": {"_target_": "noting.Strict", "_partial_": True},
    }
    keys = ["_target_", "a.0._target_", "a.1.deep.inner._target_", "b._target_", "c._partial_"]
    for ask in (instantiate, callee_of):
        with pytest.raises(lo.ConfigError) as refused:
            ask(node, (Schedule,), "k")
        assert [mistake.key for mistake in refused.value.mistakes] == [f"k.{key}" for key in keys]
    assert made == []


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ({"inner": [{"_target_": "noting.Strict"}], "othr": 1}, ["k.othr"]),
        ({"inner": [{"_target_": "noting.Strict"}, {"_target_": "noting.Strict", "x": 1}]}, ["k.inner.1.x"]),
        ({"inner": [{"_target_": "noting.Strict"}, {"_target_": "os.system"}]}, ["k.inner.1._target_"]),
        ({"inner": {"_target_": "os.system"}, "othr": 1}, ["k.inner._target_", "k.othr"]),
    ],
)
def test_nothing_is_built_before_all_names_are_checked(made: list[Any], more: dict[str, Any], keys: list[str]) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": "noting.Strict", **more}, (Schedule,), "k")
    assert [mistake.key for mistake in refused.value.mistakes] == keys
    assert made == []


def test_what_the_caller_supplies_is_handed_over_and_replaces_the_nodes_own(made: list[Any]) -> None:
    mine = {"_target_": "os.system"}
    instantiate({"_target_": "noting.Strict", "inner": {"_target_": "noting.Noting"}}, (Schedule,), "k", inner=mine)
    assert made[-1] is mine
    assert len(made) == 1
    with pytest.raises(lo.ConfigError, match=r"^k\.inner\._target_: os\.system is not"):
        instantiate({"_target_": "noting.Strict", "inner": {"_target_": "os.system"}}, (Schedule,), "k", inner=1)


def test_what_the_caller_supplies_counts_as_given_and_has_to_be_taken(made: list[Any], called: list[Any]) -> None:
    with allowing("factories.make"):
        assert instantiate({"_target_": "factories.make"}, (Schedule,), "k", factor=0.5) == Constant(0.5)
    with pytest.raises(lo.ConfigError, match=r"^k\.othr: noting\.Strict has no argument 'othr'"):
        instantiate({"_target_": "noting.Strict"}, (Schedule,), "k", othr=1)
    assert made == []


def test_a_class_that_makes_something_else_is_refused(made: list[Any]) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": "noting.Turning"}, (Schedule,), "schedule.lr")
    assert str(refused.value).splitlines() == [
        "schedule.lr: noting.Turning returned object, which is no lit_optim Schedule",
        "    fix:     name what makes a lit_optim Schedule",
    ]


@pytest.mark.parametrize("target", ["noting.Noting", "noting.Strict"])
def test_hydras_own_keys_are_refused_by_name(made: list[Any], target: str) -> None:
    node = {"_target_": target, "_recursive_": False, "_convert_": "all", "_partial_": True, "_args_": [1]}
    with pytest.raises(lo.ConfigError) as refused:
        instantiate(node, (Schedule,), "schedule.lr")
    assert str(refused.value).splitlines() == [
        "schedule.lr._args_: this key is Hydra's, and it isn't Hydra that builds this",
        "    given:   [1]",
        "    fix:     give the arguments by name, beside _target_",
        "schedule.lr._partial_: this key is Hydra's, and it isn't Hydra that builds this",
        "    given:   True",
        "    fix:     remove it; the target is called once, with the arguments beside it",
        "schedule.lr._convert_: this key is Hydra's, and it isn't Hydra that builds this",
        "    given:   'all'",
        "    fix:     remove it; arguments are plain lists and mappings as they are",
        "schedule.lr._recursive_: this key is Hydra's, and it isn't Hydra that builds this",
        "    given:   False",
        "    fix:     remove it; nodes inside the arguments are built first, always",
    ]
    assert made == []


def test_a_node_that_is_no_mapping_and_names_that_are_no_text_are_told(made: list[Any]) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate("noting.Strict", (Schedule,), "schedule.lr")  # type: ignore[arg-type]
    assert str(refused.value).splitlines() == [
        "schedule.lr: a mapping is needed",
        "    given:   'noting.Strict'",
        "    fix:     give a class (_target_) and its arguments, or null to leave it out",
    ]
    with pytest.raises(lo.ConfigError, match=r"^k\.1: noting\.Strict has no argument '1'"):
        instantiate({"_target_": "noting.Strict", 1: 2}, (Schedule,), "k")  # type: ignore[dict-item]
    assert made == []


# --- factories -------------------------------------------------------------------------------------------------------

FACTORIES = """
import functools

from lit_optim.schedules import Constant
from lit_optim.schedules import Linear as Other

called = []

def make(factor, inner=None):
    called.append((factor, inner))
    return Constant(factor)

def make_any(**anything):
    called.append(anything)
    return Constant(**anything)

def wrong():
    called.append("wrong")
    return 7

make_one = functools.partial(make, 1.0)
again = make

class Zoo:
    made_of = make

    @classmethod
    def make(cls, factor):
        return make(factor)

zoo = Zoo()
"""


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the functions of a module called factories were called with."""
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    _forgotten("factories", monkeypatch)
    factories = __import__("factories")
    found: list[Any] = factories.called
    return found


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("factories.make", {"factor": 0.5}),
        ("factories.make_any", {"factor": 0.5}),
        ("factories.make_one", {}),
        ("factories.Zoo.make", {"factor": 0.5}),
        ("factories.zoo.make", {"factor": 0.5}),
    ],
)
def test_a_factory_is_called_where_it_is_allowed(called: list[Any], target: str, arguments: dict[str, Any]) -> None:
    node = {"_target_": target, **arguments}
    with pytest.raises(lo.ConfigError):
        instantiate(node, (Schedule,), "k")
    assert called == []
    with allowing(target):
        assert instantiate(node, (Schedule,), "k") == Constant(arguments.get("factor", 1.0))
    assert len(called) == 1
    with pytest.raises(lo.ConfigError):
        instantiate(node, (Schedule,), "k")


def test_a_refused_function_says_how_it_is_allowed(called: list[Any]) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": "factories.make", "factor": 1.0}, (Schedule,), "schedule.lr")
    assert str(refused.value).splitlines() == [
        "schedule.lr._target_: factories.make is not a lit_optim Schedule, so a config may not call it",
        "    given:   factories.make",
        HOW.format("factories.make").replace(
            "fix:     ", "fix:     put @lit_optim.schedules.schedule above it if it is a function of the step, or "
        ),
    ]


@pytest.mark.parametrize("target", ["factories.Zoo", "os", "factories.called", "torch.optim.SGD"])
def test_what_no_list_would_make_callable_is_not_sent_to_the_list(called: list[Any], target: str) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": target}, (Schedule,), "k")
    assert str(refused.value).splitlines()[-1] == KIND


def test_only_the_exact_name_is_allowed(called: list[Any]) -> None:
    with allowing("factories.make"):
        for name in ("factories.again", "factories.Zoo.made_of", "factories.make.__call__", "factories.make_any"):
            with pytest.raises(lo.ConfigError):
                instantiate({"_target_": name, "factor": 0.5}, (Schedule,), "k")
        with pytest.raises(lo.ConfigError) as refused:
            instantiate({"_target_": "factories.Zoo.make", "factor": 0.5}, (Schedule,), "k")
    assert str(refused.value).splitlines() == [
        "k._target_: factories.Zoo.make is not a lit_optim Schedule, so a config may not call it",
        "    given:   factories.Zoo.make",
        "    nearest: factories.make",
        HOW.format("factories.Zoo.make"),
    ]
    assert called == []


def test_what_a_factory_returns_is_checked(called: list[Any]) -> None:
    with allowing("factories.wrong"), pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": "factories.wrong"}, (Schedule, torch.nn.Module), "k")
    assert str(refused.value).splitlines() == [
        "k: factories.wrong returned int, which is no lit_optim Schedule or torch Module",
        "    fix:     name what makes a lit_optim Schedule or torch Module",
    ]
    assert called == ["wrong"]


def test_a_factory_is_called_once_its_arguments_and_its_siblings_are_sound(called: list[Any]) -> None:
    nested = {"_target_": "factories.make", "factor": 1.0}
    wrong: list[tuple[dict[str, Any], list[str]]] = [
        ({"factr": 1.0, "inner": nested}, ["k.factr", "k.factor"]),
        ({"factor": 1.0, "inner": [nested, {"_target_": "os.system"}]}, ["k.inner.1._target_"]),
        ({"factor": 1.0, "inner": nested, "_partial_": True}, ["k._partial_"]),
    ]
    with allowing("factories.make"):
        for arguments, keys in wrong:
            with pytest.raises(lo.ConfigError) as refused:
                instantiate({"_target_": "factories.make", **arguments}, (Schedule,), "k")
            assert [mistake.key for mistake in refused.value.mistakes] == keys
        assert called == []
        with pytest.raises(lo.ConfigError, match=r"^k\.factr: factories\.make has no argument 'factr'"):
            instantiate({"_target_": "factories.make", "factr": 1.0}, (Schedule,), "k")
        instantiate({"_target_": "factories.make", "factor": 0.5, "inner": nested}, (Schedule,), "k")
    assert called == [(1.0, None), (0.5, Constant(1.0))]


def test_what_a_factory_raises_is_told_under_the_name_that_was_allowed(called: list[Any]) -> None:
    with allowing("factories.make_any"), pytest.raises(lo.ConfigError) as refused:
        instantiate({"_target_": "factories.make_any", "nope": 1}, (Schedule,), "k")
    assert str(refused.value).startswith("k: factories.make_any refused its arguments: TypeError: ")


def test_an_optimizer_stays_a_class() -> None:
    with allowing("torch.optim.SGD.step", "os.system"):
        for target in ("torch.optim.SGD.step", "os.system"):
            with pytest.raises(lo.ConfigError) as refused:
                resolve(target, OPTIMIZER, "optimizer")
            assert str(refused.value).splitlines()[-1] == KIND


def test_an_allowed_name_that_builds_nothing_is_refused_after_the_call(ran: list[str]) -> None:
    with allowing("os.system"):
        with pytest.raises(lo.ConfigError, match=r"os\.system returned int, which is no torch Module"):
            instantiate({"_target_": "os.system", "command": "true"}, (torch.nn.Module,), "model")
        with pytest.raises(lo.ConfigError, match=r"tricks\.os_system is not a torch Module"):
            instantiate({"_target_": "tricks.os_system", "command": "touch pwned"}, (torch.nn.Module,), "model")
    assert ran == []


def test_an_allowed_name_of_a_class_or_of_nothing_changes_nothing(called: list[Any]) -> None:
    with allowing("lit_optim.schedules.Schedule", "factories.called", "factories.gone"):
        for target, says in (
            ("lit_optim.schedules.Schedule", "doesn't implement curve"),
            ("factories.called", "is not a lit_optim Schedule"),
            ("factories.gone", "factories has no 'gone'"),
        ):
            with pytest.raises(lo.ConfigError, match=says):
                instantiate({"_target_": target}, (Schedule,), "k")


def test_what_a_node_would_call_can_be_asked(called: list[Any]) -> None:
    assert callee_of({"_target_": "lit_optim.schedules.Linear", "nope": 1}, (Schedule,), "k") is Linear
    with allowing("factories.make"):
        make = callee_of({"_target_": "factories.make"}, (Schedule,), "k")
    assert [*(parameters_of(make) or {})] == ["factor", "inner"]
    with pytest.raises(lo.ConfigError, match=r"^k\.a\._target_: os\.system is not a lit_optim Schedule"):
        callee_of({"_target_": "lit_optim.schedules.Linear", "a": {"_target_": "os.system"}}, (Schedule,), "k")
    assert parameters_of(dict) is None
    assert argument_mistakes(dict, {"any": 1}, "k") == []


def test_names_stay_allowed_until_the_end_of_the_block(called: list[Any]) -> None:
    node = {"_target_": "factories.make", "factor": 0.5}

    @allowing("factories.make_any")
    def block() -> None:
        allow("factories.make")
        assert instantiate(node, (Schedule,), "k") == Constant(0.5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    with allowing("factories.make"):
        with allowing("factories.make"):
            pass
        assert instantiate(node, (Schedule,), "k") == Constant(0.5)
    for name in ("factories.make", "factories.make_any"):
        with pytest.raises(lo.ConfigError):
            instantiate({"_target_": name, "factor": 0.5}, (Schedule,), "k")


@pytest.mark.parametrize("wrong", ["make", "", "timm create", "timm.", ".make", "timm..make", "timm.*", 3, None])
def test_what_is_no_dotted_name_can_not_be_allowed(called: list[Any], wrong: Any) -> None:
    with allowing():
        with pytest.raises(lo.ConfigError) as refused:
            allow("factories.make", wrong)
        with pytest.raises(lo.ConfigError):
            instantiate({"_target_": "factories.make", "factor": 0.5}, (Schedule,), "k")
    assert str(refused.value).splitlines() == [
        "allow: this is no dotted name",
        f"    given:   {wrong!r}",
        "    fix:     for example timm.create_model",
    ]


# --- plain data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (0.9, []),
        ([0.9, 0.999], []),
        ({"a": [{"target": "os.system"}], "b": "_target_"}, []),
        (b"_target_", []),
        ({"_target_": "os.system"}, ["_target_"]),
        ([{"_target_": "os.system", "command": "x"}, 0.999], ["0._target_"]),
        ((0.9, {"a": ({"_target_": None},)}), ["1.a.0._target_"]),
        (
            {"_target_": "a.b", "c": [{"_target_": "d.e"}], "f": {"_target_": 3}},
            ["_target_", "c.0._target_", "f._target_"],
        ),
    ],
    ids=repr,
)
def test_a_target_in_plain_data_is_found_at_any_depth(value: Any, keys: list[str]) -> None:
    assert [mistake.key for mistake in target_mistakes(value, "optimizer.betas")] == [
        f"optimizer.betas.{k}" for k in keys
    ]


def test_a_target_in_plain_data_is_told_with_its_key() -> None:
    (mistake,) = target_mistakes([{"_target_": "os.system", "command": "x"}, 0.999], "optimizer.betas")
    assert str(mistake).splitlines() == [
        "optimizer.betas.0._target_: a hyperparameter is plain data; nothing is called here",
        "    given:   'os.system'",
        "    fix:     write the value itself",
    ]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=PLAIN, wraps=st.lists(st.sampled_from(["list", "tuple", "mapping"]), max_size=5))
def test_no_depth_hides_a_target(value: Any, wraps: list[str]) -> None:
    assert target_mistakes(value, "k") == []
    held: Any = {"_target_": "os.system", "x": value}
    for wrap in wraps:
        held = {"list": [value, held], "tuple": (value, held), "mapping": {"a": value, "b": held}}[wrap]
    assert [mistake.key.rpartition(".")[2] for mistake in target_mistakes(held, "k")] == ["_target_"]
    if wraps:
        with pytest.raises(lo.ConfigError, match=r"os\.system is not a lit_optim Schedule"):
            instantiate({"_target_": "lit_optim.schedules.Constant", "factor": held}, (Schedule,), "k")
