"""A recipe names optimizers and schedules; a hyperparameter is plain data, whatever stands in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import lit_optim as lo

DANGERS: dict[str, dict[str, Any]] = {
    "os.system": {"command": "touch pwned"},
    "builtins.eval": {"source": "open('pwned', 'w')"},
    "torch.load": {"f": "pwned", "weights_only": False},
    "torch.hub.load": {"repo_or_dir": "pwned", "model": "x", "source": "local"},
    "subprocess.Popen": {"args": ["touch", "pwned"]},
    "pickle.loads": {"data": "pwned"},
}
FORMS: dict[str, Any] = {
    "direct": lambda name: {"_target_": name, **DANGERS[name]},
    "in order": lambda name: {"_target_": name, "_args_": [*DANGERS[name].values()]},
    "partial": lambda name: {"_target_": "functools.partial", "func": name, **DANGERS[name]},
    "Hydra's partial": lambda name: {"_target_": name, "_partial_": True, **DANGERS[name]},
}


def _adamw(**more: Any) -> dict[str, Any]:
    return {"_target_": "torch.optim.AdamW", **more}


PLACES: dict[str, Any] = {  # the key of the node, and a recipe that holds it there
    "optimizer.lr": lambda node: {"optimizer": _adamw(lr=node)},
    "optimizer.betas.0": lambda node: {"optimizer": _adamw(betas=[node, 0.999])},
    "optimizer.betas.1": lambda node: {"optimizer": _adamw(betas=(0.9, node))},
    "optimizer.betas.0.a.2": lambda node: {"optimizer": _adamw(betas=[{"a": [1, 2, node]}, 0.999])},
    "rules.b.lr": lambda node: {"optimizer": _adamw(), "rules": {"b": {"match": "*", "lr": node}}},
    "rules.b.betas.0": lambda node: {"optimizer": _adamw(), "rules": {"b": {"match": "*", "betas": [node, 0.999]}}},
    "rules.b.optimizer.betas.0": lambda node: {
        "optimizer": _adamw(),
        "rules": {"b": {"match": "*", "optimizer": _adamw(betas=[node, 0.999])}},
    },
}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What ran with anything called pwned."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", lambda *given: calls.append(given))
    monkeypatch.setattr(subprocess.Popen, "__init__", lambda self, *given, **named: calls.append((given, named)))
    monkeypatch.setattr(torch, "load", lambda *given, **named: calls.append((given, named)))
    monkeypatch.setattr(torch.hub, "load", lambda *given, **named: calls.append((given, named)))
    return calls


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DANGERS)
def test_a_target_in_a_hyperparameter_is_refused(
    ran: list[tuple[Any, ...]], tmp_path: Path, name: str, form: str, place: str
) -> None:
    node = FORMS[form](name)
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config(PLACES[place](node))
    assert str(refused.value).splitlines() == [
        f"{place}._target_: a hyperparameter is plain data; nothing is called here",
        f"    given:   {node['_target_']!r}",
        "    fix:     write the value itself",
    ]
    assert ran == []
    assert list(tmp_path.iterdir()) == []


def test_a_harmless_target_is_refused_in_a_hyperparameter_as_well() -> None:
    with pytest.raises(lo.RecipeError, match=r"^optimizer\.betas\.0\._target_: a hyperparameter is plain data"):
        lo.Recipe.from_config({"optimizer": _adamw(betas=[{"_target_": "lit_optim.schedules.Linear"}, 0.999])})


def test_all_of_them_are_told() -> None:
    node = FORMS["direct"]("os.system")
    rules = {"b": {"match": "*", "betas": [0.9, node], "optimizer": _adamw(eps=node)}}
    with pytest.raises(lo.RecipeError) as refused:
        lo.Recipe.from_config({"optimizer": _adamw(lr=node, betas=[node, {"deep": node}]), "rules": rules})
    assert {mistake.key for mistake in refused.value.mistakes} == {
        "optimizer.lr._target_",
        "optimizer.betas.0._target_",
        "optimizer.betas.1.deep._target_",
        "rules.b.betas.1._target_",
        "rules.b.optimizer.eps._target_",
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DANGERS)
@pytest.mark.parametrize("where", ["", ".final_factor", ".final_factor.0.a"])
def test_a_schedule_calls_schedules_alone(
    ran: list[tuple[Any, ...]], tmp_path: Path, name: str, form: str, where: str
) -> None:
    node = FORMS[form](name)
    held = {"": node, ".final_factor": node, ".final_factor.0.a": [{"a": node}]}[where]
    schedule = held if not where else {"_target_": "lit_optim.schedules.Linear", "final_factor": held}
    _refuses(schedule, f"{{}}{where}._target_")
    assert ran == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DANGERS)
@pytest.mark.parametrize("where", [".gamma", ".schedulers.1", ".lr_lambda", ".interval", ".monitor"])
def test_a_scheduler_of_torchs_calls_schedulers_alone(
    ran: list[tuple[Any, ...]], tmp_path: Path, name: str, form: str, where: str
) -> None:
    node = FORMS[form](name)
    torchs = "torch.optim.lr_scheduler."
    schedule = {
        ".gamma": {"_target_": f"{torchs}ExponentialLR", "gamma": node},
        ".schedulers.1": {
            "_target_": f"{torchs}ChainedScheduler",
            "schedulers": [{"_target_": f"{torchs}ConstantLR"}, node],
        },
        ".lr_lambda": {"_target_": f"{torchs}LambdaLR", "lr_lambda": node},
        ".interval": {"_target_": f"{torchs}ConstantLR", "interval": node},
        ".monitor": {"_target_": f"{torchs}ReduceLROnPlateau", "monitor": node},
    }[where]
    _refuses(schedule, f"{{}}{where}._target_")
    assert ran == []
    assert list(tmp_path.iterdir()) == []


def _refuses(schedule: Any, key: str) -> None:
    """At the top and in a rule."""
    of_a_rule = {"b": {"match": "weight", "schedule": {"lr": schedule}}}
    for recipe, place in (
        ({"optimizer": _adamw(), "schedule": {"lr": schedule}}, "schedule.lr"),
        ({"optimizer": _adamw(), "rules": of_a_rule}, "rules.b.schedule.lr"),
    ):
        with pytest.raises(lo.LitOptimError) as refused:
            lo.make_plan(torch.nn.Linear(2, 2), lo.Recipe.from_config(recipe), lo.Horizon(10, 5))
        assert key.format(place) in {mistake.key for mistake in refused.value.mistakes}
