from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lit_optim.runs import settings
from lit_optim.runs.settings import (
    AS_SEED,
    compared,
    differing,
    flat,
    identity,
    load_mapping,
    load_strings,
    value_text,
)

NAMES = st.text("abc", min_size=1, max_size=3)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
TREES = st.recursive(
    LEAVES | st.lists(LEAVES, max_size=3), lambda deeper: st.dictionaries(NAMES, deeper, max_size=3), max_leaves=12
)


@given(st.dictionaries(NAMES, TREES, max_size=5), st.booleans())
def test_reading_by_sections_is_reading_the_whole(tree: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)
    assert load_mapping(text) == yaml.load(text, Loader=settings._Loader)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x\n",
        "a: {b: 1,\nc: 2}\n",
        'a: "one\ntwo: 3"\n',
        "# a comment\n---\na: 1\n# another\nb:\n- 1\n- 2\n",
        "a: |\n  b: 1\n  c\nd: 1",
        "a: 1\na: 2\n",
        '"a": 1\nb: 2\n? c\n: 3\n',
    ],
)
def test_what_crosses_sections_is_read_whole(text: str) -> None:
    assert load_mapping(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text", ["", "- 1", "text", "a: [", "a: 1\n---\na: 2\n", "a: *x", "a: 1\n\0", "a: !!python/name:os.system ''"]
)
def test_what_is_no_mapping_is_refused(text: str) -> None:
    if text == "":
        assert load_mapping(text) == {}
    else:
        with pytest.raises(ValueError, match=r"."):
            load_mapping(text)


def test_scalars_are_read_as_hydra_reads_them() -> None:
    text = "a: 1e-3\nb: 2026-11-25\nc: -1.5e3\nd: 5%\ne: 0x10\nf: 1e5\ng: 12:30\nh: e5\n"
    theirs = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(theirs, dict)
    assert load_mapping(text) == {**theirs, "g": 750}


def test_a_section_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    original = settings._loaded
    monkeypatch.setattr(settings, "_loaded", lambda text: parsed.append(text) or original(text))
    settings._section.cache_clear()
    for seed in range(3):
        load_mapping(f"seed: {seed}\nmodel:\n  width: 8\n")
    assert parsed == ["seed: 0\n", "model:\n  width: 8\n", "seed: 1\n", "seed: 2\n"]


def test_a_list_of_texts() -> None:
    assert load_strings("- a=1\n- 'b=[1, 2]'\n- 3\n") == ["a=1", "b=[1, 2]", "3"]
    assert load_strings("[]") == []
    for text in ("a: 1", "- [1]", "", "- a: 1", "[", "- null"):
        with pytest.raises(ValueError, match=r"."):
            load_strings(text)


def test_every_leaf_has_a_dotted_name_and_lists_are_leaves() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}, 3: None}) == {
        "a.b": 1, "a.c.d": [1, {"e": 2}], "3": None,
    }  # fmt: skip


def test_where_a_run_writes_is_no_setting() -> None:
    config = {
        "name": "mine",
        "optimized_metric": "val/acc",
        "lr": 0.1,
        "callbacks.checkpoint.dirpath": "/elsewhere",
        "logger.save_dir": "/any",
        "logger._target_": "lit_optim.integration.csv_file.CSVRunLogger",
        "logger.csv.prefix": "run",
        "callbacks.mine.file": "/old/run/1/notes.txt",
        "callbacks.mine.other": "/old/run/12/notes.txt",
        "here": "/new/1",
    }
    kept = compared(config, ["/new/1", "/old/run/1"], [])
    assert kept == {"lr": 0.1, "callbacks.mine.other": "/old/run/12/notes.txt"}


def test_a_seed_that_follows_the_runs_own_is_none_of_its_own() -> None:
    config = {"seed": 3, "data.seed": 3, "model.seed": 4, "width": 3}
    assert compared(config, [], []) == {"seed": 3, "data.seed": AS_SEED, "model.seed": 4, "width": 3}
    assert compared(config, [], ["data.seed"]) == config


def test_only_what_differs_is_told_and_what_is_lacking_differs() -> None:
    runs = [{"a": 1, "b": 2, "c": 3}, {"a": 1.0, "b": 2, "c": 4}, {"a": 1, "c": 3, "d": None}]
    assert differing(runs) == ["b", "c", "d"]
    assert differing(runs[:1]) == []
    assert differing([]) == []


def test_equal_settings_have_one_identity_and_others_have_not() -> None:
    assert identity(1) == identity(1.0)
    assert identity([1, {"a": 2}]) == identity([1.0, {"a": 2.0}])
    different = [1, True, "1", None, "None", "null", [1], ["1"], 2**60, 2**60 + 1, 10**400, [10**400]]
    assert len({identity(value) for value in different}) == len(different)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (0.001, "0.001"), (1e-05, "1e-05"), (64, "64"), ("5%", "5%"),
        ("torch.optim.SGD", "torch.optim.SGD"), ([300, "a", None], "[300, a, null]"), ({"a": [1]}, "{a: [1]}"),
        ("", "''"), ("true", "'true'"), ("1e-3", "'1e-3'"), ("12", "'12'"), ("a\nb", r"'a\nb'"), ("1a", "1a"),
    ],
)  # fmt: skip
def test_a_value_is_told_as_a_config_would(value: Any, text: str) -> None:
    assert value_text(value) == text
