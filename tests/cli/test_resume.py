"""A run that was ended goes on in its folder as if nothing had happened."""

import fcntl
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Server
from nested import identical
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

SHORT = ("data=digits", "model.hidden_dims=[16,16]", "trainer.max_epochs=3", "trainer.limit_train_batches=12",
         "trainer.limit_val_batches=1")  # fmt: skip
ENDING = """
import os, signal
from lightning.pytorch import Callback

class Ending(Callback):
    def __init__(self, at: int, sent: str, moment: str = "on_train_batch_start") -> None:
        self.at, self.sent = at, sent
        setattr(self, moment, self.end)

    def end(self, trainer, *args) -> None:
        if trainer.global_step == self.at:
            os.kill(os.getpid(), getattr(signal, self.sent))
"""


def state(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {part: content[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops")}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def hparams(folder: Path) -> Any:
    contents = EventAccumulator(str(folder)).Reload().PluginTagToContent("hparams")
    return plugin_data_pb2.HParamsPluginData.FromString(
        contents["_hparams_/session_start_info"]
    ).session_start_info.hparams


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "sent", "at", "code", "kept"),
    [
        ("momentum", "SIGKILL", 5, -9, None),
        ("adamw", "SIGKILL", 24, -9, 24),
        ("muon_adamw", "SIGKILL", 29, -9, 24),
        ("muon_adamw", "SIGTERM", 29, 143, 30),
    ],
)
def test_it_ends_as_an_uninterrupted_run(
    optimizer: str, sent: str, at: int, code: int, kept: int | None, process: Any, lit_optim_: Any, tmp_path: Path
) -> None:
    (tmp_path / "ending.py").write_text(ENDING)
    common = (*SHORT, f"optimizer={optimizer}")
    ended = process(
        "train", *common, "hydra.run.dir=cut", "+callbacks.ending._target_=ending.Ending",
        f"+callbacks.ending.at={at}", f"+callbacks.ending.sent={sent}",
    )  # fmt: skip
    assert ended.code == code
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert last.exists() == (kept is not None)
    if kept is not None:
        assert torch.load(last, weights_only=True)["global_step"] == kept
    assert lit_optim_("train", *common, "hydra.run.dir=whole").code == 0
    resumed = lit_optim_("resume", "cut", "callbacks.ending=null")
    assert resumed.code == 0
    assert ("goes on from step" in resumed.out) == (kept is not None)
    assert ("begins anew: it had not come to a checkpoint" in resumed.out) == (kept is None)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert identical(state(whole), state(cut))
    assert scalars(whole) == scalars(cut)
    assert [step for step, _ in scalars(cut)["train/loss"]] == [*range(36)]
    for part in ("status", "final", "best", "steps", "epochs"):
        assert metrics(whole)[part] == metrics(cut)[part]


@pytest.mark.slow
@pytest.mark.parametrize("at", [24, 36])
def test_a_validation_that_was_cut_off_from_its_batch_is_made_up_for(
    at: int, process: Any, lit_optim_: Any, tmp_path: Path
) -> None:
    (tmp_path / "ending.py").write_text(ENDING)
    common = (*SHORT, "schedule=plateau", "schedule.lr.patience=0", "schedule.lr.threshold=0.9")
    common = (*common, "callbacks.last.every_n_train_steps=12")
    ended = process(
        "train", *common, "hydra.run.dir=cut", "+callbacks.ending._target_=ending.Ending", f"+callbacks.ending.at={at}",
        "+callbacks.ending.sent=SIGKILL", "+callbacks.ending.moment=on_validation_start",
    )  # fmt: skip
    assert ended.code == -9
    assert lit_optim_("train", *common, "hydra.run.dir=whole").code == 0
    resumed = lit_optim_("resume", "cut", "callbacks.ending=null")
    assert resumed.code == 0, resumed.err
    assert f"goes on from step {at}" in resumed.out
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert identical(state(whole), state(cut))
    assert scalars(whole) == scalars(cut)
    assert scalars(whole)["lr/default"][-1][1] < 2e-4  # of 1e-3: validation has been looked at
    for part in ("status", "final", "best", "steps", "epochs"):
        assert metrics(whole)[part] == metrics(cut)[part]


@pytest.fixture(scope="module")
def kept(forked: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the run that was trained in the folder ``project`` beside it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "project").mkdir()
    rule = ("rules.head.match=layer.4", "rules.head.lr=0.01")
    forked.run(
        "-m", "lit_optim", "train", *SHORT, *rule, "hydra.run.dir=run", cwd=folder / "project"
    ).check_returncode()
    return Path(shutil.copytree(folder / "project", folder / "kept"))


@pytest.fixture
def run(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run as it came to its end, where it was trained: in the working directory."""
    project = kept.parent / "project"
    shutil.rmtree(project)
    shutil.copytree(kept, project)
    monkeypatch.chdir(project)
    return project / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "changed", "end", "scheduled"),
    [
        (24, ("trainer.limit_train_batches=20",), 84, 100),
        (24, ("trainer.limit_train_batches=10",), 54, 50),
        (24, ("trainer.accumulate_grad_batches=2", "trainer.max_epochs=8"), 60, 48),
        (17, ("trainer.limit_train_batches=20",), 92, 100),
        (17, ("trainer.limit_train_batches=4", "trainer.max_epochs=8"), 45, 32),
        (17, ("trainer.limit_train_batches=5", "trainer.max_epochs=8"), 47, 40),
        (17, (), 60, 60),
    ],
)
def test_a_run_whose_epochs_have_another_length_now_is_told_where_it_ends(
    step: int, changed: tuple[str, ...], end: int, scheduled: int, process: Any, lit_optim_: Any, tmp_path: Path
) -> None:
    """Its plan is that of a run with all its epochs as they are now."""
    (tmp_path / "ending.py").write_text(ENDING)
    ended = process(
        "train", *SHORT, "hydra.run.dir=cut", "+callbacks.ending._target_=ending.Ending", "+callbacks.ending.at=28",
        "+callbacks.ending.sent=SIGKILL", f"callbacks.last.every_n_train_steps={step}",
    )  # fmt: skip
    assert ended.code == -9
    ended = lit_optim_("resume", "cut", "callbacks.ending=null", "trainer.max_epochs=5", *changed)
    assert ended.code == 0, ended.err
    assert f"goes on from step {step}: " in ended.out
    told = f"the run ends at step {end}, and its schedules at step {scheduled}"
    assert (told in ended.out) == (end != scheduled)
    assert metrics(tmp_path / "cut")["steps"] == end


@pytest.mark.filterwarnings("error:Checkpoint directory")
def test_a_longer_run_goes_on_and_the_change_is_told_and_kept(run: Path, lit_optim_: Any) -> None:
    ended = lit_optim_("resume", "run", "trainer.max_epochs=4", "rules.head.lr=0.02")
    assert ended.code == 0
    assert f"goes on from step 36: {run}/checkpoints/last.ckpt" in ended.out
    assert "changed since the checkpoint: head.no_decay: lr 0.01 → 0.02" in ended.out
    assert "changed since the checkpoint: horizon: total_steps 36 → 48" in ended.out
    told = metrics(run)["continued"]
    assert told[0]["step"] == 36
    assert "horizon: total_steps 36 → 48" in told[0]["changes"]
    assert [step for step, _ in scalars(run)["train/loss"]] == [*range(48)]
    assert scalars(run)["lr/head"][36][1] > scalars(run)["lr/head"][35][1]
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert config.trainer.max_epochs == 4
    assert config.rules.head.lr == 0.02
    assert config.ckpt is None
    assert hparams(run)["trainer.max_epochs"].number_value == 4
    assert [step for step, _ in scalars(run)["best/test/acc"]] == [48]
    ended = lit_optim_("resume", "run", "trainer.max_epochs=5", "lr_batch_size=32")
    assert ended.code == 0
    assert "learning rates: scaled none → × 2: global batch 64 / lr_batch_size 32 (linear)" in ended.out
    assert OmegaConf.load(run / ".hydra" / "config.yaml").rules.head.lr == 0.02
    assert metrics(run)["steps"] == 60
    assert len(metrics(run)["continued"]) == 2


def test_the_command_of_a_resumed_run_is_of_all_that_it_was_told(run: Path, lit_optim_: Any) -> None:
    first = ("trainer.max_epochs=4", "rules.head.lr=0.02", "+width=16", 'model.hidden_dims=["${width}",16]')
    assert lit_optim_("resume", "run", *first).code == 0
    assert lit_optim_("resume", "run", "trainer.max_epochs=5", "width=16", "optimizer=sgd").code == 0
    again = shlex.split(lit_optim_("compare", "run").out.splitlines()[-1])
    assert again[:3] == ["again", "lit-optim", "train"]
    assert {"rules.head.match=layer.4", "rules.head.lr=0.02", "++width=16", "optimizer=sgd"} < {*again}
    planned = lit_optim_("plan", "--json", *again[3:])
    assert json.loads(planned.out)["hash"] == json.loads((run / "plan.json").read_text())["hash"]


def test_another_choice_of_a_group_replaces_the_one_before(run: Path, lit_optim_: Any) -> None:
    ended = lit_optim_("resume", "run", "trainer.max_epochs=4", "schedule=exponential", "optimizer=momentum")
    assert ended.code == 0
    assert "no_decay: optimizer torch.optim.AdamW → torch.optim.SGD" in ended.out
    assert "not in the checkpoint: " in ended.out
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert config.schedule.lr._target_ == "lit_optim.schedules.Exponential"
    assert "duration" not in config.schedule.lr
    assert config.rules.head.match == "layer.4"


def test_a_run_that_was_moved_goes_on_where_it_is_now(run: Path, lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(run, tmp_path / "elsewhere" / "it's here"))
    assert lit_optim_("resume", str(moved), "trainer.max_epochs=4").code == 0
    assert torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 48
    assert not run.exists()


def test_the_folder_is_named_from_here_and_the_run_goes_on_where_it_began(
    run: Path, lit_optim_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run.parent / "elsewhere").mkdir()
    monkeypatch.chdir(run.parent / "elsewhere")
    assert lit_optim_("resume", "../run", "trainer.max_epochs=4").code == 0
    assert Path.cwd() == run.parent
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 48


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("resume", "rnu"), "FOLDER: no such folder"),
        (("resume", "run/plan.json"), "FOLDER: this is a file"),
        (("resume", "."), "FOLDER: this is not the folder of a run"),
        (("resume", "-m", "run", "seed=1,2"), "--multirun: resume goes on with one run, and is no sweep"),
        (("resume", "run", "--multirun"), "resume each run by itself"),
        (("resume",), "lit-optim resume: the folder of one run is needed"),
        (("resume", "run"), "FOLDER: it stands at step 36 of a run of 36: nothing is left to train"),
        (("resume", "run", "trainer.max_epochs=4", "optimizer.lrr=1"), "torch.optim.AdamW has no hyperparameter 'lrr'"),
        (("resume", "run", "trainer.max_epochs=4", "resume.on_change=error"), "resume.on_change=error refuses that"),
        (("resume", "run", "trainer.max_epochs=4", "resume.on_change=eror"), "nearest: error"),
        (("resume", "run", "trainer.max_epochs=4", "model.hidden_dims=[30]"), "the weights are another model's"),
    ],
)
def test_what_is_wrong_is_told_and_the_folder_stays_as_it_was(
    arguments: tuple[str, ...], told: str, run: Path, lit_optim_: Any
) -> None:
    before = contents(run)
    ended = lit_optim_(*arguments)
    assert ended.code == 1
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert contents(run) == before


def test_the_end_of_a_fit_is_kept_whatever_the_steps_between_two_checkpoints(lit_optim_: Any, tmp_path: Path) -> None:
    common = (*SHORT, "callbacks.last.every_n_train_steps=10", "schedule=none")
    assert lit_optim_("train", *common, "hydra.run.dir=tens").code == 0
    assert "FOLDER: it stands at step 36 of a run of 36: nothing is left" in lit_optim_("resume", "tens").err
    assert lit_optim_("resume", "tens", "trainer.max_epochs=4").code == 0
    assert lit_optim_("train", *common, "trainer.max_epochs=4", "hydra.run.dir=whole").code == 0
    assert [step for step, _ in scalars(tmp_path / "tens")["train/loss"]] == [*range(48)]
    assert identical(state(tmp_path / "tens"), state(tmp_path / "whole"))


def test_a_start_that_lies_behind_a_run_is_not_looked_for(run: Path, lit_optim_: Any) -> None:
    ended = lit_optim_("resume", "run", "trainer.max_epochs=4", "ckpt=gone.ckpt", "optimizer.lrr=1")
    assert "no hyperparameter 'lrr'" in ended.err
    assert "gone.ckpt" not in ended.err


@pytest.mark.parametrize("whole", [(), ("config.yaml",), ("config.yaml", "hydra.yaml")])
def test_a_run_that_was_killed_before_its_settings_were_whole_is_started_anew(
    whole: tuple[str, ...], lit_optim_: Any, tmp_path: Path
) -> None:
    (tmp_path / "cut" / ".hydra").mkdir(parents=True)
    for name in whole:
        (tmp_path / "cut" / ".hydra" / name).write_text("name: a\n")
    ended = lit_optim_("resume", "cut")
    assert ended.code == 1
    lacking = " and ".join(name for name in ("config.yaml", "hydra.yaml", "overrides.yaml") if name not in whole)
    assert ended.err.splitlines() == [
        "lit-optim: RunError",
        f"FOLDER: nothing can go on from here: .hydra/ lacks {lacking}",
        f"    given:   {tmp_path / 'cut'}",
        "    fix:     restore them; if the run was killed before it had them, start it anew with its command; "
        "this folder may be deleted",
    ]


def test_of_an_empty_folder_it_is_not_said_that_a_run_was_killed_there(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    ended = lit_optim_("resume", "new")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "lit-optim: RunError",
        "FOLDER: this is not the folder of a run: it is empty",
        f"    given:   {tmp_path / 'new'}",
        "    fix:     if a run was killed here in its start-up, start it again with its own command",
    ]


def test_a_run_that_was_killed_before_it_had_any_settings_is_started_anew(lit_optim_: Any, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "events.out.tfevents.1700000000.host.1.0").touch()
    ended = lit_optim_("resume", "cut")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "lit-optim: RunError",
        "FOLDER: nothing can go on from here: a run that was killed here had not come to write its settings",
        f"    given:   {tmp_path / 'cut'}",
        "    fix:     start it anew with its command; this folder may be deleted; or name the folder of another run",
    ]
    (tmp_path / "cut" / "mine.txt").touch()
    assert "deleted" not in lit_optim_("resume", "cut").err


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (b"", "this is not a checkpoint\n"),
        (b"no checkpoint", "this is not a checkpoint\n"),
        (None, "this file can't be read"),
    ],
)
def test_a_damaged_checkpoint_is_refused(damage: bytes | None, told: str, run: Path, lit_optim_: Any) -> None:
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000] if damage is None else damage)
    before = contents(run)
    ended = lit_optim_("resume", "run", "trainer.max_epochs=4")
    assert ended.code == 1
    assert f"FOLDER: {told}" in ended.err
    assert contents(run) == before


def test_a_run_that_another_process_trains_is_refused(run: Path, lit_optim_: Any) -> None:
    handle = os.open(run / ".hydra", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        ended = lit_optim_("resume", "run", "trainer.max_epochs=4")
    finally:
        os.close(handle)
    assert ended.code == 1
    assert "FOLDER: another process is training this run" in ended.err
