from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_optim.matches import COMPARISON, compiled_glob, match_mistakes


@pytest.mark.parametrize(
    ("match", "keys"),
    [
        ("head", []),
        ({"module": ["norm", "Linear"], "ndim": [0, "<=1"], "numel": ">1000", "not": ["a", {"regex": "b.*"}]}, []),
        ("", ["m"]),
        ([], ["m"]),
        ({}, ["m"]),
        (3, ["m"]),
        (None, ["m"]),
        (["a", ""], ["m.1"]),
        ({"modul": "norm"}, ["m.modul"]),
        ({"ndim": -1, "numel": "many", "module": 3, "regex": "("}, ["m.ndim", "m.numel", "m.module", "m.regex"]),
        ({"ndim": True}, ["m.ndim"]),
        ({"ndim": []}, ["m.ndim"]),
        ({"not": {"any": [{"name": ""}]}}, ["m.not.any.0.name"]),
    ],
)
def test_the_structure_of_a_match(match: Any, keys: list[str]) -> None:
    assert [mistake.key for mistake in match_mistakes(match, "m")] == keys


def test_a_mistake_says_what_is_allowed_and_near() -> None:
    [mistake] = match_mistakes({"modul": "norm"}, "rules.a.match")
    assert str(mistake).splitlines() == [
        "rules.a.match.modul: a match has no key 'modul'",
        "    given:   'norm'",
        "    allowed: name, regex, module, ndim, numel, not, any",
        "    nearest: module",
        "    fix:     correct the name or remove it",
    ]


@pytest.mark.parametrize(
    ("glob", "name", "prefix"),
    [
        ("head", "net.head.weight", "net."),
        ("head", "head", ""),
        ("^head", "head.weight", ""),
        ("blocks.#.mlp", "net.blocks.12.mlp.weight", "net."),
        ("*.bias", "a.b.bias", "a.b."),
    ],
)
def test_what_a_glob_fits_and_behind_which_prefix(glob: str, name: str, prefix: str) -> None:
    found = compiled_glob(glob).fullmatch(name)
    assert found is not None
    assert found["prefix"] == prefix


@pytest.mark.parametrize(
    ("glob", "name"),
    [("head", "header.weight"), ("^head", "net.head"), ("blocks.#", "blocks.x"), ("a.b", "a.c.b"), ("Head", "head")],
)
def test_what_it_does_not_fit(glob: str, name: str) -> None:
    assert compiled_glob(glob).fullmatch(name) is None


NAMES = st.lists(st.text("ab01", min_size=1, max_size=2), min_size=1, max_size=4).map(".".join)
GLOBS = st.text("ab01.*?[]!^", min_size=1, max_size=6).filter(lambda glob: glob not in ("^", "*."))


def fits(glob: str, name: str) -> bool:
    """The same by trying out every part of the name."""
    dots = [place for place, letter in enumerate(name) if letter == "."]
    starts = [0] if glob.startswith("^") else [0, *(dot + 1 for dot in dots)]
    body = glob[1:] if glob.startswith("^") else glob.removeprefix("*.")
    return any(fnmatch.fnmatchcase(name[start:end], body) for start in starts for end in [*dots, len(name)])


@given(GLOBS, NAMES)
def test_a_glob_fits_what_fnmatch_fits_from_a_dot_to_a_dot(glob: str, name: str) -> None:
    assert (compiled_glob(glob).fullmatch(name) is not None) == fits(glob, name)


@given(NAMES, st.booleans())
def test_every_name_is_a_glob_that_fits_itself_and_what_is_below(name: str, anchored: bool) -> None:
    glob = f"^{name}" if anchored else name
    assert compiled_glob(glob).fullmatch(f"{name}.weight")
    assert bool(compiled_glob(glob).fullmatch(f"net.{name}")) is not anchored


def test_numbers_of_a_glob_are_held() -> None:
    found = compiled_glob("stages.#.blocks.#").fullmatch("stages.3.blocks.11.weight")
    assert found is not None
    assert [found["number0"], found["number1"]] == ["3", "11"]


@pytest.mark.parametrize(("text", "sign", "bound"), [("2", None, "2"), (" <= 1 ", "<=", "1"), ("==4", "==", "4")])
def test_comparisons(text: str, sign: str | None, bound: str) -> None:
    found = COMPARISON.fullmatch(text)
    assert found is not None
    assert (found["sign"], found["bound"]) == (sign, bound)
