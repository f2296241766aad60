"""The monitor's figures are those of a slow loop by hand, and its findings are what was done to the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import Net, batches, loader, same
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.plugins import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, AdamW, Muon, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

import lit_optim as lo
from lit_optim.errors import ConfigError
from lit_optim.integration.callbacks import OptimizerMonitor
from lit_optim.integration.findings_file import FINDINGS
from lit_optim.integration.tensorboard import RunLogger

Make = Callable[[Net], Optimizer]
Rows = dict[int, dict[str, float]]
STEPS, EVERY = 8, 3


class Listening(Logger):
    """Keeps what it hears."""

    name = version = "listening"

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.rows: Rows = {}
        self.folder = folder

    @property
    def save_dir(self) -> str | None:
        return None if self.folder is None else str(self.folder)

    @property
    def log_dir(self) -> str | None:
        return self.save_dir

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.setdefault(step, {}).update({tag: value for tag, value in metrics.items() if tag != "epoch"})

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


class Made(Net):
    """Trains with the optimizers that are made for it."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.make = make

    def configure_optimizers(self) -> Any:
        return self.make(self)


def two_groups(net: Net, cls: type[Optimizer], **more: Any) -> Optimizer:
    first, rest = [*net.layers[0].parameters()], [*net.layers[2].parameters(), *net.layers[4].parameters()]
    return cls([{"params": first, "name": "first"}, {"params": rest, "lr": 0.02}], lr=0.05, **more)  # type: ignore[call-arg]


def sgd(net: Net) -> Optimizer:
    return two_groups(net, SGD)


def momentum(net: Net) -> Optimizer:
    return two_groups(net, SGD, momentum=0.9, weight_decay=0.1)


def adamw(net: Net) -> Optimizer:
    return two_groups(net, AdamW, weight_decay=0.1)


def amsgrad(net: Net) -> Optimizer:
    return two_groups(net, Adam, amsgrad=True)


def muon_adamw(net: Net) -> Optimizer:
    matrices = [parameter for parameter in net.layers.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in net.layers.parameters() if parameter.ndim == 1]
    children = {
        "muon": Muon([{"params": matrices, "name": "matrices"}], lr=0.02),
        "adamw": AdamW([{"params": vectors, "name": "vectors"}], lr=0.01),
    }
    return lo.CompositeOptimizer(children)


def norm(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.detach().double().square().sum().item() for tensor in tensors) ** 0.5


def names_of(optimizer: Optimizer) -> list[str]:
    return [group.get("name", f"group{index}") for index, group in enumerate(optimizer.param_groups)]


def of_gradients(groups: dict[str, list[nn.Parameter]], tag: str) -> dict[str, float]:
    gradients = {name: [p.grad for p in group if p.grad is not None] for name, group in groups.items()}
    return {f"{tag}/{name}": norm(of_group) for name, of_group in gradients.items()}


def by_hand(net: Net, make: Make, clip: float | None, window: int, precision: str = "32-true") -> Rows:
    """The same training and its figures at every step, one tensor at a time."""
    optimizer = make(net)
    groups = dict(zip(names_of(optimizer), (group["params"] for group in optimizer.param_groups), strict=True))
    everything = [parameter for group in groups.values() for parameter in group]
    groups_and_all = {**groups, "total": everything}
    micro_batches, rows = batches(STEPS * window), []
    for start in range(0, len(micro_batches), window):
        optimizer.zero_grad()
        for batch in micro_batches[start : start + window]:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False):
                loss = net.loss(batch) / window
            loss.backward()
        row = of_gradients(groups_and_all, "grad_norm")
        for name, group in groups_and_all.items():
            gradients = torch.cat([parameter.grad.flatten() for parameter in group])
            row[f"zero_grads/{name}"] = (gradients == 0).double().mean().item()
            row[f"nonfinite_grads/{name}"] = (~gradients.isfinite()).double().mean().item()
            row[f"param_norm/{name}"] = norm(group)
        if clip is not None:
            clip_grad_norm_(everything, clip)
        row |= of_gradients(groups_and_all, "grad_norm_clipped")
        before = {parameter: parameter.detach().clone() for parameter in everything}
        optimizer.step()
        for name, group in groups_and_all.items():
            row[f"update_norm/{name}"] = norm(parameter - before[parameter] for parameter in group)
            row[f"update_ratio/{name}"] = row[f"update_norm/{name}"] / row[f"param_norm/{name}"]
            states = [optimizer.state[parameter] for parameter in group]
            momenta = [one for state in states for key, one in state.items() if key in ("momentum_buffer", "exp_avg")]
            if momenta:
                row[f"momentum_norm/{name}"] = norm(momenta)
            steps = [
                step.flatten() for parameter in group if (step := effective_step(optimizer, parameter)) is not None
            ]
            if steps:
                row[f"effective_step/{name}"] = torch.cat(steps).mean().item()
        rows.append({(f"total/{t.split('/')[0]}" if t.endswith("/total") else t): value for t, value in row.items()})
    return dict(enumerate(rows))


