from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import lit_optim as lo
from lit_optim.composite import CompositeOptimizer


def model_of(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def children(model: nn.Sequential, **more: Any) -> dict[str, Optimizer]:
    return {
        "adamw": AdamW([{"params": [*model[0].parameters()], "name": "first"}], lr=1e-2, weight_decay=0.1, **more),
        "sgd": SGD([{"params": [*model[2].parameters()], "name": "second"}], lr=0.1, momentum=0.9, **more),
    }


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, 4, generator=generator), torch.randint(0, 3, (16,), generator=generator)) for _ in range(count)
    ]


def train(model: nn.Module, optimizers: list[Optimizer], steps: int = 5, start: int = 0) -> None:
    for x, y in batches(start + steps)[start:]:
        for optimizer in optimizers:
            optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("more", [{}, {"fused": True}, {"foreach": True}])
def test_it_takes_the_very_steps_of_its_children(more: dict[str, Any]) -> None:
    apart, together = model_of(), model_of()
    train(apart, [*children(apart, **more).values()])
    train(together, [CompositeOptimizer(children(together, **more))])
    assert same(apart, together)
    assert not same(together, model_of())


def test_groups_state_and_defaults_are_the_childrens() -> None:
    model = model_of()
    parts = children(model)
    composite = CompositeOptimizer(parts)
    assert [group["name"] for group in composite.param_groups] == ["first", "second"]
    assert composite.param_groups[1] is parts["sgd"].param_groups[0]
    assert composite.state is parts["sgd"].state is parts["adamw"].state
    assert composite.defaults["lr"] == 1e-2
    assert not {"betas", "momentum"} & composite.defaults.keys()
    assert not getattr(composite, "_step_supports_amp_scaling", False)
    composite.param_groups[1]["lr"] = 0.0
    composite.param_groups[1]["momentum"] = 0.0
    train(model, [composite], steps=1)
    assert torch.equal(model[2].weight, model_of()[2].weight)


def test_the_closure_runs_once_with_gradients() -> None:
    model, apart = model_of(), model_of()
    composite, calls = CompositeOptimizer(children(model)), []
    [(x, y)] = batches(1)

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        composite.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with torch.no_grad():
        assert composite.step(closure).item() > 0  # type: ignore[arg-type, attr-defined]
    assert calls == [True]
    train(apart, [CompositeOptimizer(children(apart))], steps=1)
    assert same(apart, model)


