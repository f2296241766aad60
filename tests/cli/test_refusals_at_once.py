"""Mistakes of parts that don't need each other are told in one error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lit_optim.cli import multirun

DIGITS = ("data=digits", "model.hidden_dims=[8]", "trainer.max_epochs=1", "data.batch_size=256")
OF_ALL_PARTS = (
    "seed=-1", "resume.on_change=eror", "optimizer.wd=0.1", "trainer.strategy=dpp", "trainer.precision=17",
    "callbacks.monitor.early=abc", "callbacks.last.every_n_train_steps=1.5", "+logger.width=3", "weights=nope.ckpt",
)  # fmt: skip
KEYS = {*(one.lstrip("+").partition("=")[0] for one in OF_ALL_PARTS)}


def keys(err: str) -> list[str]:
    return [line.partition(": ")[0] for line in err.splitlines()[1:] if not line.startswith(" ")]


def refused(ended: Any) -> list[str]:
    assert ended.code == 1, ended.out + ended.err
    assert ended.err.count("lit-optim: ") == 1
    assert "Traceback" not in ended.err
    assert ended.out == ""
    return keys(ended.err)


@pytest.mark.parametrize("verb", ["train", "plan", "lr-find"])
def test_every_verb_tells_the_mistakes_of_all_parts(lit_optim_: Any, tmp_path: Path, verb: str) -> None:
    told = refused(lit_optim_(verb, *DIGITS, *OF_ALL_PARTS))
    assert {*told} == KEYS
    assert len(told) == len(KEYS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["data.batch_size=0", "model.hidden_dims=[0]", "'data.batch_size=${nope}'"])
def test_a_refused_model_or_data_doesn_t_hide_the_recipe(lit_optim_: Any, broken: str) -> None:
    broken = broken.strip("'")
    recipe = ("optimizer.wd=0.1", "rules.head.match=layr.4", "rules.head.momentun=1")
    told = refused(lit_optim_("train", *DIGITS, broken, *recipe))
    key = broken.partition("=")[0]
    named = {"rules.head.match"} if key.startswith("data") else set()  # which names there are only the model knows
    assert {*told} == {key if key != "model.hidden_dims" else "model", "optimizer.wd", "rules.head.momentun"} | named


def test_a_model_and_data_that_are_not_there_are_told_together(lit_optim_: Any) -> None:
    own = ("model=own", "model._target_=my_pakage.Net", "data=own", "data._target_=my_package.Dat")
    assert refused(lit_optim_("train", *own)) == ["data._target_", "model._target_"]


def test_keys_that_can_t_be_composed_are_told_with_the_rest(lit_optim_: Any, tmp_path: Path) -> None:
    typed = ("optimizr.lr=1", "trainer.max_epoch=3", "callbacks.monitr.early=3", "+bla=1", "optimizer.wd=0.1")
    ended = lit_optim_("train", *DIGITS, *typed)
    assert refused(ended) == ["optimizr", "trainer.max_epoch", "callbacks.monitr", "bla", "optimizer.wd"]
    for words in ("given:   optimizr.lr=1", "nearest: optimizer", "nearest: max_epochs", "nearest: monitor"):
        assert words in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_length_is_not_held_against_a_run_that_was_not_meant(lit_optim_: Any) -> None:
    typed = ("trainer.max_epoch=30", "schedule.lr.warmup=400steps", "optimizer.lr=-1")
    assert refused(lit_optim_("train", *DIGITS, *typed)) == ["trainer.max_epoch", "optimizer.lr"]


def test_a_length_is_not_held_against_a_run_of_which_a_callback_is_refused(lit_optim_: Any) -> None:
    node = ("_target_=lightning.pytorch.callbacks.GradientAccumulationScheduler", "scheduling={0:6}")
    typed = (*(f"+callbacks.six.{one}" for one in node), "schedule=none", "optimizer.lr=-1",
             "schedule.lr._target_=torch.optim.lr_scheduler.OneCycleLR", "schedule.lr.max_lr=0.1",
             "schedule.lr.total_steps=1", "schedule.lr.cycle_momentum=false")  # fmt: skip
    assert refused(lit_optim_("plan", *DIGITS, *typed)) == ["optimizer.lr"]
    told = refused(lit_optim_("plan", *DIGITS, *typed, "callbacks.monitor.early=abc"))
    assert {*told} == {"optimizer.lr", "callbacks.monitor.early"}


@pytest.mark.parametrize("typed", ["hidden_dims=[8,8,8]", "modle.hidden_dims=[8,8,8]"])
def test_names_of_parameters_are_not_held_against_a_model_that_was_not_meant(lit_optim_: Any, typed: str) -> None:
    told = refused(lit_optim_("plan", *DIGITS, typed, "rules.a.match=layer.6", "rules.a.lr=1", "optimizer.wd=1"))
    assert told == [typed.partition(".")[0].partition("=")[0], "optimizer.wd"]


def test_names_of_parameters_are_told_beside_a_key_that_is_not_the_model_s(lit_optim_: Any) -> None:
    told = refused(lit_optim_("plan", *DIGITS, "trainer.max_epoch=3", "rules.a.match=layer.6", "rules.a.lr=1"))
    assert told == ["trainer.max_epoch", "rules.a.match"]


def test_no_choice_is_missed_that_may_lie_in_a_folder_of_configs(lit_optim_: Any, tmp_path: Path) -> None:
    assert refused(lit_optim_("plan", "--confg-dir", "conf", "model=mine")) == ["--confg-dir"]


def test_no_target_is_refused_that_a_broken_project_file_may_allow(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.lit-optim]\nallow = 3\n")
    told = refused(lit_optim_("plan", *DIGITS, "--jsn", "model._target_=os.getcwd"))
    assert len(told) == 2
    assert "--jsn" in told
    assert "model._target_" not in told


@pytest.mark.parametrize("more", [("OneCycleLR", "max_lr=0.1", "total_steps=6", "cycle_momentum=false"),
                                  ("CosineAnnealingLR", "T_max=6")])  # fmt: skip
def test_a_scheduler_of_torch_s_is_not_run_ahead_for_a_run_that_was_not_meant(
    lit_optim_: Any, more: tuple[str, ...]
) -> None:
    target, *arguments = more
    node = (f"_target_=torch.optim.lr_scheduler.{target}", *arguments)
    typed = ("fooo=1", "schedule=none", *(f"schedule.lr.{one}" for one in node))
    assert refused(lit_optim_("plan", *DIGITS, *typed)) == ["fooo"]


OWN = """
from lightning.pytorch.loggers import CSVLogger
from lit_optim.data import Digits
from lit_optim.errors import DataError, Mistake