def effective_step(optimizer: Optimizer, parameter: nn.Parameter) -> Tensor | None:
    """Of each element, as Adam's paper has it (arXiv:1412.6980, algorithm 1)."""
    state = optimizer.state[parameter]
    if "exp_avg_sq" not in state:
        return None
    [group] = [group for group in optimizer.param_groups if any(parameter is one for one in group["params"])]
    v = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"].double()
    v_hat = v / (1 - group["betas"][1] ** state["step"].item())
    return group["lr"] / (v_hat.sqrt() + group["eps"])


def at_cadence(rows: Rows, every: int = EVERY) -> Rows:
    return {step: row for step, row in rows.items() if step % every == 0}


def check_equal(ours: Rows, theirs: Rows, rel: float = 2e-5) -> None:
    assert {step: row.keys() for step, row in ours.items()} == {step: row.keys() for step, row in theirs.items()}
    for step, row in theirs.items():
        assert ours[step] == pytest.approx(row, rel=rel, abs=1e-12), step


@pytest.mark.parametrize(("clip", "window"), [(None, 1), (0.1, 1), (0.1, 2)])
@pytest.mark.parametrize("make", [sgd, momentum, adamw, amsgrad, muon_adamw])
def test_figures_are_those_of_a_loop_by_hand(make: Make, clip: float | None, window: int, trainer: Any) -> None:
    net, logger = Made(make), Listening()
    options = {"gradient_clip_val": clip, "accumulate_grad_batches": window, "logger": logger}
    trainer(callbacks=[OptimizerMonitor(every=EVERY, dead_relu=0)], **options).fit(net, loader(STEPS * window))
    twin = Net()
    rows = by_hand(twin, make, clip, window)
    assert same(net, twin), "measuring has changed the training"
    check_equal(logger.rows, at_cadence(rows))
    assert clip is None or any(row["total/grad_norm"] > clip * 1.1 for row in logger.rows.values())


def test_figures_under_bf16_mixed(trainer: Any) -> None:
    net, logger = Made(adamw), Listening()
    trainer(precision="bf16-mixed", callbacks=[OptimizerMonitor(every=EVERY, dead_relu=0)], logger=logger).fit(
        net, loader(STEPS)
    )
    check_equal(logger.rows, at_cadence(by_hand(Net(), adamw, None, 1, "bf16-mixed")))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("window", [1, 2])
