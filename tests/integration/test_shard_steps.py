"""Steps over parameters that two gloo ranks share out, beside those of one process over whole ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Server

SCRIPT = """
import json, os, pathlib, sys, torch, warnings
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
import lit_optim as lo
from lit_optim.integration.shard_steps import check_steps

warnings.simplefilter("ignore")
rank = int(os.environ["RANK"])
distributed.init_process_group("gloo", store=distributed.FileStore("store", 2), rank=rank, world_size=2)

class Local(torch.optim.SGD):  # takes the norm of its own part for that of the whole
    def step(self, closure=None):
        for group in self.param_groups:
            for one in group["params"]:
                part = one.grad.to_local() if isinstance(one.grad, DTensor) else one.grad
                one.grad = one.grad / (part.norm() + 1e-8).item()
        return super().step(closure)

class Noisy(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for one in group["params"]:
                one.grad = one.grad + torch.randn_like(one.grad)
        return super().step(closure)

class OneFails(torch.optim.SGD):
    def step(self, closure=None):
        if isinstance(self.param_groups[0]["params"][0], DTensor):
            raise RuntimeError("no such luck\\nat all")
        return super().step(closure)

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))

def shared_out(net):
    fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    return net

def plan(net, *optimizers):
    matrix = {"match": ["0.weight", "2.weight"], "optimizer": {"_target_": optimizers[-1]}}
    rules = {"matrices": matrix} if len(optimizers) > 1 else {}
    return lo.make_plan(net, {"optimizer": {"_target_": optimizers[0], "lr": 0.01}, "rules": rules}, lo.Horizon(20))

def refusal(*optimizers):
    net = shared_out(model())
    before = torch.get_rng_state(), [one.full_tensor() for one in net.parameters()]
    try:
        check_steps(net, plan(net, *optimizers))
        said = None
    except lo.PlanError as error:
        said = [[one.key, one.problem] for one in error.mistakes]
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(torch.equal(one.full_tensor(), was) for one, was in zip(net.parameters(), before[1]))
    return said

def muon(net):
    optimizer, _ = lo.build(net, plan(net, "torch.optim.AdamW", "torch.optim.Muon"))
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        x = torch.randn(8, 12, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    return [getattr(one, "full_tensor", lambda: one)().detach() for one in net.parameters()]

def apart():
    ends = muon(model().double()), muon(shared_out(model().double()))
    start = [one.detach() for one in model().double().parameters()]
    return [[(one - other).norm().item() / (one - before).norm().item()] for one, other, before in zip(*ends, start)]

told = {"rounded": apart()}
as_it_is, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, lambda tensor: tensor.clone()
told["exact"] = apart()
torch.Tensor.bfloat16 = as_it_is
told |= {",".join(one): refusal(*one) for one in json.loads(sys.argv[1])}
pathlib.Path(f"rank{rank}.json").write_text(json.dumps(told))
distributed.barrier()
os._exit(0)
"""
SOUND = [
    ["torch.optim.SGD"],
    ["torch.optim.Adam"],
    ["torch.optim.Adagrad"],
    ["torch.optim.AdamW", "torch.optim.Muon"],
    ["pytorch_optimizer.Lion"],
    ["pytorch_optimizer.ScheduleFreeAdamW"],
    ["__main__.Noisy"],  # no two runs of it are the same, which says nothing of shards
]
FAIL = [["torch.optim.Adafactor"], ["pytorch_optimizer.SOAP"], ["pytorch_optimizer.Shampoo"],
        ["pytorch_optimizer.Lamb"], ["pytorch_optimizer.LARS"], ["pytorch_optimizer.Ranger"]]  # fmt: skip
OWN = [["__main__.Local"], ["__main__.OneFails"], ["torch.optim.AdamW", "__main__.OneFails"]]


@pytest.fixture(scope="module")
def told(forked: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Any]:
    """What both ranks found."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    with (folder / "printed").open("w") as stream:
        streams = {"stdout": stream.fileno(), "stderr": stream.fileno()}
        what = json.dumps(SOUND + FAIL + OWN)
        ranks = [forked.start("-c", SCRIPT, what, cwd=folder, RANK=f"{rank}", **streams) for rank in range(2)]
        codes = [one.wait(120) for one in ranks]
    assert codes == [0, 0], (folder / "printed").read_text()
    ours, theirs = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2))
    assert ours == theirs
    return lambda names: ours[",".join(names)]


@pytest.mark.slow
def test_muon_orthogonalizes_whole_matrices_and_differs_by_bfloat16_alone(told: Callable[..., Any]) -> None:
    assert max(max(one) for one in told(["exact"])) < 1e-12  # computed in float64, it is the very same optimizer
    rounded = max(max(one) for one in told(["rounded"]))
    assert 1e-12 < rounded < 5 * 2**-8  # of how far a parameter has moved: a few roundings


@pytest.mark.slow
@pytest.mark.parametrize("names", SOUND, ids=",".join)
def test_what_steps_shards_as_whole_parameters_is_taken(names: list[str], told: Callable[..., Any]) -> None:
    assert told(names) is None


@pytest.mark.slow
@pytest.mark.parametrize("names", FAIL, ids=",".join)
def test_what_cannot_step_shards_is_refused(names: list[str], told: Callable[..., Any]) -> None:
    [[key, problem]] = told(names)
    assert key == "trainer.strategy"
    assert problem.startswith(f"{names[-1]} can't step parameters that FSDP2 has shared out: ")


@pytest.mark.slow
def test_what_takes_its_part_for_the_whole_is_refused_and_an_error_is_told(told: Callable[..., Any]) -> None:
    out = "can't step parameters that FSDP2 has shared out"
    assert told(OWN[0]) == [["trainer.strategy", f"__main__.Local {out}: its steps are others than over whole ones"]]
    for names in OWN[1:]:
        assert told(names) == [["trainer.strategy", f"__main__.OneFails {out}: no such luck"]]
