import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

import lit_optim as lo
from lit_optim.durations import Horizon
from lit_optim.schedules import Cosine, Linear, Milestones, Schedule
from lit_optim.targets import argument_mistakes, dotted_name, instantiate, resolve

OPTIMIZER = (torch.optim.Optimizer,)
KIND = "    fix:     name a class of that kind; a function or a method is never called from a config"


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


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    (tmp_path / "holding.py").write_text(
        "class Holder:\n    def __init__(self, one, more=()):\n        self.held = one + 0, more\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "holding", raising=False)
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
        "    allowed: factor",
        "    nearest: factor",
        "    fix:     rename or remove it",
        "schedule.lr.x: lit_optim.schedules.Constant has no argument 'x'",
        "    given:   'y'",
        "    allowed: factor",
        "    fix:     rename or remove it",
    ]


def test_a_missing_argument_is_told() -> None:
    def wants(needed: int, optional: int = 0, *more: int, **any_name: int) -> None: ...

    def strict(needed: int) -> None: ...

    assert [str(m) for m in argument_mistakes(wants, {"other": 1}, "k")] == [  # type: ignore[arg-type]
        f"k.needed: {__name__}.{wants.__qualname__} needs 'needed'\n    fix:     set k.needed"
    ]
    assert [m.key for m in argument_mistakes(strict, {"nedeed": 1}, "k")] == ["k.nedeed", "k.needed"]  # type: ignore[arg-type]


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