def test_gradients_are_unscaled_before_they_are_measured(fused: bool, window: int, trainer: Any) -> None:
    """Fused optimizers that the scaler trusts unscale inside of their step."""

    def make(net: Net) -> Optimizer:
        return two_groups(net, AdamW, fused=fused)

    figures = []
    for scale in (1.0, 2.0**10):
        logger = Listening()
        plugin = MixedPrecision("16-mixed", "cpu", GradScaler("cpu", scale))
        options = {"plugins": [plugin], "logger": logger, "accumulate_grad_batches": window}
        if not fused:
            options["gradient_clip_val"] = 0.1
        monitor = OptimizerMonitor(every=EVERY, dead_relu=0, histograms=EVERY)
        trainer(callbacks=[monitor], **options).fit(Made(make), loader(STEPS * window))
        figures.append(logger.rows)
    plain, scaled = figures
    assert {*plain} == {*at_cadence(dict.fromkeys(range(STEPS)))}
    for step in plain:
        for tag in plain[step].keys() - {tag for tag in plain[step] if tag.startswith("zero_grads") or "step" in tag}:
            assert scaled[step][tag] == pytest.approx(plain[step][tag], rel=2e-2), (step, tag)  # fp16 rounds


def test_a_step_that_a_scaler_skips_has_no_update(trainer: Any, tmp_path: Path) -> None:
    class Overflowing(Made):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * (float("inf") if batch_idx == 3 else 1.0)

    logger = Listening(tmp_path)
    plugin = MixedPrecision("16-mixed", "cpu", GradScaler("cpu", 2.0))
    trainer(plugins=[plugin], callbacks=[OptimizerMonitor(every=EVERY)], logger=logger).fit(
        Overflowing(adamw), loader(STEPS)
    )
    assert logger.rows[3]["nonfinite_grads/first"] == 1
    assert not any("update" in tag or "clipped" in tag for tag in logger.rows[3])
    assert logger.rows[6]["nonfinite_grads/first"] == 0
    assert logger.rows[6]["update_norm/first"] > 0
    assert not (tmp_path / FINDINGS).exists(), "a scaler's first steps overflow, and that is no finding"


def test_each_quantity_has_its_own_cadence(trainer: Any) -> None:
    logger = Listening()
    monitor = OptimizerMonitor(every=4, update_ratio=2, momentum_norm=None, param_norm=0, dead_relu=0, update_norm=3)
    trainer(callbacks=[monitor], logger=logger).fit(Made(momentum), loader(STEPS))
    steps = {
        quantity: [step for step, row in logger.rows.items() if f"{quantity}/first" in row]
        for quantity in ("grad_norm", "update_ratio", "momentum_norm", "param_norm", "update_norm")
    }
    assert steps == {
        "grad_norm": [0, 4], "update_ratio": [0, 2, 4, 6], "momentum_norm": [], "param_norm": [],
        "update_norm": [0, 3, 6],
    }  # fmt: skip


