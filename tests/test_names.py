import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import lit_optim as lo
from lit_optim.names import find, is_dotted, names_of
from lit_optim.schedules import Schedule

MODULE = """
from lit_optim.schedules import Linear

nothing = None
text = "a text"

class Owner:
    @property
    def asked(self):
        raise AssertionError("a property ran")

owner = Owner()
owner.Linear = Linear

def __getattr__(name):
    if name == "Lazy":
        raise ImportError("a package that it needs is not there")
    raise AttributeError(name)
"""


@pytest.fixture(autouse=True)
def _odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.py").write_text(MODULE)
    (tmp_path / "script.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("odd", "script"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that the test leaves none behind
        del sys.modules[name]


@pytest.mark.parametrize("name", ["timm.create_model", "a.b", "a.b.C.d", "_a._b"])
def test_a_dotted_name(name: str) -> None:
    assert is_dotted(name)


@pytest.mark.parametrize(
    "name", ["timm", "", ".", "a.", ".a", "a..b", "a.b c", "a.*", "a.1", "a-b.c", None, 3, ["a.b"]]
)
def test_no_dotted_name(name: object) -> None:
    assert not is_dotted(name)


def test_kinds_in_words() -> None:
    assert names_of((Schedule, Path)) == "lit_optim Schedule or pathlib Path"


@pytest.mark.parametrize("name", ["odd.owner.asked", "odd.owner.Linear", "odd.text.upper", "odd.nothing.real"])
def test_nothing_is_looked_up_in_an_object(name: str) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        find(name, (Schedule,), "k")
    assert str(refused.value).splitlines() == [
        f"k: {name.rpartition('.')[0]} is neither a module nor a class, so nothing is looked up in it",
        f"    given:   {name}",
        "    fix:     name a lit_optim Schedule",
    ]


def test_an_object_is_looked_into_where_that_is_asked_for() -> None:
    assert find("odd.owner.Linear", (Schedule,), "k", through_objects=True) is lo.schedules.Linear
    with pytest.raises(lo.ConfigError, match=r"^k: odd\.text has no 'lower_case'"):
        find("odd.text.lower_case", (Schedule,), "k", through_objects=True)


def test_what_stands_in_for_a_module_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stand_in", SimpleNamespace(Mine=lo.schedules.Linear))
    assert find("stand_in.Mine", (Schedule,), "k") is lo.schedules.Linear


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("odd.Lazy", "importing odd.Lazy failed: ImportError: a package that it needs is not there"),
        ("script.main", "importing script failed: SystemExit: 3"),
    ],
)
def test_a_module_that_fails_while_it_is_looked_at_is_told(name: str, says: str) -> None:
    with pytest.raises(lo.ConfigError) as refused:
        find(name, (Schedule,), "k")
    assert str(refused.value).splitlines()[0] == f"k: {says}"


def test_none_is_an_end() -> None:
    assert find("odd.nothing", (Schedule,), "k") is None
