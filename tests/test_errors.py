import pickle

import pytest

import lit_optim as lo
from lit_optim.errors import Mistake, nearest


def test_a_whole_mistake_reads_like_this() -> None:
    mistake = Mistake("rules.head.lr", "no such thing", "'x'", ("lr", "momentum"), ("lr",), "correct it")
    assert str(mistake).splitlines() == [
        "rules.head.lr: no such thing",
        "    given:   'x'",
        "    allowed: lr, momentum",
        "    nearest: lr",
        "    fix:     correct it",
    ]


def test_what_is_not_known_is_left_out() -> None:
    assert str(Mistake("lr", "no")) == "lr: no"
    assert str(Mistake("lr", "no", given="")) == "lr: no\n    given:   "


@pytest.mark.parametrize(("count", "end"), [(12, "n11"), (13, "n11 … (1 more)"), (40, "n11 … (28 more)")])
def test_twelve_names_are_listed_and_the_rest_is_counted(count: int, end: str) -> None:
    line = str(Mistake("k", "p", allowed=tuple(f"n{i}" for i in range(count)))).splitlines()[1]
    assert line.startswith("    allowed: n0, n1, ")
    assert line.endswith(f", {end}")


def test_a_mistake_moves_under_another_key_and_keeps_the_rest() -> None:
    assert Mistake("warmup", "p", "g", remedy="r").under("schedule.lr") == Mistake(
        "schedule.lr.warmup", "p", "g", remedy="r"
    )
    assert Mistake("", "of the whole node").under("schedule.lr").key == "schedule.lr"


@pytest.mark.parametrize("kind", [lo.RecipeError, lo.PlanError, lo.ConfigError, lo.DataError, lo.RunError])
def test_every_error_is_of_one_family_and_crosses_processes_whole(kind: type[lo.LitOptimError]) -> None:
    error = kind(Mistake("a", "first"), Mistake("b", "second"))
    assert isinstance(error, lo.LitOptimError)
    assert str(error) == "a: first\nb: second"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.mistakes == error.mistakes == (Mistake("a", "first"), Mistake("b", "second"))


@pytest.mark.parametrize(
    ("name", "names", "found"),
    [
        ("wieght_decay", ["lr", "momentum", "weight_decay"], ("weight_decay",)),
        ("adamw", ["SGD", "AdamW", "Adam"], ("AdamW", "Adam")),
        ("ADAMW", ["AdamW"], ("AdamW",)),
        ("lr", ["lr", "LR"], ("lr",)),
        ("head", ["head", "head", "heads", "heat", "hear"], ("head", "heads", "heat")),
        ("adamx", ["radam", "nadam", "adam", "adamw"], ("adam", "adamw", "radam")),
        ("xyz", ["lr"], ()),
        ("", ["lr"], ()),
    ],
)
def test_nearest_ignores_case_and_gives_few(name: str, names: list[str], found: tuple[str, ...]) -> None:
    assert nearest(name, names)[: len(found) or None] == found
    assert len(nearest(name, names)) <= 3


def test_nearest_gives_as_many_as_asked() -> None:
    assert nearest("head", ["heads", "heat", "head"], count=1) == ("head",)