def test_nothing_is_computed_between_logs(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    one = trainer(callbacks=[OptimizerMonitor(every=4)])
    norms = torch._foreach_norm

    def counting(*args: Any, **kwargs: Any) -> Any:
        measured.append(one.global_step)
        return norms(*args, **kwargs)

    monkeypatch.setattr(torch, "_foreach_norm", counting)
    one.fit(Made(sgd), loader(STEPS))
    assert {*measured} == {0, 4}


class Transfers(TorchDispatchMode):
    """Counts what is read from tensors one number at a time, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_log_is_one_transfer(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    single, lists, plain = Transfers(), [], Tensor.tolist

    class Entering(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            single.__enter__()

    class Leaving(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            single.__exit__(None, None, None)

    def tolist(self: Tensor) -> Any:
        lists.append(self.shape)
        return plain(self)

    monkeypatch.setattr(Tensor, "tolist", tolist)
    monitor = OptimizerMonitor(every=4, histograms=4)
    options = {"gradient_clip_val": 0.1, "logger": Listening()}
    trainer(callbacks=[Entering(), monitor, Leaving()], **options).fit(Relus(sgd), loader(STEPS))
    assert (single.count, len(lists)) == (0, 2), "one for each log"


@pytest.mark.parametrize("make", [sgd, adamw, muon_adamw])
def test_weights_are_the_same_bit_for_bit(make: Make, trainer: Any) -> None:
    watched, plain = Relus(make), Relus(make)
    options = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2}
    trainer(callbacks=[OptimizerMonitor(every=1, histograms=1)], **options).fit(watched, loader(STEPS))
    trainer(**options).fit(plain, loader(STEPS))
    assert same(watched, plain)


class Relus(Made):
    """With ReLUs, the last one behind the output and its first unit dead."""

    def __init__(self, make: Callable[[Any], Any] = sgd) -> None:
        super().__init__(make)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3), nn.ReLU())
        with torch.no_grad():
            self.layers[4].bias[0] = -100.0


def no_hooks(net: nn.Module, *optimizers: Optimizer) -> bool:
    hooked = [module for module in net.modules() if module._forward_hooks or module._forward_pre_hooks]
    return not hooked and not any(one._optimizer_step_post_hooks for one in optimizers)


def test_an_output_relu_is_told(trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = Listening(tmp_path)
    net = Relus()
    one = trainer(callbacks=[OptimizerMonitor(every=2, window=2)], logger=logger, max_epochs=2)
    one.fit(net, loader(STEPS))
    assert [row["dead_relu/layers.5"] for row in logger.rows.values()] == [pytest.approx(1 / 3)] * STEPS
    line = (
        "step 4: dead_relu/layers.5: 1 of 3 units were 0 for every sample, 3 logs in a row, and what follows them is "
        "the loss: they get no gradient any more; leave out the ReLU after the last layer "
        "(model.output_activation=null)"
    )
    assert (tmp_path / FINDINGS).read_text() == f"{line}\n"
    assert capsys.readouterr().err == f"lit-optim: {line}\n"
    assert no_hooks(net, *one.optimizers)


def test_dead_units_are_those_of_the_window(trainer: Any) -> None:
    logger, net, seen = Listening(), Relus(), []

    class Looking(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            with torch.no_grad():
                seen.append(pl_module.layers[:2](batch[0]) > 0)
            assert bool(pl_module.layers[1]._forward_hooks) == (trainer.global_step in (0, 3, 4, 7))

    monitor = OptimizerMonitor(every=4, window=2)
    trainer(callbacks=[monitor, Looking()], logger=logger).fit(net, loader(STEPS))
    for step, window in ((0, seen[:1]), (4, seen[3:5])):
        dead = (~torch.cat(window).any(dim=0)).double().mean().item()
        assert logger.rows[step]["dead_relu/layers.1"] == pytest.approx(dead)


def test_a_compiled_module_has_its_figures_but_no_hooks(trainer: Any) -> None:
    torch._dynamo.reset()
    logger, net = Listening(), Relus(adamw)
    monitor = OptimizerMonitor(every=2)
    trainer(callbacks=[monitor], logger=logger).fit(torch.compile(net, backend="eager"), loader(4))
    plain = Relus(adamw)
    trainer().fit(torch.compile(plain, backend="eager"), loader(4))
    torch._dynamo.reset()
    assert same(net, plain)
    assert logger.rows[2]["total/update_norm"] > 0
    assert not any("dead_relu" in tag for row in logger.rows.values() for tag in row)


def test_hooks_are_gone_after_an_exception(trainer: Any) -> None:
    class Breaking(Relus):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if batch_idx == 3:
                raise ArithmeticError("boom")
            return loss

    net = Breaking()
    one = trainer(callbacks=[OptimizerMonitor(every=1)])
    with pytest.raises(ArithmeticError, match="boom"):
        one.fit(net, loader(STEPS))
    assert no_hooks(net, *one.optimizers)


def findings(net: Net, trainer: Any, folder: Path, steps: int = STEPS, **options: Any) -> list[str]:
    monitor = OptimizerMonitor(every=1)
    trainer(callbacks=[monitor], logger=Listening(folder), **options).fit(net, loader(steps))
    path = folder / FINDINGS
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("make", [sgd, lambda net: AdamW(net.parameters(), lr=0.01), muon_adamw])
def test_a_sound_run_has_no_findings(make: Make, trainer: Any, tmp_path: Path) -> None:
    assert findings(Made(make), trainer, tmp_path) == []


def test_gradients_that_are_not_finite_are_told_with_their_parameter(trainer: Any, tmp_path: Path) -> None:
    class Spoilt(Made):
        def on_after_backward(self) -> None:
            if self.global_step == 4:
                self.layers[2].bias.grad[0] = torch.nan  # type: ignore[index,union-attr]

    [first, other, loss] = findings(Spoilt(sgd), trainer, tmp_path)
    assert first.startswith("step 4: nonfinite_grads/group1: 1% of the gradients are infinite or NaN, first those of ")
    assert "layers.2.bias; lower the learning rate" in first
    assert other.startswith("step 5: nonfinite_grads/first: 100% of the gradients")
    assert loss.startswith("step 5: train/loss diverged: the loss is infinite or NaN")


def test_a_learning_rate_too_high_is_told(trainer: Any, tmp_path: Path) -> None:
    lines = findings(Made(lambda net: Adam(net.parameters(), lr=1.0)), trainer, tmp_path)
    assert re.match(r"step 2: update_ratio/group0 too large: a step moves these weights by 0\.\d+ of", lines[0])
    assert "lower its lr, 1, or warm up for longer" in lines[0]


def test_a_learning_rate_too_low_is_told_but_not_while_it_warms_up_or_stands_still(
    trainer: Any, tmp_path: Path
) -> None:
    [line] = findings(Made(lambda net: SGD(net.parameters(), lr=1e-8)), trainer, tmp_path / "low")
    assert re.match(r"step 2: update_ratio/group0 too small: a step moves these weights by 4.6e-10 of", line)
    assert line.endswith("; raise its lr, 1e-08")

    def warming(net: Net) -> Any:
        optimizer = SGD(net.parameters(), lr=0.1)
        slow = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step * 1e-6)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": slow, "interval": "step"}}

    def frozen(net: Net) -> Optimizer:
        net.layers[0].requires_grad_(False)
        return two_groups(net, SGD)

    assert findings(Made(warming), trainer, tmp_path / "warming") == []
    assert findings(Made(frozen), trainer, tmp_path / "frozen") == []
    assert findings(Made(lambda net: SGD(net.parameters(), lr=0.0)), trainer, tmp_path / "zero") == []


def test_gradients_that_are_all_zero_are_told(trainer: Any, tmp_path: Path) -> None:
    class Cut(Made):
        def loss(self, batch: Any) -> Tensor:
            x, y = batch
            return super().loss((x * 0, y))

    def weights(net: Net) -> Optimizer:
        return SGD(
            [{"params": [net.layers[0].weight], "name": "stem"}, {"params": net.layers[2:].parameters()}], lr=0.1
        )

    [line] = findings(Cut(weights), trainer, tmp_path)
    assert line.startswith("step 2: update_ratio/stem too small: all gradients are 0, 3 logs in a row; see whether")


def test_a_loss_that_leaves_its_first_range_is_told(trainer: Any, tmp_path: Path) -> None:
    class Rising(Made):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) + (50.0 if batch_idx > 3 else 0.0)

    [line] = findings(Rising(sgd), trainer, tmp_path, accumulate_grad_batches=1)
    assert re.match(r"step 6: train/loss diverged: the loss is 51, and began between 1\.\d+ and 1\.\d+; lower", line)


def test_a_group_of_a_recipe_that_is_clipped_by_itself_is_seen_before(trainer: Any) -> None:
    rules = {"head": {"match": "layers.4", "clip_norm": 0.02}}
    net = lo.attach(Net(), {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01}, "rules": rules})
    logger = Listening()
    trainer(callbacks=[OptimizerMonitor(every=1)], logger=logger).fit(net, loader(STEPS))
    for row in logger.rows.values():
        assert row["grad_norm_clipped/head"] == pytest.approx(0.02, rel=1e-3)
        assert row["grad_norm/head"] > 0.03
        assert row["grad_norm/default"] == row["grad_norm_clipped/default"]


@pytest.mark.parametrize("target", ["torch.optim.LBFGS", "pytorch_optimizer.SAM"])
def test_an_optimizer_that_evaluates_again_is_measured_once(target: str, trainer: Any) -> None:
    optimizer = {"_target_": target, "lr": 0.1}
    if target.endswith("SAM"):
        optimizer["base_optimizer"] = "torch.optim.SGD"
    recipe = {"optimizer": optimizer}
    net, logger = lo.attach(Net(), recipe), Listening()
    monitor = OptimizerMonitor(every=1)
    options = {"gradient_clip_val": 0.05}
    trainer(callbacks=[monitor], logger=logger, **options).fit(net, loader(STEPS))
    plain = lo.attach(Net(), recipe)
    trainer(**options).fit(plain, loader(STEPS))
    assert same(net, plain)
    twin = Net()
    twin.loss(batches(1)[0]).backward()
    assert logger.rows[0]["total/grad_norm"] == pytest.approx(norm(p.grad for p in twin.parameters()), rel=1e-5)
    assert logger.rows[0]["total/param_norm"] == pytest.approx(norm(twin.parameters()), rel=1e-5)
    assert logger.rows[0]["total/grad_norm_clipped"] == pytest.approx(0.05, rel=1e-3)
    assert [*logger.rows] == list(range(STEPS))


def test_several_optimizers_of_manual_optimization_share_a_log(trainer: Any) -> None:
    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer in self.optimizers():  # type: ignore[union-attr]
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [SGD(self.layers[:2].parameters(), lr=0.1), AdamW(self.layers[2:].parameters(), lr=0.01)]

    net, logger = Manual(), Listening()
    trainer(callbacks=[OptimizerMonitor(every=3)], logger=logger).fit(net, loader(STEPS))
    assert [*logger.rows] == [0, 4, 6, 10, 12], "each batch makes two steps"
    first = logger.rows[0]
    assert first["total/param_norm"] == pytest.approx(norm(Net().parameters()), rel=1e-5)
    assert {"grad_norm/optimizer0.group0", "effective_step/optimizer1.group0"} <= first.keys()
    squares = sum(first[f"update_norm/optimizer{number}.group0"] ** 2 for number in (0, 1))
    assert first["total/update_norm"] == pytest.approx(squares**0.5)


class Overwriting(Made):
    """Diverges from step 4 on, and breaks when it is told to."""

    def __init__(self, breaks_at: int | None) -> None:
        super().__init__(sgd)
        self.breaks_at = breaks_at

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == self.breaks_at:
            raise ArithmeticError("boom")
        return super().training_step(batch, batch_idx) * (torch.nan if batch_idx == 4 else 1.0)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # the second run saves at other steps
@pytest.mark.parametrize("saved_at", [3, 6])
def test_a_finding_is_not_told_again_by_a_resumed_run(
    saved_at: int, trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither one that the checkpoint knows, nor one that the file alone knows, since it came after the checkpoint."""
    saving = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=saved_at)
    one = trainer(callbacks=[OptimizerMonitor(every=1), saving], logger=Listening(tmp_path), enable_checkpointing=True)
    with pytest.raises(ArithmeticError, match="boom"):
        one.fit(Overwriting(7), loader(STEPS))
    told = (tmp_path / FINDINGS).read_text()
    assert "step 4: nonfinite_grads/first" in told
    assert capsys.readouterr().err
    saving = ModelCheckpoint(tmp_path, filename="other")
    one = trainer(callbacks=[OptimizerMonitor(every=1), saving], logger=Listening(tmp_path), enable_checkpointing=True)
    one.fit(Overwriting(None), loader(STEPS), ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True)
    assert one.global_step == STEPS
    assert (tmp_path / FINDINGS).read_text() == told
    assert "nonfinite" not in capsys.readouterr().err


