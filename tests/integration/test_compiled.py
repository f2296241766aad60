from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from digitnet import Net, loader, same
from lightning.pytorch import Trainer
from torch import nn

import lit_optim as lo
from lit_optim.integration.compiled import accept_compiled

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


def test_other_differences_stay() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2)})
    accept_compiled(model)
    state: dict[str, Any] = {"b._orig_mod.weight": torch.zeros(2, 2), "a._orig_mod.bias": torch.zeros(2)}
    with pytest.raises(RuntimeError, match=r'Missing key.*"a.weight"[\s\S]*Unexpected key.*"b._orig_mod.weight"'):
        model.load_state_dict(state)
    assert torch.equal(model["a"].bias, torch.zeros(2))
