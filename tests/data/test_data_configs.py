"""The YAML files of the group ``data``: each says what it is for and how it is used, and makes its data module."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

import lit_optim.data
from lit_optim.data import InMemoryDataModule

FILES = [file for file in sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml")) if file.stem != "own"]


def test_there_are_four() -> None:
    assert [file.stem for file in FILES] == ["digits", "fashion_mnist", "mnist", "mnist_5k"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_makes_its_data_module_with_the_seed_of_the_run(file: Path) -> None:
    config = OmegaConf.create({"seed": 5, "data": OmegaConf.load(file)})
    data = instantiate(config.data)
    assert isinstance(data, InMemoryDataModule)
    assert type(data).__name__ in lit_optim.data.__all__
    assert (data.batch_size, data.eval_batch_size, data.seed) == (64, 1024, 5)
    assert OmegaConf.create({"data": OmegaConf.load(file)}).data.seed == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_opens_with_its_purpose_and_a_command_that_hydra_can_read(file: Path) -> None:
    purpose, command, *_ = file.read_text().splitlines()
    assert purpose.startswith("# ")
    program, verb, *overrides = shlex.split(command.removeprefix("# "))
    assert (program, verb) == ("lit-optim", "train")
    parsed = {
        override.key_or_group: override.value() for override in OverridesParser.create().parse_overrides(overrides)
    }
    assert parsed.pop("data") == file.stem
    keys = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(keys, dict)
    assert {key.removeprefix("data.") for key in parsed} <= set(keys)
