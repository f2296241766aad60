"""Every optimizer class of torch and of pytorch_optimizer: through a recipe under a Trainer, and in a bare loop.

The bare loop is written as the class's documentation has it, and knows nothing of what the package derives.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

import lit_optim as lo

STEPS = 12
HIDDEN = {"match": {"module": "linear", "ndim": 2, "not": {"module": "head"}}}


def classes_of(package: Any) -> dict[str, type[Optimizer]]:
    found = {name: item for name, item in vars(package).items() if isinstance(item, type)}
    own = package.__name__.partition(".")[0]
    return {
        f"{package.__name__}.{name}": item
        for name, item in found.items()
        if issubclass(item, Optimizer) and item is not Optimizer and item.__module__.partition(".")[0] == own
    }


CLASSES = classes_of(torch.optim) | classes_of(pytorch_optimizer)
PO = "pytorch_optimizer"

REFUSED = {  # a part of the one line that says why
    f"{PO}.LOMO": "needs a backward pass of its own (fused_backward)",
    f"{PO}.AdaLOMO": "needs a backward pass of its own (fused_backward)",
    f"{PO}.PCGrad": "needs a backward pass of its own (pc_backward)",
    f"{PO}.SafeFP16Optimizer": "needs a backward pass of its own (backward)",
    f"{PO}.GSAM": "can't be constructed without 'rho_scheduler'",  # an object, and no plain value
}
MATRICES = ("torch.optim.Muon", f"{PO}.SpectralSphere")  # the rest goes to AdamW
SPARSE = ("torch.optim.SparseAdam",)
IN_A_GROUP = (f"{PO}.DistributedMuon", f"{PO}.DeMo")  # talk to other processes, also where there is one
SWITCHED = {f"{PO}.{name}" for name in ("AdaGO", "AdaMuon", "DistributedMuon", "Muon", "MuonClip", "NorMuon")}
SAYS: dict[str, dict[str, Any]] = {  # what can't be left out, and what makes the other differ from its default
    f"{PO}.BSAM": {"num_data": 24},
    f"{PO}.Ranger21": {"num_iterations": STEPS},
    f"{PO}.AdamMini": {"lr": 1e-3, "num_embeds": 8, "num_heads": 2},
    f"{PO}.Lookahead": {"optimizer": "torch.optim.AdamW", "lr": 1e-2, "k": 3},
    f"{PO}.Magma": {"optimizer": "torch.optim.SGD", "lr": 1e-2, "momentum": 0.9},
    f"{PO}.OrthoGrad": {"optimizer": "torch.optim.SGD", "lr": 1e-2},
    f"{PO}.ScheduleFreeWrapper": {"optimizer": "torch.optim.SGD", "lr": 1e-2},
    f"{PO}.TRAC": {"optimizer": "torch.optim.AdamW", "lr": 1e-2},
    f"{PO}.SaRA": {"lr": 1e-2, "threshold": 0.5},
    **{
        f"{PO}.{name}": {"base_optimizer": "torch.optim.SGD", "lr": 1e-2, "momentum": 0.9, "rho": 0.1}
        for name in ("FriendlySAM", "LookSAM", "SAM", "WSAM")
    },
}
WRAPPERS = {name for name, said in SAYS.items() if "optimizer" in said}
GRADIENTS_FIRST = {f"{PO}.{name}" for name in ("BSAM", "FriendlySAM", "LookSAM", "SAM")}
CLOSURE = {"torch.optim.LBFGS", f"{PO}.WSAM", *GRADIENTS_FIRST}
LOSS = {f"{PO}.AliG"}
STILL = {f"{PO}.TRAC"}  # goes back to its reference at each step until something has moved
GRAPH = {f"{PO}.AdaHessian", f"{PO}.SophiaH"}


class Net(pl.LightningModule):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 4, sparse=True) if sparse else nn.Linear(12, 4)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        inside = self.table(x.argmax(-1)) if isinstance(self.table, nn.Embedding) else self.table(x)
        return cross_entropy(self.layers(inside), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def on_train_start(self) -> None:
        pl.seed_everything(7, verbose=False)  # after whatever the loader's start has drawn


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 12, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(STEPS)
    ]


def recipe_of(name: str) -> dict[str, Any]:
    own = {"_target_": name, **SAYS.get(name, {})}
    adamw = {"_target_": "torch.optim.AdamW", "lr": 1e-3}
    if name in MATRICES:
        return {"optimizer": adamw, "rules": {"hidden": {**HIDDEN, "optimizer": own}}}
    if name in SPARSE:
        return {"optimizer": adamw, "rules": {"table": {"match": {"module": "embedding"}, "optimizer": own}}}
    if name in SWITCHED:
        return {"optimizer": {**own, "use_muon": False}, "rules": {"hidden": {**HIDDEN, "use_muon": True}}}
    return {"optimizer": own}


def optimizers_of(name: str, net: Net) -> list[Optimizer]:
    """By hand, as the documentation of the class has it."""
    cls, said = CLASSES[name], dict(SAYS.get(name, {}))
    everything = dict(net.named_parameters())
    matrices = [everything["table.weight"], everything["layers.0.weight"]]
    rest = [parameter for parameter in everything.values() if not any(parameter is one for one in matrices)]
    if name in MATRICES:
        return [cls(matrices), torch.optim.AdamW(rest, lr=1e-3, fused=True)]
    if name in SPARSE:
        return [cls([everything["table.weight"]]), torch.optim.AdamW(list(everything.values())[1:], 1e-3, fused=True)]
    if name in SWITCHED:
        return [cls([{"params": matrices, "use_muon": True}, {"params": rest, "use_muon": False}])]
    for argument in ("optimizer", "base_optimizer"):
        if argument in said:
            said[argument] = getattr(torch.optim, said[argument].rpartition(".")[2])
    if name in WRAPPERS:
        inner = said.pop("optimizer")
        own = {key: said.pop(key) for key in list(said) if key in inspect.signature(cls).parameters}
        return [cls(inner(everything.values(), **said), **own)]
    if "model" in inspect.signature(cls).parameters:
        more = {"params": everything.values()} if "params" in inspect.signature(cls).parameters else {}
        return [cls(model=net, **more, **said)]
    fused = {"fused": True} if name.startswith("torch") and "fused" in inspect.signature(cls).parameters else {}
    return [cls(everything.values(), **said, **fused)]


def bare_loop(name: str, net: Net) -> None:
    optimizers = optimizers_of(name, net)
    pl.seed_everything(7, verbose=False)
    for optimizer in optimizers:
        if hasattr(optimizer, "train"):
            optimizer.train()
    for batch in batches():

        def closure(batch: Any = batch) -> Tensor:
            net.zero_grad()
            loss = net.loss(batch)
            loss.backward(create_graph=name in GRAPH)
            return loss

        if name in CLOSURE:
            if name in GRADIENTS_FIRST:
                closure()
            optimizers[0].step(closure)
            continue
        loss = closure()
        for optimizer in optimizers:
            optimizer.step(*[lambda loss=loss: loss] * (name in LOSS))
    for optimizer in optimizers:
        if hasattr(optimizer, "eval"):
            optimizer.eval()


@pytest.fixture
def own_process_group(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    if request.getfixturevalue("name") not in IN_A_GROUP:
        yield
        return
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("own_process_group")
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")  # of the bare loop
@pytest.mark.parametrize("name", sorted(CLASSES.keys() - REFUSED.keys()))
def test_a_recipe_trains_as_the_bare_loop_does(name: str, trainer: Callable[..., pl.Trainer]) -> None:
    torch.manual_seed(0)
    net = Net(sparse=name in SPARSE)
    twin = copy.deepcopy(net)
    before = copy.deepcopy(net.state_dict())
    torch.manual_seed(3)
    watching = lo.callbacks.OptimizerMonitor(every=4, histograms=4)  # which may change nothing
    fitting = trainer(max_steps=STEPS, callbacks=[watching])
    fitting.fit(lo.attach(net, recipe_of(name)), DataLoader(batches(), batch_size=None))
    torch.manual_seed(3)
    bare_loop(name, twin)
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in net.state_dict().items())
    moved = not all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert moved is (name not in STILL)
    assert all(parameter.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_run_says_why_in_one_line(name: str) -> None:
    said = {"base_optimizer": "torch.optim.SGD", "optimizer": "torch.optim.SGD"}
    own = {key: value for key, value in said.items() if key in inspect.signature(CLASSES[name]).parameters}
    with pytest.raises(lo.PlanError) as refused:
        lo.make_plan(Net(False), lo.Recipe.from_config({"optimizer": {"_target_": name, **own}}), lo.Horizon(STEPS))
    [mistake] = refused.value.mistakes
    assert REFUSED[name] in mistake.problem
    assert mistake.remedy


def test_the_packages_hold_what_they_did() -> None:
    assert len(classes_of(torch.optim)) == 15
    assert len(classes_of(pytorch_optimizer)) == 133
    assert {*REFUSED, *MATRICES, *SPARSE, *IN_A_GROUP, *SWITCHED, *SAYS, *CLOSURE, *LOSS, *GRAPH} <= CLASSES.keys()
