"""Hold each schedule against what torch, transformers, timm and optax compute, at every step of a run of 1,000.

    python benchmarks/schedule_equality.py

Prints two tables: where both mean the same thing, with the largest difference found; and where a peer means something
else, with the reason. Needs the extra `peers`.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax
import torch
import transformers
from torch import nn
from torch.optim import lr_scheduler

from lit_optim.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSquareRoot,
    Joined,
    Linear,
    Milestones,
    OneCycle,
    Piecewise,
    Polynomial,
    Schedule,
    WarmupCosine,
    WarmupStableDecay,
)

jax.config.update("jax_enable_x64", True)
_TESTS = Path(__file__).parents[1] / "tests"
_DECLARED = runpy.run_path(str(_TESTS / "peers" / "conftest.py"))  # operators of torchvision, which timm imports
_REFERENCE = runpy.run_path(str(_TESTS / "reference" / "test_schedules_against_torch.py"))

LR, TOTAL, WARMUP = 0.3, 1000, 80
RUN = _REFERENCE["RUN"]
Values = Sequence[float]


@dataclass(frozen=True)
class Row:
    """A schedule, what a peer calls it, and the peer's values at steps 0 to ``len(values) - 1``."""

    ours: Schedule
    peer: str
    name: str
    values: Callable[[], Values]
    why: str = ""

    def difference(self) -> tuple[int, float]:
        """The number of steps compared, and the largest difference at any."""
        theirs = self.values()
        curve = self.ours.curve(LR, RUN)
        return len(theirs), max(abs(curve(step) - value) for step, value in enumerate(theirs))


def _stepped(make: Callable[[Any], Any], key: str = "lr", steps: int = TOTAL + 1) -> Callable[[], Values]:
    """The values that one of torch's schedulers leaves for each step."""

    def values() -> Iterator[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.95)
        scheduler = make(optimizer)
        for _ in range(steps):
            yield optimizer.param_groups[0][key]
            optimizer.step()
            scheduler.step()

    return lambda: list(values())


def _timm(make: Callable[[Any, Any], Any]) -> Callable[[], Values]:
    def values() -> Iterator[float]:
        import timm.scheduler

        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
        scheduler = make(timm.scheduler, optimizer)
        for step in range(TOTAL + 1):
            scheduler.step_update(step)
            yield optimizer.param_groups[0]["lr"]

    return lambda: list(values())


def _optax(schedule: Callable[[Any], Any]) -> Callable[[], Values]:
    return lambda: [float(value) for value in jax.vmap(schedule)(jax.numpy.arange(TOTAL + 1))]


_TIMM = {"t_in_epochs": False, "warmup_t": WARMUP, "warmup_prefix": True, "warmup_lr_init": 0.03}
_BEGUN = {"warmup": WARMUP, "start_factor": 0.1}

