"""What the fields of a schedule may hold: each is read here, or refused under its own name."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

from lit_optim.durations import Duration, Horizon, steps_of
from lit_optim.errors import Mistake, PlanError, nearest
from lit_optim.hyperparameters import is_number

__all__ = ["chosen", "flag", "goal", "levels", "number", "thresholds", "until", "whole"]


def number(value: object, key: str, above: float = -math.inf) -> float:
    """``value`` as a finite float above a bound, or a refusal under ``key``."""
    if is_number(value) and math.isfinite(value) and value > above:
        return float(value)
    bound = "" if above == -math.inf else f" above {above:g}"
    raise PlanError(
        Mistake(key, f"a finite number{bound} is needed", given=repr(value), remedy=f"set {key} to such a number")
    )


def whole(value: object, key: str) -> int:
    """``value`` as a whole number of at least 1, or a refusal under ``key``."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    problem = "a whole number of at least 1 is needed"
    raise PlanError(Mistake(key, problem, given=repr(value), remedy=f"set {key} to such a number"))


def flag(value: object, key: str) -> bool:
    """``value`` if it is true or false, or a refusal under ``key``: Hydra hands on ``no`` and ``off`` as text."""
    if isinstance(value, bool):
        return value
    raise PlanError(
        Mistake(key, "true or false is needed", given=repr(value), remedy=f"write {key}: true, or {key}: false")
    )


def chosen(value: object, options: Collection[str], key: str) -> str:
    """``value`` if it is one of the options, or a refusal under ``key``."""
    if isinstance(value, str) and value in options:
        return value
    known = tuple(options)
    raise PlanError(
        Mistake(
            key,
            "there is no such choice",
            given=repr(value),
            allowed=known,
            nearest=nearest(str(value), known),
            remedy=f"set {key} to one of these",
        )
    )


def goal(schedule: object, where: str, start: float, factor: float) -> float:
    """A value on the way: ``<where>_value``, or ``<where>_factor`` of the group's own value.

    Args:
        schedule: Has both as fields, None where they are not given.
        where: ``"final"``, say.
        start: The group's own value.
        factor: What counts if neither is given.
    """
    by_factor, by_value = f"{where}_factor", f"{where}_value"
    given_factor, given_value = getattr(schedule, by_factor), getattr(schedule, by_value)
    if given_value is None:
        return start * (factor if given_factor is None else number(given_factor, by_factor))
    if given_factor is not None:
        verb = {"start": "starts", "peak": "turns", "final": "ends"}[where]
        raise PlanError(
            Mistake(
                by_value,
                f"{by_factor} and {by_value} both say where it {verb}",
                given=f"{by_factor}={given_factor}, {by_value}={given_value}",
                remedy=f"keep {by_factor} (of each group's own value) or {by_value} (the same for every group)",
            )
        )
    return number(given_value, by_value)


def until(duration: Duration, horizon: Horizon, warmup: int) -> int:
    """The step at which the field ``duration`` is over, which can't be before the warm-up is."""
    end = steps_of(duration, horizon, "duration")
    if end < warmup:
        raise PlanError(
            Mistake(
                "duration",
                f"it is over at step {end}, before the warm-up is (step {warmup}); both are counted from step 0",
                given=repr(duration),
                remedy="shorten the warm-up, or lengthen the duration",
            )
        )
    return end


def thresholds(at: object, horizon: Horizon) -> list[int]:
    """The steps that the field ``at`` lists, each later than the one before."""
    steps = [steps_of(duration, horizon, "at") for duration in _listed(at, "at")]
    if any(one >= two for one, two in pairwise(steps)):
        raise PlanError(
            Mistake("at", f"the thresholds are steps {steps}", given=repr(at), remedy="sort them, each once")
        )
    return steps


def levels(values: object, factors: object, at: object, start: float) -> list[float]:
    """A value for each threshold: one of ``values``, or one of ``factors`` of the group's own value."""
    given = {name: value for name, value in (("values", values), ("factors", factors)) if value is not None}
    if len(given) != 1:
        raise PlanError(
            Mistake(
                "values",
                "either `values` or `factors` is needed, not " + ("both" if given else "neither"),
                remedy="values: [0.01, 0.001] re-assigns, factors: [0.1, 0.01] keeps the ratios between groups",
            )
        )
    [(name, items)] = given.items()
    count = len(_listed(at, "at"))
    if len(_listed(items, name)) != count or not count:
        raise PlanError(
            Mistake(
                name,
                f"one for each of the {count} thresholds in `at` (at least one)",
                given=repr(list(_listed(items, name))),
                remedy="make the two lists equally long",
            )
        )
    scale = 1.0 if name == "values" else start
    return [scale * number(item, name) for item in _listed(items, name)]


def _listed(items: object, key: str) -> Sequence[Duration]:
    if isinstance(items, str) or not isinstance(items, Sequence):
        one = isinstance(items, (int, float, str))
        remedy = f"write {key}: [{items}]" if one else f"write {key}: [{'50%, 75%' if key == 'at' else '0.1, 0.01'}]"
        raise PlanError(Mistake(key, "this is a list", given=repr(items), remedy=remedy))
    return items
