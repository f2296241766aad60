from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import Net, loader, same
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

import lit_optim as lo
from lit_optim.integration.compiled import accept_compiled, compile_networks
from lit_optim.structure import compiled_in, is_compiled

RECIPE = {
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
    "rules": {"head": {"match": "layers.4", "lr": 0.02}},
}


class Compiled(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.compile(self.layers, backend="eager")  # type: ignore[assignment]


@pytest.mark.parametrize(("first", "second"), [(Net, Compiled), (Compiled, Net), (Compiled, Compiled)])
def test_a_run_goes_on_compiled_or_not(
    first: type[Net], second: type[Net], trainer: Callable[..., Trainer], tmp_path: Path
) -> None:
    path = tmp_path / "one.ckpt"
    before = trainer(max_epochs=1)
    before.fit(lo.attach(first(), RECIPE), loader(4))
    before.save_checkpoint(path)
    resumed, whole = lo.attach(second(), RECIPE), lo.attach(Net(), RECIPE)
    trainer(max_epochs=2).fit(resumed, loader(4), ckpt_path=path, weights_only=True)
    trainer(max_epochs=2).fit(whole, loader(4))
    assert same(resumed, whole)


class Several(LightningModule):
    """Networks in every place where a module may hold them, and what is none."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.heads = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)])
        self.named = nn.ModuleDict({"a": nn.Linear(2, 1)})
        self.accuracy = MulticlassAccuracy(3)


def test_networks_are_compiled_in_place() -> None:
    module = Several()
    names = [*module.state_dict()]
    compile_networks(module, {"backend": "eager"}, "trainer.compile")
    assert [*compiled_in(module)] == ["encoder", "heads.0", "heads.1", "named.a"]
    assert [*module.state_dict()] == names
    assert not is_compiled(module.accuracy)
    assert module.heads[1](torch.ones(1, 2)).shape == (1, 3)


@pytest.mark.parametrize("how", [False, None])
def test_nothing_is_compiled_unasked(how: object) -> None:
    module = Several()
    compile_networks(module, how, "trainer.compile")
    assert not [*compiled_in(module)]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("yes", "trainer.compile: true, false or a mapping is needed\n    given:   'yes'"),
        ({"mod": "default"}, "trainer.compile.mod: torch.compile has no such argument here"),
        ({"fullgraph": 1}, "trainer.compile.fullgraph: a bool is needed\n    given:   1"),
    ],
)
def test_what_cant_be_meant_is_refused(how: object, told: str) -> None:
    module = Several()
    with pytest.raises(lo.ConfigError) as refused:
        compile_networks(module, how, "trainer.compile")
    assert told in str(refused.value)
    assert not [*compiled_in(module)]


def test_a_compiler_that_isnt_there_is_missed_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(lo.ConfigError, match=r"trainer.compile: torch.compile needs a C\+\+ compiler, and none"):
        compile_networks(Several(), True, "trainer.compile")
    compile_networks(Several(), {"backend": "eager"}, "trainer.compile")  # needs none


@pytest.mark.parametrize("how", [{"mode": "bogus"}, {"backend": "nope"}])
def test_what_torch_does_not_know_is_refused_by_its_key(how: dict[str, str]) -> None:
    with pytest.raises(lo.ConfigError, match=r"trainer.compile: torch.compile refuses this: .*(bogus|nope)"):
        compile_networks(Several(), how, "trainer.compile")


def test_the_plan_shows_it_outside_of_its_hash() -> None:
    plain, compiled = Net(), Net()
    compile_networks(compiled, {"backend": "eager"}, "trainer.compile")
    plans = [lo.make_plan(module, lo.Recipe.from_config(RECIPE), lo.Horizon(10, 5)) for module in (plain, compiled)]
    assert plans[0].hash == plans[1].hash
    assert not plans[0].diff(plans[1])
    assert plans[1].execution["model"] == {"compiled": ["layers"]}
    assert "execution: fused True; compiled layers" in str(plans[1])
    assert "compiled" not in str(plans[0])
    assert lo.Plan.from_json(plans[1].to_json()) == plans[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_network_trains_as_it_would_uncompiled(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    net, twin, resumed = Net(), Net(), Net(seed=3)
    compile_networks(net, True, "trainer.compile")
    one = trainer(max_epochs=1)
    one.fit(lo.attach(net, RECIPE), loader(4))
    one.save_checkpoint(tmp_path / "one.ckpt")
    trainer(max_epochs=2).fit(lo.attach(resumed, RECIPE), loader(4), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    trainer(max_epochs=2).fit(lo.attach(twin, RECIPE), loader(4))
    assert [*net.state_dict()] == [*twin.state_dict()]
    for ours, others in zip(resumed.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, others)


def test_other_differences_stay() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2)})
    accept_compiled(model)
    state: dict[str, Any] = {"b._orig_mod.weight": torch.zeros(2, 2), "a._orig_mod.bias": torch.zeros(2)}
    with pytest.raises(RuntimeError, match=r'Missing key.*"a.weight"[\s\S]*Unexpected key.*"b._orig_mod.weight"'):
        model.load_state_dict(state)
    assert torch.equal(model["a"].bias, torch.zeros(2))
