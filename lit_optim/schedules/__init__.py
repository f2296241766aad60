r"""Learning-rate schedules, and schedules of any other hyperparameter: pure functions of the optimizer step.

A `Schedule` is what a config names (its lengths are durations such as ``"5%"``); bound to a group's own value and a
horizon it becomes a `Curve`, a function ``step -> value`` without state. The preview of the plan and the training loop
call the same function, and a resumed run needs nothing but its step.

Most schedules multiply the group's own value by a factor, so that the ratios between groups survive. Where a schedule
takes ``final_value`` (or ``values``) in place of ``final_factor`` (``factors``), the number is the value itself.

These schedules do nothing but arithmetic with the group's own value, so that an array in its place gives an array: the
values of many groups in one evaluation (see `lit_optim.moves`). A schedule of your own need not.

Notation: :math:`t` is the step, counted from 0 for the first optimizer step; :math:`T` the steps of the run; :math:`s`
the group's own value; :math:`w` the steps of the warm-up. A decay that lasts until the end reaches its final value at
:math:`t = T`, just after the last step, as in torch, transformers and optax. All lengths are counted from step 0, so a
decay with a ``duration`` of half of the run is over in the middle of the run, whatever its warm-up.
"""

from lit_optim.schedules.base import Curve, Schedule
from lit_optim.schedules.composition import Joined, Warmup
from lit_optim.schedules.cycles import CosineRestarts, OneCycle
from lit_optim.schedules.decays import (
    Constant,
    Cosine,
    Exponential,
    InverseSquareRoot,
    Linear,
    Polynomial,
    WarmupCosine,
    WarmupStableDecay,
)
from lit_optim.schedules.function import schedule
from lit_optim.schedules.plateau import Plateau
from lit_optim.schedules.points import Milestones, Piecewise

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Curve",
    "Exponential",
    "InverseSquareRoot",
    "Joined",
    "Linear",
    "Milestones",
    "OneCycle",
    "Piecewise",
    "Plateau",
    "Polynomial",
    "Schedule",
    "Warmup",
    "WarmupCosine",
    "WarmupStableDecay",
    "schedule",
]
