from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser

from lit_optim.cli.overrides import accept_new_keys, as_typed, overrides_first, refuse_targets_of_hydra


@pytest.mark.parametrize(
    ("typed", "handed_on"),
    [
        ("rules.head.lr=0.02", "++rules.head.lr=0.02"),
        ("optimizer.amsgrad=true", "++optimizer.amsgrad=true"),
        ("schedule.weight_decay={}", "++schedule.weight_decay={}"),
        ("rules.head.match='a=b'", "++rules.head.match='a=b'"),
        ("rules.no_decay=null", "++rules.no_decay=null"),
        ("optimizer=sgd", "optimizer=sgd"),  # a choice from a group
        ("rules=none", "rules=none"),
        ("trainer.max_epochs=2", "trainer.max_epochs=2"),
        ("optimizers.lr=1", "optimizers.lr=1"),
        ("+optimizer.lr=1", "+optimizer.lr=1"),
        ("++rules.x.lr=1", "++rules.x.lr=1"),
        ("~rules.no_decay", "~rules.no_decay"),
        ("rules.no_decay", "rules.no_decay"),
        ("-m", "-m"),
        ("--cfg", "--cfg"),
    ],
)
def test_new_keys_are_welcome_in_a_recipe_and_nowhere_else(typed: str, handed_on: str) -> None:
    assert accept_new_keys([typed]) == [handed_on]


@pytest.mark.parametrize(
    ("kept", "typed"),
    [
        ("++rules.head.lr=0.02", "rules.head.lr=0.02"),
        ("++optimizer.lr=1e-3", "optimizer.lr=1e-3"),
        ("++trainer.mine=1", "++trainer.mine=1"),
        ("+optimizer.lr=1", "+optimizer.lr=1"),
        ("~rules.no_decay", "~rules.no_decay"),
        ("optimizer=sgd", "optimizer=sgd"),
    ],
)
def test_what_a_run_has_kept_is_told_as_it_was_typed_and_means_the_same(kept: str, typed: str) -> None:
    assert as_typed([kept]) == [typed]
    assert accept_new_keys([typed]) == [kept]


def test_keeps_the_order() -> None:
    assert accept_new_keys(["b=1", "optimizer.lr=2", "a=3"]) == ["b=1", "++optimizer.lr=2", "a=3"]


@pytest.mark.parametrize(
    ("typed", "flags"),
    [
        (["a=1", "-m", "b=2"], {"multirun": True}),
        (["-m", "a=1", "b=2"], {"multirun": True}),
        (["a=1", "--cfg", "job", "b=2"], {"cfg": "job"}),
        (["--config-dir=x=y", "a=1", "b=2"], {"config_dir": "x=y"}),
        (["a=1", "--config-dir", "mine", "b=2", "--info", "plugins"], {"config_dir": "mine", "info": "plugins"}),
        (["a=1", "b=2"], {"multirun": False, "cfg": None}),
    ],
)
def test_flags_may_stand_anywhere(typed: list[str], flags: dict[str, object]) -> None:
    parsed = get_args_parser().parse_args(overrides_first(typed))
    assert parsed.overrides == ["a=1", "b=2"]
    assert {name: getattr(parsed, name) for name in flags} == flags


def test_a_removal_is_an_override() -> None:
    assert overrides_first(["-m", "~rules.no_decay", "a=1"]) == ["~rules.no_decay", "a=1", "-m"]


@pytest.mark.parametrize(
    "argument",
    [
        "+hydra.callbacks.evil={_target_: torch.load, f: x.pt}",
        "++hydra.callbacks.evil._target_=torch.load",
        "hydra.sweeper._target_=torch.load",
        "hydra.job_logging.handlers.x={(): os.system}",
    ],
)
def test_what_hydra_would_call_is_refused(argument: str, lit_optim_: Any, tmp_path: Path) -> None:
    for verb in ("plan", "train"):
        ended = lit_optim_(verb, "data=digits", argument)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.splitlines()[1] == (
            f"{argument.lstrip('+').partition('=')[0]}: the command line may not say what Hydra calls"
        )
        assert list(tmp_path.iterdir()) == []


def test_settings_of_hydra_are_not() -> None:
    refuse_targets_of_hydra(["hydra.run.dir=x", "hydra.sweeper.n_trials=3", "hydra/launcher=basic", "model._target_=M"])
