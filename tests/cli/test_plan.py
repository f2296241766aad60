from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lit_optim as lo

SAME = ("data=digits", "trainer.max_epochs=2", "rules.head.match=layer.4", "rules.head.lr=0.02", "seed=3")


def test_prints_the_table_and_a_total_that_accounts_for_every_parameter(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("plan", "data=mnist_5k", "data.batch_size=128", "trainer.max_epochs=2")
    assert (ended.code, ended.err) == (0, "")
    header, _, default, no_decay = [line for line in ended.out.splitlines() if line.strip()][:4]
    assert header.split()[:5] == ["group", "rules", "optimizer", "tensors", "parameters"]
    assert default.split()[:5] == ["default", "–", "AdamW", "3", "297,200"]
    assert no_decay.split()[:5] == ["no_decay", "no_decay", "AdamW", "3", "510"]
    assert "297,710 parameters: 297,710 trained in 6 tensors and 2 groups, 0 frozen in 0 tensors, 0 tied" in ended.out
    assert "64 optimizer steps, 32 an epoch, 128 samples a step" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_json_is_the_plan_that_a_run_with_the_same_overrides_follows(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("plan", "--json", *SAME)
    assert (ended.code, ended.err) == (0, "")
    plan = lo.Plan.from_json(ended.out)
    assert plan.to_json() == ended.out
    assert [path.name for path in tmp_path.iterdir()] == []
    assert lit_optim_("train", *SAME, "hydra.run.dir=run", "test=false").code == 0
    assert (tmp_path / "run" / "plan.json").read_text() == ended.out
    other = lo.Plan.from_json(lit_optim_("plan", "--json", *SAME, "rules.head.lr=0.03").out)
    assert plan.diff(other) == ["head: lr 0.02 → 0.03", "head.no_decay: lr 0.02 → 0.03"]


@pytest.mark.parametrize(("suffix", "signature"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_plot_draws_into_the_file_and_makes_nothing_else(
    lit_optim_: Any, tmp_path: Path, suffix: str, signature: bytes
) -> None:
    ended = lit_optim_("plan", "data=digits", "--plot", f"curves{suffix}")
    assert (ended.code, ended.err) == (0, f"drawn: curves{suffix}\n")
    assert [path.name for path in tmp_path.iterdir()] == [f"curves{suffix}"]
    assert (tmp_path / f"curves{suffix}").read_bytes().startswith(signature)
    assert "optimizer steps" in ended.out


@pytest.mark.parametrize("name", ["nowhere/curves.png", "curves.nope"])
def test_a_plot_that_cannot_be_written_is_refused(lit_optim_: Any, tmp_path: Path, name: str) -> None:
    ended = lit_optim_("plan", "data=digits", "--plot", name)
    assert ended.code == 1
    assert "--plot" in ended.err
    assert name in ended.err
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_refused_recipe_tells_every_mistake_on_stderr(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("plan", "data=digits", "rules.a.match=nope", "rules.a.lr=1", "optimizer.lr=-1")
    assert (ended.code, ended.out) == (1, "")
    assert "rules.a.match" in ended.err
    assert "optimizer.lr" in ended.err
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_leaves_no_folder_even_where_one_is_named(lit_optim_: Any, tmp_path: Path) -> None:
    assert lit_optim_("plan", "data=digits", "hydra.run.dir=there").code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_sweep_is_refused(lit_optim_: Any, tmp_path: Path, flag: str) -> None:
    ended = lit_optim_("plan", flag, "seed=1,2")
    assert ended.code == 1
    assert "--multirun" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_help_shows_its_own_flags_and_the_config_groups(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", "--help")
    assert ended.code == 0
    assert "--json" in ended.out
    assert "--plot FILE" in ended.out
    assert "optimizer: adagrad, adam" in ended.out


def test_hydras_flags_keep_working(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", "--cfg", "job", "optimizer=sgd")
    assert ended.code == 0
    assert "torch.optim.SGD" in ended.out
