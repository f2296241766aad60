from __future__ import annotations

from typing import Any

import pytest

from lit_optim.cli.suggestions import arguments_of, homes_of, without_leftovers
from lit_optim.errors import Mistake

CONFIG = {
    "model": {"_target_": "lit_optim.models.MLP", "hidden_dims": [3]},
    "rules": {"no_decay": {"weight_decay": 0.0}},
    "schedule": {"lr": {"_target_": "lit_optim.schedules.Cosine", "duration": "5%"}},
    "optimizer": {"_target_": "torch.optim.SGD", "weight_decay": 0.1},
    "callbacks": {"monitor": {"every": 5}, "other": {"every": 3}, "more": {"every": 3}, "most": {"every": 3}},
}


@pytest.mark.parametrize(
    ("name", "homes"),
    [
        ("weight_decay", ("optimizer.weight_decay", "rules.no_decay.weight_decay")),
        ("hidden_dims", ("model.hidden_dims",)),
        ("momentum", ("optimizer.momentum",)),
        ("every", ("callbacks.monitor.every", "callbacks.other.every", "callbacks.more.every")),
        ("optimizer", ()),
        ("lr", ("optimizer.lr",)),
        ("hidden", ()),
    ],
)
def test_settings_of_that_very_name_then_what_a_class_takes(name: str, homes: tuple[str, ...]) -> None:
    assert homes_of(name, CONFIG) == homes


@pytest.mark.parametrize(
    ("node", "some"),
    [
        ({"_target_": "torch.optim.SGD"}, {"lr", "momentum"}),
        ({"_target_": "no.such.thing"}, set()),
        ({"_target_": 3}, set()),
        ({}, set()),
        (None, set()),
        ("text", set()),
    ],
)
def test_what_a_class_takes(node: Any, some: set[str]) -> None:
    assert some <= {*arguments_of(node)}
    assert bool(arguments_of(node)) == bool(some)
    assert not {"params", "args", "kwargs"} & {*arguments_of(node)}


def test_what_is_left_of_another_schedule_is_said_to_be() -> None:
    left = Mistake("schedule.lr.warmup", "Mine has no argument 'warmup'", nearest=("warm",), remedy="remove it")
    typed = ["schedule.lr._target_=Mine", "++schedule.lr.warm=3"]
    [mended] = without_leftovers([left], typed)
    assert mended.problem == "Mine has no argument 'warmup'; it is left of another schedule"
    assert (mended.nearest, mended.remedy) == (
        (), "put schedule=none in front: then nothing stays of the schedule that was chosen before")  # fmt: skip
    for said in (["schedule.lr.warmup=3", *typed], ["schedule=none", *typed], ["schedule=cosine"]):
        assert without_leftovers([left], said) == (left,)
    others = (Mistake("optimizer.lr", "SGD has no argument 'lr'"), Mistake("schedule.lr.warmup", "it is too long"))
    assert without_leftovers(others, typed) == others


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("lr=0.1", ("nearest: optimizer.lr", "fix:     write optimizer.lr=0.1")),
        ("batch_size=8", ("nearest: data.batch_size", "fix:     write data.batch_size=8")),
        ("max_epochs=8", ("nearest: trainer.max_epochs", "fix:     write trainer.max_epochs=8")),
        ("trainer.max_tim=1", ("nearest: max_time", "fix:     correct the name; +trainer.max_tim=… adds a key")),
        ("trainer.max_time=1", ("fix:     write +trainer.max_time=1, since the config lacks this key",)),
        ("seed=1,2", ("seed: several values, and this is no sweep", "fix:     add -m to run each of them\n")),
        ("model.hidden_dims=1,2", ("fix:     add -m to run each of them, or write a list: [a,b]\n",)),
        ("trainer.accumulate_grad_batches=0", ("a whole number above 0 is needed", "allowed: an integer above 0\n")),
        ("callbacks.monitor.evry=5", ("nearest: every",)),
        ("+callbacks.monitor.evry=5", ("callbacks.monitor.evry: no such quantity", "nearest: every")),
        ("schedule.lr._target_=lit_optim.schedules.Constant", ("it is left of another schedule", "put schedule=none")),
    ],
)
def test_the_command_line_says_so(typed: str, told: tuple[str, ...], lit_optim_: Any) -> None:
    ended = lit_optim_("plan", "data=digits", typed)
    assert (ended.code, ended.out) == (1, "")
    assert all(one in ended.err for one in told), ended.err
    assert "Traceback" not in ended.err


def test_a_name_that_is_right_is_not_told_as_the_nearest_to_itself(lit_optim_: Any) -> None:
    assert "nearest:" not in lit_optim_("plan", "data=digits", "trainer.max_time=1").err