class Opens(CSVLogger):
    def __init__(self, save_dir):
        open("opened", "w").close()
        super().__init__(save_dir)

class Away(Digits):
    asked = 0

    def prepare_data(self):
        Away.asked += 1
        raise DataError(Mistake("data.root", f"no answer, asked {Away.asked} times"))

class Cropped(Digits):
    def __init__(self, side=8, **more):
        super().__init__(**more)
        self.in_dim = side * side
"""


def test_a_logger_of_somebody_else_is_not_opened_for_a_look(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    logger = ("logger=none", "+logger.own._target_=own.Opens", "+logger.own.save_dir=x")
    assert lit_optim_("plan", *DIGITS, *logger).code == 0
    assert refused(lit_optim_("plan", *DIGITS, *logger, "+logger.own.name=3")) == ["logger.own.name"]
    assert not (tmp_path / "opened").exists()


def test_data_that_can_t_be_had_is_asked_for_once(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    ended = lit_optim_("train", *DIGITS, "data._target_=own.Away", "optimizer.lr=-1")
    assert refused(ended) == ["data.root", "optimizer.lr"]
    assert "asked 1 times" in ended.err


def test_another_process_than_the_first_prepares_no_data(
    lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert lit_optim_("train", *DIGITS, "data._target_=own.Away", "weights=nope.ckpt").code == 1
    assert sys.modules["own"].Away.asked == 0


def test_a_model_is_not_held_against_what_the_class_of_refused_data_says(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    data = ("data._target_=own.Cropped", "data.side=4", "data.batch_size=0")
    assert refused(lit_optim_("plan", *DIGITS, *data, "model.in_dim=16")) == ["data.batch_size"]


@pytest.mark.parametrize("choice", ["optimizer=adamx", "data=minst", "rules.a.match=layer.[02]"])
def test_nothing_is_said_of_a_config_in_which_another_choice_stands_in(lit_optim_: Any, choice: str) -> None:
    told = refused(lit_optim_("plan", *DIGITS, choice, "trainer.max_epoch=3", "model.in_dim=3", "optimizer.wd=1"))
    assert told == [choice if "[" in choice else choice.partition("=")[0], "trainer.max_epoch"]


def test_flags_are_told_with_the_rest(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("plan", *DIGITS, "--jsn", "--plt", "x.png", "optimizr.lr=1", "optimizer.lr=-1")
    assert refused(ended) == ["--jsn", "--plt", "optimizr", "optimizer.lr"]
    assert "nearest: --json" in ended.err
    assert "nearest: --plot" in ended.err


def test_the_flags_of_lr_find_are_told_with_the_rest(lit_optim_: Any) -> None:
    flags = ("--steps", "5", "--low", "x", "--plot", "no/such.png")
    ended = lit_optim_("lr-find", *DIGITS, *flags, "optimizer.lr=-1", "ckpt=x.ckpt")
    assert refused(ended) == ["ckpt", "--low", "--steps", "--plot", "optimizer.lr"]
    assert "allowed: 20 or more" in ended.err


def test_a_sweep_tells_all_of_its_wrong_keys(lit_optim_: Any, tmp_path: Path) -> None:
    typed = ("-m", "seed=1,2", "trainer.max_epoch=3", "fooo=1", "hydra/sweeper=tpe", "hydra.sweeper.n_trails=3")
    ended = lit_optim_("train", *DIGITS, *typed)
    assert refused(ended) == ["trainer.max_epoch", "fooo", "hydra.sweeper.n_trails"]
    assert "nearest: n_trials" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_the_config_is_printed_of_no_other_command_line(lit_optim_: Any) -> None:
    assert refused(lit_optim_("train", "--cfg", "job", "fooo=1", "trainer.max_epoch=3")) == ["fooo"]


def test_a_word_of_hydra_s_help_is_no_use_of_a_key(lit_optim_: Any) -> None:
    assert refused(lit_optim_("plan", *DIGITS, "+foo=2")) == ["foo"]


def test_early_says_the_same_of_every_value(lit_optim_: Any) -> None:
    told = [lit_optim_("plan", *DIGITS, f"callbacks.monitor.early={value}").err for value in ("abc", "-5", "1.5")]
    assert "callbacks.monitor.early: this is no number of steps\n    given:   'abc'" in told[0]
    assert "    allowed: 1 or more optimizer steps, 0 or null for as many as every\n" in told[0]
    without = {"\n".join(line for line in err.splitlines() if "given:" not in line) for err in told}
    assert len(without) == 1


FLAGS = {
    "trainer.devices=-1": ("trainer.devices: this is no number of processes on the CPU", "allowed: a number above 0"),
    "trainer.devices=[0,1]": ("trainer.devices: this is no number of processes on the CPU",),
    "trainer.accelerator=cpuu": ("trainer.accelerator: ", "given:   'cpuu'", "cuda", "nearest: cpu"),
    "trainer.strategy=ddp_find_unused_parameter_true": (
        "trainer.strategy: ",
        "nearest: ddp_find_unused_parameters_true",
    ),
    "trainer.precision=bf16-mixd": ("trainer.precision: ", "allowed: 64, 32, 16", "nearest: bf16-mixed"),
    "+trainer.gradient_clip_algorithm=nrm": (
        "trainer.gradient_clip_algorithm: ",
        "given:   'nrm'",
        "['value', 'norm']",
    ),
    "optimizer.wd=0.1": ("optimizer.wd: ", "nearest: weight_decay"),
    "+model=own": ("model: there is a choice of this config group already", "write model=own, without a plus"),
    "nonsense": ("nonsense: ", "fix:     write KEY=VALUE"),
}


@pytest.mark.parametrize("typed", FLAGS)
def test_what_is_allowed_is_named(lit_optim_: Any, typed: str) -> None:
    ended = lit_optim_("plan", *DIGITS, typed)
    refused(ended)
    for words in FLAGS[typed]:
        assert words in ended.err


def test_a_file_that_is_no_yaml_is_named(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "bad.yaml").write_text("a: 1\nb: [1\n")
    ended = lit_optim_("plan", "--config-dir", "conf", "data=bad")
    assert refused(ended) == ["config"]
    assert "a config file is no YAML" in ended.err
    assert "bad.yaml" in ended.err


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir"])
@pytest.mark.parametrize("folder", ["x" * 300, "${nope}"])
def test_a_folder_that_can_t_be_one_is_told_once(lit_optim_: Any, tmp_path: Path, key: str, folder: str) -> None:
    sweep = ("-m", "seed=1,2") if "sweep" in key else ()
    assert len(refused(lit_optim_("train", *DIGITS, f"{key}={folder}", *sweep))) == 1
    assert list(tmp_path.iterdir()) == []


def test_whatever_fails_before_a_sweep_ends_it(
    lit_optim_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: Any) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr(multirun, "prepare", fails)
    ended = lit_optim_("train", *DIGITS, "-m", "seed=1,2")
    assert refused(ended) == ["--multirun"]
    assert "AttributeError: no such thing" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_not_named(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("train", *DIGITS, "-m", "optimizer.lr=-1,-2")
    assert "lit-optim: 2 of 2 jobs failed\n" in ended.err
    assert "runs/" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_flag_of_resume_is_told_with_the_nearest(lit_optim_: Any) -> None:
    ended = lit_optim_("resume", "runs/some", "--hlep", "--jsn")
    assert refused(ended) == ["--hlep", "--jsn"]
    assert "nearest: --help" in ended.err


@pytest.mark.parametrize("verb", ["plan", "lr-find", "compare"])
def test_a_flag_without_its_value_is_refused_as_all_else(verb: str, lit_optim_: Any) -> None:
    ended = lit_optim_(verb, "--plot")
    assert refused(ended) == [f"lit-optim {verb}"]
    assert "argument --plot: expected one argument" in ended.err
