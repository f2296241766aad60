from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from lit_optim.cli.assemble import trainer_of
from lit_optim.cli.trainer_flags import flag_mistakes
from lit_optim.errors import ConfigError

QUIET = {"_target_": "lightning.pytorch.Trainer", "accelerator": "cpu", "enable_model_summary": False}
FSDP = {"_target_": "lit_optim.integration.fsdp.FullyShardedStrategy"}


@pytest.mark.parametrize(
    ("strategy", "seconds"),
    [("ddp", 90), ("ddp_spawn", 90), ("auto", 90), (FSDP, 90), ({**FSDP, "timeout": 5}, 5)],
)
def test_the_processes_of_a_run_wait_as_long_as_the_config_says(strategy: Any, seconds: float) -> None:
    trainer = trainer_of(
        OmegaConf.create({"trainer": {**QUIET, "devices": 2, "strategy": strategy, "timeout": 90}}), [], []
    )
    assert trainer.strategy._timeout == timedelta(seconds=seconds)


def test_without_a_timeout_it_is_lightnings() -> None:
    trainer = trainer_of(
        OmegaConf.create({"trainer": {**QUIET, "devices": 2, "strategy": "ddp", "timeout": None}}), [], []
    )
    assert trainer.strategy._timeout == timedelta(minutes=30)


def test_one_process_waits_for_nobody() -> None:
    trainer = trainer_of(OmegaConf.create({"trainer": {**QUIET, "devices": 1, "timeout": 90}}), [], [])
    assert not hasattr(trainer.strategy, "_timeout")


@pytest.mark.parametrize("wrong", [0, -1, "10s", True, float("nan"), float("inf"), 1e12])
def test_what_is_no_time_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.timeout") as refusal:
        trainer_of(OmegaConf.create({"trainer": {**QUIET, "timeout": wrong}}), [], [])
    assert refusal.value.mistakes[0].allowed == ("a number of seconds above 0",)


@pytest.mark.parametrize("devices", [1, -1, "2", "-1", "auto", "0,", "0,1", "0, 2, 3", [0], [1, 3]])
def test_what_a_trainer_takes_for_devices_is_taken(devices: Any) -> None:
    assert [*flag_mistakes({"devices": devices})] == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("choice", "more"),
    [("gpu", ""), ("ddp", " trainer.devices=2"), ("fsdp", " trainer.devices=2"), ("multi_node", " trainer.devices=2")],
)
def test_without_a_gpu_the_cpu_takes_its_place_in_the_same_choice(choice: str, more: str) -> None:
    with initialize_config_module("lit_optim.conf", version_base="1.3"):
        config = compose("config", [f"trainer={choice}"])
    with pytest.raises(ConfigError) as refusal:
        trainer_of(config, [], [])
    assert refusal.value.mistakes[0].remedy == f"on a machine without such devices add trainer.accelerator=cpu{more}"


@pytest.mark.parametrize("wrong", [-1, -0.5, float("nan")])
def test_gradients_are_clipped_to_no_norm_below_0(wrong: float) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.gradient_clip_val: this is no norm to clip to"):
        trainer_of(OmegaConf.create({"trainer": {**QUIET, "gradient_clip_val": wrong}}), [], [])


@pytest.mark.parametrize("norm", [None, 0, 0.5, 1, float("inf")])
def test_what_gradients_may_be_clipped_to_is_taken(norm: Any) -> None:
    assert [*flag_mistakes({"gradient_clip_val": norm})] == []
