from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lit_optim as lo

SAME = ("data=digits", "trainer.max_epochs=2", "rules.head.match=layer.4", "rules.head.lr=0.02", "seed=3")


def test_prints_the_table_and_a_total_that_accounts_for_every_parameter(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("plan", "data=mnist_5k", "data.batch_size=128", "trainer.max_epochs=2")
    assert (ended.code, ended.err) == (0, "")
    header, _, default, no_decay = [line for line in ended.out.splitlines() if line.strip()][:4]
    assert header.split() == ["group", "tensors", "parameters", "lr", "weight_decay"]
    assert default.split()[:3] == ["default", "3", "297,200"]
    assert no_decay.split()[:3] == ["no_decay", "3", "510"]
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
    assert "optimizer: adafactor, adagrad, adam" in ended.out


def test_hydras_flags_keep_working(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", "--cfg", "job", "optimizer=sgd")
    assert ended.code == 0
    assert "torch.optim.SGD" in ended.out


def test_learning_rates_follow_the_batch_of_all_devices_and_micro_batches(lit_optim_: Any) -> None:
    one = ("data=digits", "data.batch_size=64", "schedule=none", "lr_batch_size=256")
    for more, told, rate in (
        (("trainer.accumulate_grad_batches=2",), "× 0.5: global batch 128 / lr_batch_size 256 (linear)", 0.0005),
        (("trainer=ddp_cpu", "trainer.devices=4", "trainer.num_nodes=4"), "× 4: global batch 1,024 / ", 0.004),
        (("lr_batch_scaling=sqrt",), "× 0.5: global batch 64 / lr_batch_size 256 (sqrt)", 0.0005),
    ):
        ended = lit_optim_("plan", *one, *more)
        assert (ended.code, ended.err) == (0, "")
        assert f"learning rates {told}" in ended.out
        plan = lo.Plan.from_json(lit_optim_("plan", "--json", *one, *more).out)
        assert {group.hyperparameters["lr"] for group in plan.groups} == {rate}


def test_a_batch_size_beside_a_run_that_is_refused_adds_no_mistake_of_its_own(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", "data=digits", "lr_batch_size=256", "trainer.max_epochs=0")
    told = [line.partition(": ")[0] for line in ended.err.splitlines()[1:] if not line.startswith(" ")]
    assert told == ["trainer.max_epochs"]


def test_explain_tells_the_story_of_one_parameter(lit_optim_: Any, tmp_path: Path) -> None:
    ended = lit_optim_("plan", *SAME, "--explain", "layer.4.bias")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0][:4] == ["net.layer.4.bias:", "of", "Linear", "(head),"]
    for key, value, outcome in (
        ("optimizer.lr", "0.001", "overridden by rules.head.lr"),
        ("optimizer.weight_decay", "0.1", "overridden by rules.no_decay.weight_decay"),
        ("rules.no_decay.match", "{ndim: <=1}", "fits"),
        ("rules.head.lr", "0.02", "stands"),
    ):
        assert [key, "=", *value.split(), *outcome.split()] in lines
    assert "What stands: group head.no_decay of torch.optim.AdamW" in ended.out
    assert list(tmp_path.iterdir()) == []


def test_explain_and_json_keep_out_of_each_other_s_way(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", "--json", "--explain", "layer.0.bias", *SAME)
    assert lo.Plan.from_json(ended.out).group("head").hyperparameters["lr"] == 0.02
    assert ended.err.startswith("net.layer.0.bias: of Linear")


def test_explain_of_what_is_not_there_is_refused(lit_optim_: Any) -> None:
    ended = lit_optim_("plan", *SAME, "--explain", "layer.7.bias")
    assert (ended.code, ended.out) == (1, "")
    assert "--explain: there is no such parameter" in ended.err
    assert "nearest: net.layer.4.bias" in ended.err


SUSPICIOUS = ("schedule=linear", "schedule.lr.duration=50%")


def test_a_warning_is_listed_apart_and_strict_refuses_it(lit_optim_: Any) -> None:
    loose = lit_optim_("plan", "data=digits", *SUSPICIOUS)
    assert (loose.code, loose.err) == (0, "")
    told = " ".join(loose.out.split())
    assert "warning: schedule.lr: lr is 0 from step 115 of 230 on, so the last 50% of the run train nothing;" in told
    strict = lit_optim_("plan", "data=digits", "--strict", *SUSPICIOUS)
    assert (strict.code, strict.out) == (1, "")
    assert strict.err.splitlines() == [
        "lit-optim: PlanError",
        "schedule.lr: lr is 0 from step 115 of 230 on, so the last 50% of the run train nothing",
        "    fix:     lengthen the schedule, or shorten the run; or leave --strict out",
    ]
    assert lit_optim_("plan", "data=digits", "--strict").code == 0


def test_all_mistakes_of_a_recipe_and_of_its_surroundings_are_told_in_one_run(lit_optim_: Any, tmp_path: Path) -> None:
    wrong = (
        "rules.a.mach=layer.0",
        "rules.b={match: nope, lr: 1}",
        "rules.c.match=layer.0",
        "rules.c.multiply.lr=fast",
        "optimizer.wieght_decay=1",
        "schedule.lr.warmup=300%",
        "trainer.max_epochs=0",
        "callbacks.checkpoint.monitor=val/accuracy",
    )
    keys = [
        "rules.a.mach",
        "rules.a.match",
        "rules.b.match",
        "rules.c.multiply.lr",
        "optimizer.wieght_decay",
        "trainer.max_epochs",
        "callbacks.checkpoint.monitor",
    ]
    for verb in ("plan", "train"):
        ended = lit_optim_(verb, "data=digits", *wrong)
        assert (ended.code, ended.out) == (1, "")
        told = [line.partition(": ")[0] for line in ended.err.splitlines()[1:] if not line.startswith(" ")]
        assert sorted(told) == sorted(keys)
        assert list(tmp_path.iterdir()) == []
    one_less = lit_optim_("plan", "data=digits", *(text for text in wrong if not text.startswith("trainer")))
    told = [line.partition(": ")[0] for line in one_less.err.splitlines()[1:] if not line.startswith(" ")]
    assert "schedule.lr.warmup" in told  # which nobody can measure while the run has no length


def test_a_misspelt_objective_is_refused_before_training(lit_optim_: Any, tmp_path: Path) -> None:
    for verb in ("plan", "train"):
        ended = lit_optim_(verb, "data=digits", "optimized_metric=val/accc")
        assert ended.code == 1
        assert ended.err.splitlines() == [
            "lit-optim: ConfigError",
            "optimized_metric: the run has no such metric",
            "    given:   val/accc",
            "    allowed: val/loss, val/acc, test/loss, test/acc",
            "    nearest: val/acc",
            "    fix:     name a metric of the run, or set it to null",
        ]
        assert list(tmp_path.iterdir()) == []


def test_a_monitor_that_is_never_logged_is_refused_before_training(lit_optim_: Any, tmp_path: Path) -> None:
    for verb in ("plan", "train"):
        ended = lit_optim_(verb, "data=digits", "callbacks.checkpoint.monitor=val/accuracy")
        assert ended.code == 1
        assert ended.err.splitlines() == [
            "lit-optim: ConfigError",
            "callbacks.checkpoint.monitor: LitClassifier never logs this while it trains",
            "    given:   'val/accuracy'",
            "    allowed: val/loss, val/acc",
            "    nearest: val/acc",
            "    fix:     monitor one of these, or null for none",
        ]
        assert list(tmp_path.iterdir()) == []


def test_freezing_layer_decay_and_two_classes_are_said_on_the_command_line(lit_optim_: Any) -> None:
    ended = lit_optim_(
        "plan",
        "--json",
        "data=digits",
        "rules.layers.match=*",
        "rules.layers.layer_decay=0.5",
        "rules.stem.match=layer.0",
        "rules.stem.freeze_until=20%",
        "rules.hidden={match: layer.2.weight, optimizer: {_target_: torch.optim.Muon, lr: 0.02}}",
        "rules.probe.match=layer.4.bias",
        "rules.probe.freeze=true",
    )
    assert (ended.code, ended.err) == (0, "")
    plan = lo.Plan.from_json(ended.out)
    stem = plan.group("layers.stem.depth0")
    assert (stem.freeze_until, stem.hyperparameters["lr"]) == (46, 0.001 * 0.25)
    assert plan.group("hidden").optimizer == "torch.optim.Muon"
    assert plan.group("hidden").hyperparameters["lr"] == 0.01
    assert plan.frozen_by == {"net.layer.4.bias": "probe"}


@pytest.mark.slow
def test_it_imports_what_lightning_and_hydra_do_and_little_else(tmp_path: Path) -> None:
    code = (
        "import sys, lightning.pytorch, hydra; others = lambda: {name.partition('.')[0] for name in sys.modules};"
        "before = others(); from lit_optim.cli import main; assert main(['plan', 'data=digits']) == 0;"
        "print(*sorted(others() - before - sys.stdlib_module_names), file=sys.stderr);"
        "print('matplotlib.backends.backend_agg' in sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    packages, draws = ended.stderr.splitlines()
    of_logger = {"absl", "google", "tensorboard"}  # whose class is looked at
    assert {*packages.split()} <= {"lit_optim", "hydra_plugins", *of_logger}  # those plugins that are installed
    assert draws == "False"


def test_a_compiled_network_is_planned_as_it_would_be(lit_optim_: Any) -> None:
    compiled = lit_optim_("plan", "trainer.compile={backend: eager}")
    plain = lit_optim_("plan")
    assert compiled.code == plain.code == 0
    assert "execution: fused True; compiled net\n" in compiled.out
    assert compiled.out.replace("; compiled net", "") == plain.out