TORCH = [Row(ours, "torch", name, _stepped(make, key)) for ours, name, make, key in _REFERENCE["CASES"]]
TRANSFORMERS = [
    Row(
        Constant(warmup=WARMUP),
        "transformers",
        "get_constant_schedule_with_warmup",
        _stepped(lambda o: transformers.get_constant_schedule_with_warmup(o, WARMUP)),
    ),
    Row(
        Linear(warmup=WARMUP),
        "transformers",
        "get_linear_schedule_with_warmup",
        _stepped(lambda o: transformers.get_linear_schedule_with_warmup(o, WARMUP, TOTAL)),
    ),
    Row(
        WarmupCosine(warmup=WARMUP),
        "transformers",
        "get_cosine_schedule_with_warmup",
        _stepped(lambda o: transformers.get_cosine_schedule_with_warmup(o, WARMUP, TOTAL)),
    ),
    Row(
        CosineRestarts(cycles=4, warmup=WARMUP),
        "transformers",
        "get_cosine_with_hard_restarts_schedule_with_warmup",
        _stepped(lambda o: transformers.get_cosine_with_hard_restarts_schedule_with_warmup(o, WARMUP, TOTAL, 4)),
    ),
    Row(
        Polynomial(warmup=WARMUP, power=2.0, final_value=1e-3),
        "transformers",
        "get_polynomial_decay_schedule_with_warmup",
        _stepped(
            lambda o: transformers.get_polynomial_decay_schedule_with_warmup(o, WARMUP, TOTAL, lr_end=1e-3, power=2.0)
        ),
    ),
    Row(
        InverseSquareRoot(warmup=WARMUP),
        "transformers",
        "get_inverse_sqrt_schedule",
        _stepped(lambda o: transformers.get_inverse_sqrt_schedule(o, WARMUP)),
    ),
    Row(
        InverseSquareRoot(warmup=WARMUP, timescale=5000),
        "transformers",
        "get_inverse_sqrt_schedule(timescale)",
        _stepped(lambda o: transformers.get_inverse_sqrt_schedule(o, WARMUP, timescale=5000)),
    ),
    Row(
        Cosine(warmup=WARMUP, final_factor=0.1),
        "transformers",
        "get_cosine_with_min_lr_schedule_with_warmup",
        _stepped(lambda o: transformers.get_cosine_with_min_lr_schedule_with_warmup(o, WARMUP, TOTAL, min_lr_rate=0.1)),
    ),
    *(
        Row(
            WarmupStableDecay(warmup=WARMUP, start_factor=0.1, decay=200, shape=ours, final_factor=0.1),
            "transformers",
            f"get_wsd_schedule({theirs})",
            _stepped(
                lambda o, theirs=theirs: transformers.get_wsd_schedule(
                    o, WARMUP, 200, num_training_steps=TOTAL, decay_type=theirs, min_lr_ratio=0.1
                )
            ),
        )
        for ours, theirs in (("linear", "linear"), ("cosine", "cosine"), ("sqrt", "1-sqrt"))
    ),
]
TIMM = [
    Row(
        Cosine(final_value=0.01, **_BEGUN),
        "timm",
        "CosineLRScheduler",
        _timm(lambda t, o: t.CosineLRScheduler(o, t_initial=TOTAL - WARMUP, lr_min=0.01, **_TIMM)),
    ),
    Row(
        CosineRestarts(cycles=3, growth=2, peak_factor=0.5, final_value=0.01, duration=WARMUP + 700, **_BEGUN),
        "timm",
        "CosineLRScheduler(cycle_mul, cycle_decay)",
        _timm(
            lambda t, o: t.CosineLRScheduler(
                o, t_initial=100, cycle_mul=2, cycle_decay=0.5, cycle_limit=3, lr_min=0.01, **_TIMM
            )
        ),
    ),
    Row(
        Polynomial(power=0.5, final_value=0.01, **_BEGUN),
        "timm",
        "PolyLRScheduler",
        _timm(lambda t, o: t.PolyLRScheduler(o, t_initial=TOTAL - WARMUP, power=0.5, lr_min=0.01, **_TIMM)),
    ),
    Row(
        Exponential(rate=0.5, every=100, staircase=True, **_BEGUN),
        "timm",
        "StepLRScheduler",
        _timm(lambda t, o: t.StepLRScheduler(o, decay_t=100, decay_rate=0.5, **_TIMM)),
    ),
    Row(
        Milestones(at=[300, 800], factors=[0.1, 0.01], **_BEGUN),
        "timm",
        "MultiStepLRScheduler(decay_t=[301, 801])",
        _timm(
            lambda t, o: t.MultiStepLRScheduler(
                o, decay_t=[301, 801], decay_rate=0.1, **{**_TIMM, "warmup_prefix": False}
            )
        ),
    ),
    *(
        Row(
            WarmupStableDecay(decay=200, shape=ours, final_value=0.01, **_BEGUN),
            "timm",
            f"WSDLRScheduler({theirs})",
            _timm(
                lambda t, o, theirs=theirs: t.wsd_lr.WSDLRScheduler(
                    o,
                    t_initial=TOTAL - WARMUP,
                    decay_t=200,
                    lr_min=0.01,
                    decay_fn=theirs,
                    warmup_t=WARMUP,
                    warmup_lr_init=0.03,
                    t_in_epochs=False,
                )
            ),
        )
        for ours, theirs in (("linear", "linear"), ("cosine", "cosine"), ("sqrt", "1-sqrt"))
    ),
]
OPTAX = [
    Row(Constant(), "optax", "constant_schedule", _optax(lambda t: optax.constant_schedule(LR)(t) + 0.0 * t)),
    Row(Linear(final_value=0.01), "optax", "linear_schedule", _optax(optax.linear_schedule(LR, 0.01, TOTAL))),
    Row(
        Polynomial(power=2.0, final_value=0.01, duration=700),
        "optax",
        "polynomial_schedule",
        _optax(optax.polynomial_schedule(LR, 0.01, 2.0, 700)),
    ),
    Row(
        Cosine(final_factor=0.1, duration=700),
        "optax",
        "cosine_decay_schedule",
        _optax(optax.cosine_decay_schedule(LR, 700, alpha=0.1)),
    ),
    *(
        Row(
            Exponential(rate=0.5, every=100, staircase=stairs),
            "optax",
            f"exponential_decay(staircase={stairs})",
            _optax(optax.exponential_decay(LR, 100, 0.5, staircase=stairs)),
        )
        for stairs in (False, True)
    ),
    Row(
        Milestones(at=[300, 800], factors=[0.1, 0.05]),
        "optax",
        "piecewise_constant_schedule",
        _optax(optax.piecewise_constant_schedule(LR, {300: 0.1, 800: 0.5})),
    ),
    *(
        Row(
            Piecewise(at=[300, 800], factors=[2.0, 0.2], shape=shape),
            "optax",
            f"piecewise_interpolate_schedule({shape})",
            _optax(optax.piecewise_interpolate_schedule(shape, LR, {300: 2.0, 800: 0.1})),
        )
        for shape in ("linear", "cosine")
    ),
    Row(OneCycle(), "optax", "cosine_onecycle_schedule", _optax(optax.cosine_onecycle_schedule(TOTAL, LR))),
    Row(
        OneCycle(shape="linear", three_phase=True),
        "optax",
        "linear_onecycle_schedule(pct_final=0.6)",
        _optax(optax.linear_onecycle_schedule(TOTAL, LR, pct_final=0.6)),
    ),
    Row(
        WarmupCosine(warmup=WARMUP, start_factor=0.1, final_factor=0.1),
        "optax",
        "warmup_cosine_decay_schedule",
        _optax(optax.warmup_cosine_decay_schedule(0.1 * LR, LR, WARMUP, TOTAL, 0.1 * LR)),
    ),
    Row(
        Constant(warmup=WARMUP),
        "optax",
        "warmup_constant_schedule",
        _optax(optax.warmup_constant_schedule(0.0, LR, WARMUP)),
    ),
    Row(
        Exponential(rate=0.5, every=100, warmup=WARMUP),
        "optax",
        "warmup_exponential_decay_schedule",
        _optax(optax.warmup_exponential_decay_schedule(0.0, LR, WARMUP, 100, 0.5)),
    ),
    Row(
        Joined(
            [WarmupCosine(warmup=20, final_factor=0.1), WarmupCosine(warmup=40, start_factor=0.1)],
            at=[400],
        ),
        "optax",
        "sgdr_schedule",
        _optax(
            optax.sgdr_schedule(
                [
                    {
                        "init_value": 0.0,
                        "peak_value": LR,
                        "warmup_steps": 20,
                        "decay_steps": 400,
                        "end_value": 0.1 * LR,
                    },
                    {"init_value": 0.1 * LR, "peak_value": LR, "warmup_steps": 40, "decay_steps": 600},
                ]
            )
        ),
    ),
    Row(
        Joined([Constant(), Linear(final_factor=0.5)], at=[600]),
        "optax",
        "join_schedules",
        _optax(optax.join_schedules([optax.constant_schedule(LR), optax.linear_schedule(LR, 0.5 * LR, 400)], [600])),
    ),
]
EQUAL = [*TORCH, *TRANSFORMERS, *TIMM, *OPTAX]