def saved(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_a_state_dict_is_flat_and_goes_on_where_it_was() -> None:
    whole, first, second = model_of(), model_of(), model_of(1)
    train(whole, [CompositeOptimizer(children(whole))], steps=6)
    composite = CompositeOptimizer(children(first))
    train(first, [composite], steps=3)
    state = saved(composite.state_dict())
    assert state.keys() == {"state", "param_groups"}
    assert [group["params"] for group in state["param_groups"]] == [[0, 1], [2, 3]]
    second.load_state_dict(first.state_dict())
    parts = children(second)
    again = CompositeOptimizer(parts)
    again.load_state_dict(state_dict=state)
    assert again.param_groups[0] is parts["adamw"].param_groups[0]
    assert again.state is parts["adamw"].state is parts["sgd"].state
    train(second, [again], steps=3, start=3)
    assert same(second, whole)


def test_another_shape_is_refused_and_changes_nothing() -> None:
    model = model_of()
    composite = CompositeOptimizer(children(model))
    train(model, [composite], steps=1)
    before = copy.deepcopy(composite.state_dict())
    state = composite.state_dict()
    state["param_groups"] = state["param_groups"][::-1][:1]
    with pytest.raises(ValueError, match="groups"):
        composite.load_state_dict(state)
    after = composite.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["state"].keys() == before["state"].keys()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_a_copy_stands_on_its_own_feet(copied: Any) -> None:
    model = model_of()
    composite = CompositeOptimizer(children(model))
    train(model, [composite], steps=2)
    other_model, other = copied((model, composite))
    other.param_groups[0]["lr"] = composite.param_groups[0]["lr"]
    assert other.param_groups[0] is other.optimizers["adamw"].param_groups[0]
    assert other.param_groups[0] is not composite.param_groups[0]
    assert other.state is other.optimizers["sgd"].state
    train(model, [composite], steps=2, start=2)
    assert not same(model, other_model)
    train(other_model, [other], steps=2, start=2)
    assert same(model, other_model)


def test_a_new_group_goes_to_the_child_that_it_names() -> None:
    model, extra = model_of(), nn.Linear(2, 2)
    composite = CompositeOptimizer(children(model))
    composite.add_param_group({"params": [*extra.parameters()], "optimizer": "adamw", "lr": 0.5})
    assert [group["lr"] for group in composite.param_groups] == [1e-2, 0.1, 0.5]
    assert "optimizer" not in composite.param_groups[2]
    with pytest.raises(lo.PlanError) as refused:
        composite.add_param_group({"params": [nn.Parameter(torch.ones(1))], "optimizer": "adam"})
    assert str(refused.value).splitlines() == [
        "optimizer: no such optimizer in the composite",
        "    given:   'adam'",
        "    allowed: adamw, sgd",
        "    nearest: adamw",
        "    fix:     say which of the optimizers takes the group: {'params': …, 'optimizer': 'adamw'}",
    ]
    with pytest.raises(lo.PlanError, match="held by adamw and by sgd"):
        composite.add_param_group({"params": [*extra.parameters()], "optimizer": "sgd"})


def test_what_can_not_be_a_composite_is_refused() -> None:
    model = model_of()
    with pytest.raises(lo.PlanError, match="a composite of nothing"):
        CompositeOptimizer({})
    with pytest.raises(lo.PlanError, match="held by a and by b"):
        CompositeOptimizer({"a": SGD(model.parameters()), "b": SGD(model[0].parameters())})
    with pytest.raises(lo.PlanError, match=r"optimizers\.l: LBFGS evaluates the model several times a step"):
        CompositeOptimizer({"l": torch.optim.LBFGS(model[0].parameters()), "s": SGD(model[2].parameters())})


CANNOT = {
    "SAM": lambda p: pytorch_optimizer.SAM(p, SGD, lr=0.1),
    "WSAM": lambda p: pytorch_optimizer.WSAM(model_of(), p, SGD, lr=0.1),
    "BSAM": lambda p: pytorch_optimizer.BSAM(p, num_data=8),
    "Lookahead": lambda p: pytorch_optimizer.Lookahead(SGD(p, 0.1)),
    "TRAC": lambda p: pytorch_optimizer.TRAC(SGD(p, 0.1)),
}


@pytest.mark.parametrize("name", CANNOT)
def test_a_child_that_evaluates_or_steps_another_is_refused_by_name(name: str) -> None:
    model = model_of()
    child = CANNOT[name]([*model[0].parameters()])
    with pytest.raises(lo.PlanError) as refused:
        CompositeOptimizer({"child": child, "sgd": SGD(model[2].parameters(), 0.1)})
    why = "evaluates the model several times a step" if name in ("BSAM",) else "steps an optimizer inside of it"
    assert str(refused.value).splitlines() == [
        f"optimizers.child: {name} {why}, so it can't share a run",
        "    fix:     let child hold every parameter, or none",
    ]
    assert same(model, model_of())


@pytest.mark.parametrize("copied", [lambda one: one, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_child_that_needs_the_loss_gets_it(copied: Any) -> None:
    model = model_of()
    alig = pytorch_optimizer.AliG(model[0].parameters(), max_lr=0.1)
    model, composite = copied((model, CompositeOptimizer({"alig": alig, "sgd": SGD(model[2].parameters(), 0.1)})))
    apart, [(x, y)] = model_of(), batches(1)
    composite.step(lambda: gradients(model, x, y))
    loss = gradients(apart, x, y)
    pytorch_optimizer.AliG(apart[0].parameters(), max_lr=0.1).step(lambda: loss)
    SGD(apart[2].parameters(), 0.1).step()
    assert same(model, apart)


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> Any:
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss.detach()


def test_modes_are_the_childrens() -> None:
    model = model_of()
    free = pytorch_optimizer.ScheduleFreeSGD(model[0].parameters(), lr=0.1)
    composite = CompositeOptimizer({"free": free, "sgd": SGD(model[2].parameters(), 0.1)})
    train(model, [composite])
    trained, twin = copy.deepcopy(model), copy.deepcopy((model, free))
    composite.eval()
    twin[1].eval()
    assert same(model, twin[0])
    assert not same(model, trained)
    composite.train()
    assert free.param_groups[0]["train_mode"]
    assert composite.param_groups[0]["train_mode"]
    CompositeOptimizer(children(model_of())).eval()


def test_hooks_of_the_whole_and_of_a_child() -> None:
    model, seen = model_of(), []
    parts = children(model)
    composite = CompositeOptimizer(parts)
    composite.register_step_pre_hook(lambda *_: seen.append("before"))
    parts["sgd"].register_step_post_hook(lambda *_: seen.append("sgd"))
    composite.register_step_post_hook(lambda *_: seen.append("after"))
    composite.register_state_dict_post_hook(lambda *_: seen.append("saved"))
    composite.register_load_state_dict_post_hook(lambda *_: seen.append("loaded"))
    train(model, [composite], steps=1)
    composite.load_state_dict(composite.state_dict())
    assert seen == ["before", "sgd", "after", "saved", "loaded"]


def test_a_hook_may_change_what_a_step_is_given_and_one_of_all_optimizers_sees_the_children_too() -> None:
    composite = CompositeOptimizer(children(model_of()))
    seen: list[str] = []
    handles = [
        composite.register_step_pre_hook(lambda *_: ((composite, lambda: 3.0), {})),
        register_optimizer_step_pre_hook(lambda one, *_: seen.append(f"before {type(one).__name__}")),
        register_optimizer_step_post_hook(lambda one, *_: seen.append(f"after {type(one).__name__}")),
    ]
    try:
        assert composite.step() == 3.0
    finally:
        for handle in handles:
            handle.remove()
    assert (seen[0], seen[-1]) == ("before CompositeOptimizer", "after CompositeOptimizer")
    assert seen[1:-1] == [
        f"{when} {type(one).__name__}" for one in composite.optimizers.values() for when in ("before", "after")
    ]
    assert composite.step() is None


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad(to_none: bool) -> None:
    model = model_of()
    composite = CompositeOptimizer(children(model))
    train(model, [composite], steps=1)
    composite.zero_grad(set_to_none=to_none)
    assert all((p.grad is None) is to_none and (to_none or not p.grad.any()) for p in model.parameters())


def test_a_grad_scaler_unscales_clips_and_skips_an_overflow() -> None:
    model, plain = model_of(), model_of()
    composite = CompositeOptimizer(children(model, fused=True))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    [(x, y)] = batches(1)
    scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
    scaler.unscale_(composite)
    nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    scaler.step(composite)
    scaler.update()
    train(plain, [CompositeOptimizer(children(plain, fused=True))], steps=1)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    before = copy.deepcopy(model)
    scaler.scale(nn.functional.cross_entropy(model(x) * torch.inf, y)).backward()
    scaler.step(composite)
    assert same(model, before)


SCHEDULERS = {
    name: cls
    for name, cls in vars(torch.optim.lr_scheduler).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.lr_scheduler.LRScheduler) and not name.startswith("_")
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "LambdaLR": {"lr_lambda": lambda step: 0.5**step},
    "MultiplicativeLR": {"lr_lambda": lambda step: 0.5},
    "StepLR": {"step_size": 1},
    "MultiStepLR": {"milestones": [1, 2]},
    "ExponentialLR": {"gamma": 0.5},
    "CosineAnnealingLR": {"T_max": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 9, "cycle_momentum": False},
    "SequentialLR": {},
    "ChainedScheduler": {},
    "ReduceLROnPlateau": {},
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "LRScheduler"])
def test_every_scheduler_of_torch_moves_each_child_as_it_would_alone(name: str) -> None:
    def scheduler_of(optimizer: Optimizer) -> Any:
        constant = torch.optim.lr_scheduler.ConstantLR
        if name == "SequentialLR":
            return SCHEDULERS[name](optimizer, [constant(optimizer, 0.5), constant(optimizer, 0.1)], milestones=[2])
        if name == "ChainedScheduler":
            return SCHEDULERS[name]([constant(optimizer, 0.5), constant(optimizer, 0.1)], optimizer=optimizer)
        return SCHEDULERS[name](optimizer, **ARGUMENTS.get(name, {}))

    rates: list[list[list[float]]] = []
    for wrap in (True, False):
        model = model_of()
        parts = children(model)
        optimizers: list[Optimizer] = [CompositeOptimizer(parts)] if wrap else [*parts.values()]
        schedulers = [scheduler_of(optimizer) for optimizer in optimizers]
        found = []
        for step in range(4):
            train(model, optimizers, steps=1, start=step)
            for scheduler in schedulers:
                metrics = {"metrics": 1.0} if "metrics" in inspect.signature(scheduler.step).parameters else {}
                scheduler.step(**metrics)
            found.append([float(group["lr"]) for part in parts.values() for group in part.param_groups])
        rates.append(found)
    assert rates[0] == rates[1]


def test_averaging_of_weights() -> None:
    from torch.optim.swa_utils import SWALR, AveragedModel

    model = model_of()
    composite = CompositeOptimizer(children(model))
    averaged, scheduler = AveragedModel(model), SWALR(composite, swa_lr=0.05, anneal_epochs=1)
    train(model, [composite], steps=2)
    averaged.update_parameters(model)
    scheduler.step()
    assert [group["lr"] for group in composite.param_groups] == [0.05, 0.05]


@pytest.mark.filterwarnings("ignore:.*torch.distributed.*:UserWarning")
def test_torch_s_distributed_checkpoint_names_the_state_and_puts_it_back() -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model, other = model_of(), model_of()
    composite = CompositeOptimizer(children(model))
    train(model, [composite], steps=3)
    state = get_optimizer_state_dict(model, composite)
    assert state["state"].keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    other.load_state_dict(model.state_dict())
    again = CompositeOptimizer(children(other))
    set_optimizer_state_dict(other, again, copy.deepcopy(state))
    train(model, [composite], steps=2, start=3)
    train(other, [again], steps=2, start=3)
    assert same(model, other)


@pytest.mark.parametrize("name", ["StableSPAM", "Ranger21"])
def test_what_a_child_alone_keeps_is_saved_and_loaded(name: str) -> None:
    def made(model: nn.Sequential) -> CompositeOptimizer:
        more = {"num_iterations": 10} if name == "Ranger21" else {}
        child = getattr(pytorch_optimizer, name)(model[0].parameters(), **more)
        return CompositeOptimizer({"child": child, "sgd": SGD(model[2].parameters(), 0.1, momentum=0.9)})

    whole, half = model_of(), model_of()
    train(whole, [made(whole)], steps=6)
    first = made(half)
    train(half, [first], steps=3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert [*saved["optimizers"]] == ["child"]
    second = made(half)
    second.load_state_dict(saved)
    train(half, [second], steps=3, start=3)
    assert same(whole, half)
    assert "optimizers" not in CompositeOptimizer(children(model_of())).state_dict()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([1], "optimizers: optimizers by name are needed"),
        ({"a": SGD}, "optimizers.a: this is no optimizer"),
        ({"a": None}, "optimizers.a: this is no optimizer"),
    ],
)
def test_what_is_no_mapping_of_optimizers_is_refused(given: Any, told: str) -> None:
    with pytest.raises(lo.PlanError) as refused:
        lo.CompositeOptimizer(given)
    assert str(refused.value).splitlines()[0] == told
