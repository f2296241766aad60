from __future__ import annotations

from datetime import timedelta

import pytest
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy

from lit_optim.integration.timeouts import named_strategy, takes_timeout

MINUTE = timedelta(seconds=60)


@pytest.mark.parametrize(
    ("name", "start", "more"),
    [
        ("ddp", "popen", {}),
        ("ddp_fork", "fork", {}),
        ("ddp_find_unused_parameters_true", "popen", {"find_unused_parameters": True}),
    ],
)
def test_a_name_becomes_what_lightning_makes_of_it(name: str, start: str, more: dict[str, bool]) -> None:
    strategy = named_strategy(name, MINUTE)
    assert type(strategy) is DDPStrategy
    assert (strategy._timeout, strategy._start_method, strategy._ddp_kwargs) == (MINUTE, start, more)


@pytest.mark.parametrize("name", ["auto", "single_device", "deepspeed_stage_2", "dpp"])
def test_other_names_stay(name: str) -> None:
    assert named_strategy(name, MINUTE) == name


def test_which_strategies_wait() -> None:
    assert takes_timeout(DDPStrategy)
    assert takes_timeout(ModelParallelStrategy)
    assert not takes_timeout(SingleDeviceStrategy)