DIFFERENT = [
    Row(
        OneCycle(),
        "torch",
        "OneCycleLR(total_steps=T)",
        _stepped(lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=TOTAL), steps=TOTAL),
        "it peaks at step 0.3 T - 1 and ends at T - 1; we end at T, as its own cosine does",
    ),
    Row(
        Cosine(duration="50%"),
        "torch",
        "CosineAnnealingLR(T_max=T / 2)",
        _stepped(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=TOTAL // 2)),
        "it rises again after T_max; we hold the final value",
    ),
    Row(
        Cosine(**_BEGUN),
        "timm",
        "CosineLRScheduler(warmup_prefix=False)",
        _timm(lambda t, o: t.CosineLRScheduler(o, t_initial=TOTAL, **{**_TIMM, "warmup_prefix": False})),
        "its cosine starts at step 0 and is cut in when the warm-up ends, so the value jumps down there",
    ),
    Row(
        Milestones(at=[300, 800], factors=[0.1, 0.01]),
        "timm",
        "MultiStepLRScheduler(decay_t=[300, 800])",
        _timm(lambda t, o: t.MultiStepLRScheduler(o, decay_t=[300, 800], decay_rate=0.1, t_in_epochs=False)),
        "it looks one step ahead: step 299 uses the new value; we follow torch's MultiStepLR",
    ),
    Row(
        Polynomial(power=0.5, warmup=WARMUP),
        "transformers",
        "get_polynomial_decay_schedule_with_warmup",
        _stepped(lambda o: transformers.get_polynomial_decay_schedule_with_warmup(o, WARMUP, TOTAL, power=0.5)),
        "its lr_end is 1e-7 unless given; ours is 0",
    ),
]


def _tables() -> Iterator[str]:
    yield "| schedule | peer | steps | largest difference |"
    yield "|---|---|---|---|"
    for row in EQUAL:
        steps, difference = row.difference()
        yield f"| `{row.ours}` | {row.peer} `{row.name}` | {steps:,} | {difference:.1e} |"
    yield ""
    yield "| schedule | peer | largest difference | why |"
    yield "|---|---|---|---|"
    for row in DIFFERENT:
        yield f"| `{row.ours}` | {row.peer} `{row.name}` | {row.difference()[1]:.1e} | {row.why} |"


if __name__ == "__main__":
    print("\n".join(_tables()))
