import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import lit_optim as lo

FAST = ("data=digits", "model.hidden_dims=[16]")


def test_it_leaves_a_picture_and_commands_that_can_be_pasted(lit_optim_: Any, tmp_path: Path) -> None:
    head = ("rules.head.match=layer.2", "rules.head.lr=0.05")
    scaled = ("lr_batch_size=16", "schedule=none")  # to a batch of 64: four times what is written
    ended = lit_optim_("lr-find", *FAST, "optimizer=momentum", *head, *scaled, "--steps", "60")
    assert ended.code == 0, ended.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent for path in files] == [tmp_path / "runs" / "default" / "lr-find"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    commands = [line for line in ended.out.splitlines() if " lit-optim train " in line]
    assert [line.split()[0] for line in commands] == ["steepest", "valley", "min/10"]
    pasted = shlex.split(commands[0])[3:]
    assert {*FAST, "optimizer=momentum", "rules.head.match=layer.2"} <= {*pasted}
    said = {one.partition("=")[0]: float(one.partition("=")[2]) for one in pasted if ".lr=" in one}
    assert said.keys() == {"optimizer.lr", "rules.head.lr"}
    assert said["rules.head.lr"] / said["optimizer.lr"] == pytest.approx(0.5, rel=0.02)  # 0.05 to momentum's 0.1
    plans = [
        lo.Plan.from_json(lit_optim_("plan", "--json", *overrides).out)
        for overrides in ([*FAST, "optimizer=momentum", *head, *scaled], pasted)
    ]
    before, after = ([group.hyperparameters["lr"] for group in plan.groups] for plan in plans)
    assert before[0] == pytest.approx(0.4)
    factor = float(next(line.split()[1] for line in ended.out.splitlines() if line.startswith("steepest")))
    assert after == pytest.approx([factor * rate for rate in before], rel=0.02)


def test_as_data(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("lr-find", *FAST, "--json", "--steps", "40", "--plot", "sweep.svg")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert len(told["factors"]) == len(told["losses"])
    assert {*told["suggestions"]} == {*told["overrides"]} == {"steepest", "valley", "min/10"}
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.svg"]


def test_a_terminal_sees_how_far_it_is(lit_optim_: Any, watched: Any) -> None:
    screen = watched()
    ended = lit_optim_("lr-find", *FAST, "--steps", "40")
    assert ended.code == 0
    assert re.fullmatch(r"step  1/40    2%\|.*\|.*  factor 1e-05     loss [\d.]+", screen.states[0])
    assert screen.states[-1].startswith("drawn: ")
    assert "step  1/40" not in ended.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--steps", "many"), "--steps: a whole number is needed"),
        (("--low", "-1"), "--low: a factor is above 0"),
        (("-m", "seed=1,2"), "--multirun: a learning rate is found for one recipe"),
        (("--plot", "there.png"), "--plot: this is there already, and is not written over"),
        (("--plot", "new.bmp"), "--plot: no format for this suffix"),
        (("optimizer.lrr=1",), "has no hyperparameter 'lrr'"),
        (("ckpt=some.ckpt",), "ckpt: a sweep starts with a fresh optimizer"),
        (("--low", "1e5", "--high", "1e6", "optimizer=sgd"), "lr-find: "),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(
    arguments: tuple[str, ...], told: str, lit_optim_: Any, tmp_path: Path
) -> None:
    (tmp_path / "there.png").write_text("mine")
    ended = lit_optim_("lr-find", *FAST, *arguments)
    assert ended.code == 1
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]
    assert (tmp_path / "there.png").read_text() == "mine"