class From:
    """A loader that goes on from a batch, as one that a checkpoint knows does."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        return iter(batches(STEPS)[self.start :])


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_resumed_run_logs_what_a_whole_one_does(trainer: Any, tmp_path: Path) -> None:
    """Also of the window that the checkpoint has cut in two."""

    def rarely_alive() -> Relus:
        net = Relus(lambda net: SGD(net.parameters(), lr=1e-3))
        nn.init.constant_(net.layers[0].bias, -1.2)
        return net

    whole, resumed = Listening(), Listening()
    monitor = OptimizerMonitor(every=4, window=3)
    saving = {"every_n_train_steps": 3, "save_top_k": -1, "filename": "{step}"}
    options = {"logger": whole, "enable_checkpointing": True}
    trainer(callbacks=[monitor, ModelCheckpoint(tmp_path, **saving)], **options).fit(rarely_alive(), From(0))
    monitor = OptimizerMonitor(every=4, window=3)
    options["logger"] = resumed
    trainer(callbacks=[monitor, ModelCheckpoint(tmp_path, **saving)], **options).fit(
        rarely_alive(), From(3), ckpt_path=str(tmp_path / "step=3.ckpt"), weights_only=True
    )
    assert resumed.rows == {4: whole.rows[4]}
    assert 0 < whole.rows[4]["dead_relu/layers.1"] < 1


def test_a_second_run_of_the_same_monitor_tells_anew(trainer: Any, tmp_path: Path) -> None:
    monitor = OptimizerMonitor(every=1)
    for name in ("first", "second"):
        trainer(callbacks=[monitor], logger=Listening(tmp_path / name)).fit(Overwriting(None), loader(STEPS))
        assert "nonfinite_grads/first" in (tmp_path / name / FINDINGS).read_text()


def test_without_a_logger_findings_lie_in_the_trainers_folder(trainer: Any, tmp_path: Path) -> None:
    trainer(callbacks=[OptimizerMonitor(every=1)]).fit(Overwriting(None), loader(STEPS))
    assert (tmp_path / FINDINGS).exists()


def test_any_logger_gets_the_figures_and_tensorboard_the_histograms(trainer: Any, tmp_path: Path) -> None:
    csv, board = CSVLogger(tmp_path, name="csv", version=""), RunLogger(tmp_path / "board")
    monitor = OptimizerMonitor(every=4, histograms=4)
    trainer(callbacks=[monitor], logger=[csv, board]).fit(Made(adamw), loader(STEPS))
    csv.save()
    events = EventAccumulator(str(tmp_path / "board"), size_guidance={"histograms": 0}).Reload()
    expected = at_cadence(by_hand(Net(), adamw, None, 1), 4)
    points = [(event.step, event.value) for event in events.Scalars("grad_norm/first")]
    assert points == [(step, pytest.approx(row["grad_norm/first"])) for step, row in expected.items()]
    assert "update_ratio/first" in (tmp_path / "csv" / "metrics.csv").read_text()
    histograms = events.Histograms("gradients/first")
    assert [one.step for one in histograms] == [0, 4]
    assert [one.histogram_value.num for one in histograms] == [56, 56]
    roots = [one.histogram_value.sum_squares**0.5 for one in histograms]
    assert roots == pytest.approx([expected[step]["grad_norm/first"] for step in (0, 4)])


def test_what_it_cannot_do_is_refused_all_at_once() -> None:
    with pytest.raises(ConfigError) as refusal:
        OptimizerMonitor(every=-1, window=0, update_rato=10, momentum_norm=True)
    text = str(refusal.value)
    assert "update_rato: no such quantity\n    given:   update_rato\n    allowed: grad_norm, grad_norm_clipped," in text
    assert "    nearest: update_ratio, update_norm\n    fix:     rename or remove it\n" in text
    steps = "    allowed: 1 or more optimizer steps, 0 or null for never\n    fix:     correct the value\n"
    assert f"every: this is no number of steps\n    given:   -1\n{steps}" in text
    assert f"momentum_norm: this is no number of steps\n    given:   True\n{steps}" in text
    assert text.endswith(
        "window: no output would be looked at\n    given:   0\n"
        "    fix:     give a number of optimizer steps; 5 is the default"
    )


def test_it_is_among_the_callbacks() -> None:
    assert lo.callbacks.OptimizerMonitor is OptimizerMonitor
